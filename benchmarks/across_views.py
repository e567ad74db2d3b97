"""Makes a data set that trains on one view position and tests on the other, from NIH's list files.

    python benchmarks/across_views.py DATA OUT --train PA --test AP

``OUT`` holds links to the images and list files of its own: the images of ``train_val_list.txt``
with one view position, and those of ``test_list.txt``, other patients, with the other.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pandas as pd

TABLE = "Data_Entry_2017.csv"
LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}


def write_views(data: Path, out: Path, positions: dict[str, str]) -> None:
    """Write the data set; ``positions`` gives the view position of ``train`` and of ``test``."""
    table = pd.read_csv(data / TABLE)
    (out / "images").mkdir(parents=True, exist_ok=True)
    kept = []
    for part, name in LISTS.items():
        listed = set((data / name).read_text().split())
        rows = table["Image Index"].isin(listed) & (table["View Position"] == positions[part])
        files = table.loc[rows, "Image Index"]
        (out / name).write_text("".join(f"{file}\n" for file in files))
        kept.append(table[rows])
        for file in files:
            (out / "images" / file).symlink_to((data / "images" / file).absolute())
    pd.concat(kept).to_csv(out / TABLE, index=False)
    for boxes in data.glob("BBox*.csv"):
        shutil.copy(boxes, out)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", default="PA", choices=["PA", "AP"])
    parser.add_argument("--test", default="AP", choices=["PA", "AP"])
    asked = parser.parse_args()
    write_views(asked.data, asked.out, {"train": asked.train, "test": asked.test})


if __name__ == "__main__":
    main()
