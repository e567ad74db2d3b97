"""What users see on several processes and on clusters: slow tests record it, a page shows it.

With `MEDSGSSL_SCENES=FOLDER` each test that has passed writes what it ran as a file there;
`python -m tests.scenes FOLDER PAGE` makes docs/results/cluster.md of them (`make cluster`).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

#: The scenes in the order of the page.
ORDER = (
    "torchrun", "same-test_efficientnet", "same-test_vit", "two-machines", "contradiction",
    "no-srun", "killed-rank-0", "killed-rank-1", "ctrl-c", "other-data", "slurm-time",
    "slurm-preempted", "shards", "same-folder",
)  # fmt: skip
# Lines that say nothing of the matter: rates, and warnings of so small a run.
_DULL = re.compile(
    r"^(Warning: |W\d{4} |\*{20}|checking |decoding |drawing |scoring |finetune\.keep|figure can)"
)

# Settings that a command is about.
_TELLING = ("pretrain.devices", "finetune.devices", "slurm.", "data.batch_size=16")


class Shown(TypedDict):
    """A command, or what someone does; its exit status, or None; and what it prints."""

    typed: str
    status: int | None
    output: str


class Scene(TypedDict):
    """One heading of the page."""

    title: str
    text: str
    shown: list[Shown]
    figures: dict[str, str]


def shown(typed: Sequence[str] | str, status: int | None = None, output: str = "") -> Shown:
    """Return a command as it is shown: without the settings that keep its run small."""
    return Shown(typed=typed if isinstance(typed, str) else _typed(typed), status=status,
                 output=_tidy(output))  # fmt: skip


def record(
    name: str, title: str, text: str, *steps: Shown, figures: dict[str, str] | None = None
) -> None:
    """Write a scene where scenes are asked for.

    Args:
        name: One of `ORDER`.
        title: Its heading.
        text: What is done here, in a sentence or two.
        *steps: What was typed and seen.
        figures: What was measured, by name.
    """
    assert name in ORDER
    if folder := os.environ.get("MEDSGSSL_SCENES"):
        scene = Scene(title=title, text=text, shown=list(steps), figures=figures or {})
        Path(folder).mkdir(parents=True, exist_ok=True)
        text = json.dumps(scene, indent=1, ensure_ascii=False)
        (Path(folder) / f"{name}.json").write_text(text + "\n")


def _typed(words: Sequence[str]) -> str:
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, "") if word == "--set" else ""
        if word != "--set":
            kept.append(word)
        elif value.startswith(_TELLING):
            kept += [word, value]
    line = shlex.join(kept)
    line = line.replace(f"{sys.executable} -m torch.distributed.run", "torchrun")
    return _tidy(line.replace(f"{sys.executable} -m medsgssl", "medsgssl"))


def _tidy(text: str) -> str:
    # Temporary folders are machine places.
    text = re.sub(r"/tmp/[^\s:,'\"]*/", "", text).replace(str(Path.cwd()) + "/", "")
    text = text.replace(sys.prefix + "/", "")
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line and not _DULL.match(line))


def _shorten(output: str) -> str:
    """Leave out the middle of a traceback, and epochs between the first two and the last."""
    output = re.sub(
        r"^(Traceback .*)\n(?:\s.*\n)+",
        r"\1\n  [torchrun's own calls]\n",
        output,
        flags=re.MULTILINE,
    )
    lines = output.splitlines()
    epochs = [
        n for n, line in enumerate(lines) if re.match(r"(pre|fine)?t(rain|une) \d+/\d+ ", line)
    ]
    hidden = set(epochs[2:-2])
    kept = ["..." if n in hidden else line for n, line in enumerate(lines)]
    return "\n".join(line for n, line in enumerate(kept) if line != "..." or kept[n - 1] != "...")


def page(folder: Path) -> str:
    """Return the page of the scenes and figures in a folder."""
    made = time.strftime("%Y-%m-%d", time.gmtime())
    parts = [
        "# Several processes, and a cluster: what is typed and what is seen",
        f"Written by `make cluster` on {made}, on two cores without a GPU that other work shared. "
        "The slow tests run every command and check what it prints; the runs are tiny (60 "
        "synthetic images of 64 pixels), and the settings that keep them so (`data.img_size=32`, "
        "one or a few epochs, ...) are left out of the commands. Slurm is the distribution's own "
        "(22.05) with two nodes on this machine.",
    ]
    for name in ORDER:
        path = folder / f"{name}.json"
        if path.is_file():
            scene: Scene = json.loads(path.read_text())
            parts += [f"## {scene['title']}", scene["text"], *map(_block, scene["shown"])]
            if scene["figures"]:
                rows = [f"| {key} | {value} |" for key, value in scene["figures"].items()]
                parts.append("\n".join(["| figure | |", "|---|---|", *rows]))
    return "\n\n".join([*parts, *_catalogs(folder / "catalog.jsonl")]) + "\n"


def _block(step: Shown) -> str:
    lines = [f"$ {step['typed']}"] if step["typed"] else []
    lines += [_shorten(step["output"])] if step["output"] else []
    if step["status"] is not None:
        lines.append(f"[exit {step['status']}]")
    return "\n".join(["```console", *lines, "```"])


def _catalogs(path: Path) -> list[str]:
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [
        "| images | first call: CPU, elapsed, memory | second call: CPU, elapsed, memory | file |",
        "|---|---|---|---|",
    ]
    for row in rows:
        calls = [
            f"{cost['cpu_s']} s, {cost['wall_s']} s, {cost['peak_mib']} MiB"
            for cost in (row["first"], row["again"])
        ]
        lines.append(f"| {row['images']:,} | {' | '.join(calls)} | {row['catalog_mib']} MiB |")
    text = (
        "`medsgssl catalog` on links to a hundred 64-pixel images, contents hashed "
        "(`benchmarks/catalog_size.py`). The second call finds that nothing has changed."
    )
    return ["## Catalogs up to a million images", text, "\n".join(lines)]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(Path(sys.argv[1])))
