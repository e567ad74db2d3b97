"""What a run checks before anything is computed: data, labels, and weights made elsewhere."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medsgssl.config.schema import Config
from medsgssl.data.catalog import Catalog
from medsgssl.data.overlap import held_out_rows
from medsgssl.data.prepare import PreparedData, check_data
from medsgssl.errors import CheckpointError, DataError, LeakError
from medsgssl.methods.registry import method_of
from medsgssl.models.weights import read_header, weights_identity
from medsgssl.runs.folder import RunFolder
from medsgssl.utils.formatting import plural


def check_before_work(config: Config, pretrained: Path | None, *, fine_tunes: bool) -> list[str]:
    """Check all that a run needs before anything is computed, and before a file is written.

    Args:
        config: What will be run.
        pretrained: Weights of another run to start from.
        fine_tunes: Whether the run goes on to fine-tuning, and so needs labels.

    Returns:
        What the user should be warned of.

    Raises:
        CheckpointError: The weights are of another method, network or image size.
        DataError: The data set cannot be used, or has no labels.
    """
    method = method_of(config)
    catalog = check_data(config, needs_masks=method.sees_masks)
    if fine_tunes:
        _require_labels(catalog)
    if pretrained is None:
        return method.check()
    header = read_header(pretrained)
    for name, wanted in weights_identity(config).items():
        if header.get(name) != wanted:
            raise CheckpointError(
                f"{pretrained} was pretrained with {name}={header.get(name)!r}, this run has "
                f"{wanted!r}",
                f"give the weights of a run with the same {name}",
            )
    return []


def folder_of_weights(pretrained: Path) -> RunFolder:
    """Return the folder that other weights lie in, most often that of the run that made them."""
    return RunFolder(pretrained.absolute().parent)


def check_apart(data: PreparedData, pretrained: Path) -> list[str]:
    """Check that other weights saw no validation or test image of this data set.

    Returns:
        A warning where that cannot be known.

    Raises:
        LeakError: They saw some.
    """
    path = folder_of_weights(pretrained).pretrained_on
    if not path.is_file():
        return [
            f"{pretrained} lies beside no {path.name}: if it was pretrained on images of the "
            "validation or test split, the figures here are too good"
        ]
    seen = pd.read_parquet(path)
    leaks = sorted(seen["name"][held_out_rows(data.catalog, seen)].unique())
    if leaks:
        listed = ", ".join(leaks[:10]) + (" ..." if len(leaks) > 10 else "")
        raise LeakError(
            f"{pretrained} was pretrained on {len(leaks)} {plural(len(leaks), 'image')} of "
            f"patients in the validation and test splits of {data.catalog.root}: {listed}",
            "pretrain on the training split alone, with the same data.split",
        )
    return []


def blank_warnings(data: PreparedData) -> list[str]:
    """Warn of validation and test images of one gray level."""
    rows = data.source.blank_rows("val", "test")
    if not len(rows):
        return []
    names = data.catalog.table["image_id"].iloc[rows[:3]]
    return [
        f"{len(rows)} validation and test images are blank (one gray level): they all get the same "
        f"scores, and rank by nothing: {', '.join(names)}{', ...' if len(rows) > 3 else ''}"
    ]


def _require_labels(catalog: Catalog) -> None:
    if not catalog.summary["labeled"]:
        raise DataError(
            f"{catalog.root} has no labels: there is nothing to fine-tune for",
            "stop at `medsgssl pretrain`, then fine-tune on labeled data with --from",
        )
