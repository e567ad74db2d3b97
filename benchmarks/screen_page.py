"""Writes the page of the screen from its committed files.

    python -m benchmarks.screen_page docs/results/screen-96px PAGE.md

Every folder below holds the arms that one kind of machine did. The text of the page lies beside
this file.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.answer import ARMS, JUDGED, SCORED
from medsgssl.utils.io import write_text

TEXT = Path(__file__).with_name("screen_page.md")
_NAMES = {"finetune": "fine-tuned", "linear": "linear", "knn": "k-NN"}
Judgment = tuple[float, str]


@dataclass
class Screened:
    """The judgements of one arm."""

    machine: str
    aucs: dict[Judgment, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The mean that the screen ranks by."""
        return statistics.mean(self.aucs[judgment] for judgment in SCORED)


def read_screen(folder: Path) -> dict[str, Screened]:
    """Return the arms that are complete."""
    found: dict[str, Screened] = {}
    for path in sorted(folder.glob("*/*.json")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            arm = found.setdefault(row["arm"], Screened(path.parent.name))
            arm.aucs[row["labels"], row["mode"]] = row["auc"]
    return found


def page(folder: Path) -> str:
    """Return the page as Markdown."""
    found = read_screen(folder)
    heads = [f"{_NAMES[mode]}, {labels:.0%}" for labels, mode in JUDGED]
    lines = [
        "| arm | machine | " + " | ".join(heads) + " | score | control | gain |",
        "| --- | --- | " + "--: | " * len(heads) + "--: | --- | --: |",
    ]
    for name, arm in sorted(found.items(), key=lambda item: -item[1].score):
        control = ARMS[name][2]
        gain = f"{arm.score - found[control].score:+.3f}" if control in found else ""
        cells = [f"{arm.aucs[judgment]:.3f}" for judgment in JUDGED]
        lines.append(
            f"| {name} | {arm.machine} | " + " | ".join(cells) + f" | {arm.score:.3f} "
            f"| {control} | {gain} |"
        )
    missing = [name for name in ARMS if name not in found]
    text = TEXT.read_text()
    if missing:
        text += f"\nNot screened: {'; '.join(missing)}.\n"
    return text + "\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("page", type=Path)
    asked = parser.parse_args()
    write_text(asked.page, page(asked.folder))


if __name__ == "__main__":
    main()
