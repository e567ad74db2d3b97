"""The study behind docs/results: packs its images to travel, and screens the options.

    python benchmarks/answer.py pack DATA FILE.zip --size 112     every image, lossless
    python benchmarks/answer.py unpack FILE.zip DATA
    python benchmarks/answer.py screen DATA WEIGHTS OUT --jobs 8  see docs/results/plan.md

The decision itself is one `medsgssl study run`; docs/results/plan.md has its command.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medsgssl.config.loading import parse_overrides
from medsgssl.evaluation.few_patients import count_patients
from medsgssl.evaluation.metrics import auc_per_class
from medsgssl.evaluation.predictions import Predictions
from medsgssl.methods.registry import configure
from medsgssl.pipeline.runner import run_method

#: What every run of the screen and of the decision shares; docs/results/plan.md gives the reasons.
SHARED = (
    "data.img_size=112",
    "data.num_workers=1",
    "encoder.name=tf_efficientnet_lite0",
    "pretrain.probe_every=0",
    "finetune.epochs=8",
    "finetune.lr=5e-4",
    "finetune.warmup_epochs=1",
    "pretrain.epochs=10",
    "pretrain.warmup_epochs=1",
    "evaluate.bootstrap=0",
)
_VIT = (
    "encoder.name=vit_tiny_patch16_224",
    "encoder.patch_size=8",
    "encoder.pretrained=false",
)
_MAP = ("encoder.output_stride=16",)
_BOX = ("views.frame=lung-box",)
# Three views of an image in 10 epochs are as many as two in 15.
_THREE_VIEWS = ("pretrain.epochs=15",)
#: Arms of the screen: the method, and its settings beyond ``SHARED``.
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "anatomy-contrast": ("anatomy-contrast", ()),
    "anatomy-contrast, stride 16": ("anatomy-contrast", _MAP),
    "guided-crop": ("guided-crop", ()),
    "simclr, lung box": ("simclr", (*_BOX, *_THREE_VIEWS)),
    "simclr, lung box, stride 16": ("simclr", (*_BOX, *_MAP, *_THREE_VIEWS)),
    "direct, lung box": ("direct", _BOX),
    "direct": ("direct", ()),
    "simclr": ("simclr", ()),
    "masked-contrastive": ("masked-contrastive", ()),
    "adaptive-pathology": ("adaptive-pathology", ()),
    "mask-channel": ("mask-channel", ()),
    "simclr, stride 16": ("simclr", _MAP),
    "multi-region": ("multi-region", _MAP),
    "attention-prior": ("attention-prior", _MAP),
    "direct, as many epochs as both stages": ("direct", ("finetune.epochs=18",)),
    "anatomy-masked-attention": ("anatomy-masked-attention", _VIT),
    "simclr, ViT": ("simclr", _VIT),
}
#: How the encoder of an arm is judged: label fraction and ``finetune.mode``.
JUDGED = (
    (1.0, "finetune"),
    (0.1, "finetune"),
    (1.0, "linear"),
    (0.1, "linear"),
    (1.0, "knn"),
    (0.1, "knn"),
)
#: A disease counts in the screen where so many patients of the selection group have it.
MIN_POSITIVE_PATIENTS = 10
_TABLES = ("*.csv", "*.txt")


def pack(data: Path, archive: Path, size: int) -> None:
    """Write every image at ``size`` pixels as lossless WebP, with the tables of the data set."""
    files = sorted((data / "images").glob("*.png"))
    with ProcessPoolExecutor() as pool, zipfile.ZipFile(archive, "w") as target:
        for table in sorted(path for kind in _TABLES for path in data.glob(kind)):
            target.write(table, table.name, compress_type=zipfile.ZIP_DEFLATED)
        jobs = ((file, size) for file in files)
        for file, content in zip(files, pool.map(_encode, jobs, chunksize=64), strict=True):
            target.writestr(f"images/{file.stem}.webp", content)


def _encode(job: tuple[Path, int]) -> bytes:
    file, size = job
    image = _read(file.read_bytes())
    # As the package's cache does it, so that training sees the pixels it would have seen.
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()


def _read(content: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SystemExit("an image cannot be decoded")
    return np.asarray(image, np.uint8)


def unpack(archive: Path, data: Path) -> None:
    """Write a packed data set as PNG files and tables."""
    (data / "images").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as source, ThreadPoolExecutor() as pool:
        for name in source.namelist():
            if not name.startswith("images/"):
                (data / name).write_bytes(source.read(name))
        images = [name for name in source.namelist() if name.startswith("images/")]
        contents = ((data / name, source.read(name)) for name in images)
        for _ in pool.map(_decode, contents):
            pass


def _decode(job: tuple[Path, bytes]) -> None:
    path, content = job
    cv2.imwrite(str(path.with_suffix(".png")), _read(content))


def screen(data: Path, weights: Path, out: Path, jobs: int, seeds: int, extra: list[str]) -> None:
    """Run every arm that has no result yet, ``jobs`` at a time; one JSON line per judgement."""
    waiting = [(name, seed) for seed in range(seeds) for name in ARMS]
    waiting = [job for job in waiting if not _result(out, *job).is_file()]

    def one(job: tuple[str, int]) -> None:
        name, seed = job
        log = out / "logs" / f"{_slug(name)}-s{seed}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "arm", str(data), str(weights), str(out), name]
        command += [str(seed), *(f"--set={item}" for item in extra)]
        with log.open("w") as target:
            status = subprocess.run(command, stdout=target, stderr=target, check=False).returncode
        print(f"{time.strftime('%H:%M:%S')} {name}, seed {seed}: exit {status}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, waiting))


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-").lower()


def _result(out: Path, name: str, seed: int) -> Path:
    return out / "results" / f"{_slug(name)}-s{seed}.json"


def run_arm(data: Path, weights: Path, out: Path, name: str, seed: int, extra: list[str]) -> None:
    """Pretrain one arm once, and judge its encoder in every way."""
    rows = list(_judgements(data, weights, out, name, seed, extra))
    path = _result(out, name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _judgements(
    data: Path, weights: Path, out: Path, name: str, seed: int, extra: list[str]
) -> Iterator[dict[str, Any]]:
    method, own = ARMS[name]
    first: Path | None = None
    for fraction, mode in JUDGED:
        started = time.perf_counter()
        items = [*SHARED, *own, *extra, f"finetune.mode={mode}"]
        if "encoder.pretrained=false" not in items:
            items.append(f"encoder.weights={weights}")
        items += [f"data.root={data}", f"data.label_fraction={fraction}", f"seed={seed}"]
        items += ["data.folds=5", "data.fold=selection"]
        config = configure(method, parse_overrides(items))
        folder = out / "runs" / f"{_slug(name)}-s{seed}-{mode}-{fraction:g}"
        run = run_method(config, folder, pretrained=None if config.no_pretrain else first)
        if first is None:
            first = run.pretrained
        yield {
            "arm": name,
            "method": method,
            "settings": own,
            "seed": seed,
            "labels": fraction,
            "mode": mode,
            "auc": _selection_auc(run.predictions),
            "seconds": round(time.perf_counter() - started, 1),
        }


def _selection_auc(predictions: Path) -> float:
    """Mean AUC over the diseases that enough patients of the selection group have."""
    test = Predictions.read(predictions).split("test")
    positive, _ = count_patients(test.labels, test.patients, int(test.patients.max()) + 1)
    enough = positive >= MIN_POSITIVE_PATIENTS
    return float(np.mean(auc_per_class(test.labels[:, enough], test.scores[:, enough])))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("pack")
    one.add_argument("data", type=Path)
    one.add_argument("archive", type=Path)
    one.add_argument("--size", type=int, default=112)
    one = commands.add_parser("unpack")
    one.add_argument("archive", type=Path)
    one.add_argument("data", type=Path)
    for name in ("screen", "arm"):
        one = commands.add_parser(name)
        one.add_argument("data", type=Path)
        one.add_argument("weights", type=Path)
        one.add_argument("out", type=Path)
        if name == "arm":
            one.add_argument("name", choices=ARMS)
            one.add_argument("seed", type=int)
        else:
            one.add_argument("--jobs", type=int, default=1)
            one.add_argument("--seeds", type=int, default=1)
        one.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    if asked.command == "pack":
        pack(asked.data, asked.archive, asked.size)
    elif asked.command == "unpack":
        unpack(asked.archive, asked.data)
    elif asked.command == "screen":
        screen(asked.data, asked.weights, asked.out, asked.jobs, asked.seeds, asked.set)
    else:
        run_arm(asked.data, asked.weights, asked.out, asked.name, asked.seed, asked.set)


if __name__ == "__main__":
    main()
