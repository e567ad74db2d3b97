"""Takes a picture of a study's verdicts and differences, as its page shows them, with Chromium.

``python -m docsite.study_picture docs/results/STUDY docs/images/study.png``
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import medsgssl

WIDTH, HEIGHT = 1240, 1600
# Warnings and what follows the differences: a picture has no room to scroll.
HIDDEN = "<style>section.warnings, #difference ~ section { display: none }</style>"


def photograph(page: Path, target: Path) -> None:
    """Take a picture of the first two panels of a page, and cut off what is empty below them.

    Args:
        page: The page of a study.
        target: The PNG file.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is needed to take the picture")
    with tempfile.TemporaryDirectory() as name:
        short, screen = Path(name) / "page.html", Path(name) / "screen.png"
        text = page.read_text(encoding="utf-8")
        short.write_text(text.replace("</head>", f"{HIDDEN}</head>"), encoding="utf-8")
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={name}/profile", f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={screen}", short.as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        picture = Image.open(screen).convert("RGB")
    rows = np.ptp(np.asarray(picture), axis=1).any(axis=1)
    end = int(rows.nonzero()[0][-1]) + 20
    few = picture.crop((0, 0, WIDTH, end)).quantize(256, Image.Quantize.MAXCOVERAGE)
    few.save(target, optimize=True)


def main(study: Path, target: Path) -> None:
    """Write the page of a study into a temporary folder and take its picture.

    Args:
        study: A study, packed or not.
        target: The PNG file.
    """
    with tempfile.TemporaryDirectory() as folder:
        photograph(medsgssl.report_study(study, out=Path(folder) / "report"), target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
