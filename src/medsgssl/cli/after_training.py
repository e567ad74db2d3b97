"""`predict`, `embed` and `export`: use a trained model on other images and in other programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsgssl.cli.options import Quiet

if TYPE_CHECKING:
    from medsgssl.inference.predictor import Predictor, ScoredImage

Model = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run folder, a folder from `export --to hf`, or a classifier.safetensors.",
    ),
]


def predict(
    model: Model,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="FILES_OR_FOLDERS", help="Images, or folders of them."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The CSV file to write.")],
    overlays: Annotated[
        Path | None,
        typer.Option("--overlays", help="Folder for pictures: lung outline and class heat map."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Score images with a trained classifier; one row per file. Research use only."""
    from medsgssl.inference.predictor import RESEARCH_ONLY, Predictor
    from medsgssl.utils.io import atomic_path, csv_text

    predictor = Predictor.load(model)
    files = _files(inputs)
    rows, failed = [], []
    for number, scored in enumerate(_shown(predictor.score(files), len(files))):
        rows.append(predictor.row(scored))
        if scored.status != "ok":
            failed.append(scored)
        elif overlays is not None:
            _overlay(predictor, scored, overlays / f"{number:05d}_{scored.path.stem}.png")
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        temporary.write_text(csv_text(predictor.table(rows)))
    typer.echo(f"{len(rows) - len(failed)} of {len(rows)} files scored: {out} ({RESEARCH_ONLY})")
    _report_failures(failed)


def embed(
    model: Model,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="DATA", help="Images, or folders of them.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write.")],
    quiet: Quiet = False,
) -> None:
    """Write the pooled features of images, one row per file, ready for scikit-learn."""
    import numpy as np
    import pandas as pd

    from medsgssl.inference.predictor import Predictor
    from medsgssl.utils.io import atomic_path

    predictor = Predictor.load(model)
    files = _files(inputs)
    names, rows, failed = [], [], []
    for scored in _shown(predictor.score(files), len(files)):
        if scored.status == "ok":
            names.append(str(scored.path))
            rows.append(np.concatenate([scored.features, scored.region_features]))
        else:
            failed.append(scored)
    columns = predictor.feature_names()
    values = np.stack(rows) if rows else np.empty((0, len(columns)), np.float32)
    frame = pd.DataFrame(values, columns=columns)
    frame.insert(0, "file", names)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary:
        frame.to_parquet(temporary, index=False)
    typer.echo(f"{len(names)} x {len(columns)} features: {out}")
    _report_failures(failed)


def export(
    model: Model,
    to: Annotated[str, typer.Option("--to", help="timm | torchscript | onnx | hf")],
    out: Annotated[Path, typer.Option("--out", help="File or folder to write.")],
    drop_extras: Annotated[
        bool,
        typer.Option(
            "--drop-extras", help="Leave out parameters that plain timm has no place for."
        ),
    ] = False,
    push: Annotated[
        str | None, typer.Option("--push", help="With --to hf: hub repository to upload to.")
    ] = None,
) -> None:
    """Write a trained model for other programs, checked against the original on images."""
    from medsgssl.errors import ConfigError
    from medsgssl.inference import export as exporting
    from medsgssl.inference.bundle import read_bundle
    from medsgssl.inference.predictor import check_views

    if to not in exporting.TARGETS:
        near = get_close_matches(to, exporting.TARGETS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"there is no export target {to!r}{hint}",
            f"use one of {', '.join(exporting.TARGETS)}",
        )
    if push is not None and to != "hf":
        raise ConfigError("--push uploads a hub folder", "give --to hf with it")
    bundle = read_bundle(model)
    views, masks, origin = check_views(bundle)
    target = next(name for name in exporting.TARGETS if name == to)
    done = exporting.export_model(bundle, target, out, views, masks, drop_extras)
    if done.dropped:
        typer.echo(f"Left out: {', '.join(done.dropped)}")
    typer.echo(f"Largest difference on {done.images} {origin}: {done.difference:.2g}")
    typer.echo(f"Wrote {done.path}. Use it with:\n\n{done.usage}")
    if push is not None:
        typer.echo(f"Uploaded to {exporting.push_to_hub(out, push)}")


def _files(inputs: list[Path]) -> list[Path]:
    """Return the files named, and the images below the folders named, as a data set is scanned.

    What in a folder is no image by its content and its suffix is passed over and counted.
    """
    from medsgssl.data.readers.scan import scan_folder
    from medsgssl.errors import DataError

    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            scan = scan_folder(path)
            files += [path / image.path for image in scan.images]
            others = [f"{count} {suffix}" for suffix, count in sorted(scan.others.items())]
            skipped = [f"{len(names)} ({why})" for why, names in scan.skipped.items()]
            if others or skipped:
                typer.echo(f"not read below {path}: {', '.join([*others, *skipped])}", err=True)
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path} does not exist", "name image files or folders of images")
    if not files:
        raise DataError(f"{inputs[0]} holds no images", "name image files or folders of images")
    return files


def _shown(scored: Iterable[ScoredImage], total: int) -> Iterator[ScoredImage]:
    """Yield results as they come, with a bar that counts them."""
    from medsgssl.utils.progress import counting, new_console

    with counting("scoring images", new_console(stderr=True)) as progress:
        for number, one in enumerate(scored, start=1):
            yield one
            progress(number, total)


def _report_failures(failed: list[ScoredImage], most: int = 10) -> None:
    if not failed:
        return
    for scored in failed[:most]:
        typer.echo(f"not read: {scored.problem}", err=True)
    if len(failed) > most:
        typer.echo(f"... and {len(failed) - most} more files were not read", err=True)
    raise typer.Exit(1)


def _overlay(predictor: Predictor, scored: ScoredImage, path: Path) -> None:
    import cv2
    import numpy as np

    from medsgssl.inference.predictor import draw_prediction

    path.parent.mkdir(parents=True, exist_ok=True)
    picture = draw_prediction(predictor, scored)
    written = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1]
    path.write_bytes(written.tobytes())
