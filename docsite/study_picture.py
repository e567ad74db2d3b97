"""Runs a small study on phantoms and takes a picture of its page with Chromium.

``python -m docsite.study_picture docs/images/study.png [FOLDER]``: data and study are kept where a
folder is named, so that an interrupted call continues.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import medsgssl
from medsgssl.data.synthetic.dataset import generate_phantoms

WIDTH, HEIGHT = 1240, 960
SETTINGS = (
    "data.img_size=32", "data.batch_size=32", "data.num_workers=0", "encoder.pretrained=false",
    "encoder.name=test_efficientnet", "pretrain.epochs=4", "finetune.epochs=6", "finetune.lr=0.001",
    "views.pretrain.brightness=0.05", "views.pretrain.contrast=0.1", "views.pretrain.gamma=0.1",
)  # fmt: skip


def write_study(folder: Path) -> Path:
    """Run three seeds of guided-crop, its control with shuffled masks and simclr; return the page.

    Args:
        folder: Of data, cache and study.
    """
    data = generate_phantoms(folder / "data", 500, size=64)
    medsgssl.run_study(
        data,
        folder / "study",
        ["direct", "simclr", "guided-crop"],
        seeds=3,
        controls=["shuffled"],
        settings=[*SETTINGS, f"data.cache_dir={folder / 'cache'}"],
        quiet=True,
    )
    return medsgssl.report_study(folder / "study")


def photograph(page: Path, target: Path) -> None:
    """Take a picture of the first screen of a page.

    Args:
        page: An HTML file.
        target: The PNG file.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is needed to take the picture")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={target.absolute()}", page.absolute().as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 2:
        photograph(write_study(Path(sys.argv[2])), Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            photograph(write_study(Path(name)), Path(sys.argv[1]))
