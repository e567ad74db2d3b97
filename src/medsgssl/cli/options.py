"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

MethodName = Annotated[str, typer.Argument(help="The method; see `medsgssl methods`.")]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Folder of the data set, in the NIH layout.")
]
AlsoFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--also",
        help="Folder of a further data set to pretrain on (NIH, CheXpert or plain images; labels "
        "are not read); repeat for more.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeat for more."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file with settings; --set goes over it.")
]
MaskSource = Annotated[
    str | None,
    typer.Option(
        help="rules, none, shuffled, random-blob, mean-template, or a folder of your own masks."
    ),
]
NoPretrain = Annotated[
    bool,
    typer.Option("--no-pretrain", "--direct", help="The no-pretraining baseline of the method."),
]
RunOut = Annotated[Path, typer.Option("--out", help="The run folder.")]


def resolve(
    name: str,
    config_file: Path | None,
    settings: list[str] | None,
    *,
    data: Path | None = None,
    also: list[Path] | None = None,
    mask_source: str | None = None,
    no_pretrain: bool = False,
) -> Any:
    """Return the ``Config`` of a command line: defaults, then the file, then the options."""
    from medsgssl.config.loading import merge, nest, parse_overrides, read_yaml
    from medsgssl.methods.registry import configure

    file = read_yaml(config_file) if config_file else {}
    options = parse_overrides(settings or [])
    if data is not None:
        options = merge(options, nest("data.root", str(data.absolute())))
    if also:
        options = merge(
            options, nest("data.extra_roots", [str(folder.absolute()) for folder in also])
        )
    if mask_source is not None:
        options = merge(options, nest("masks.source", mask_source))
    return configure(
        name, file, options, no_pretrain=no_pretrain or bool(file.get("no_pretrain", False))
    )
