"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsgssl.utils.progress import set_quiet

if TYPE_CHECKING:
    from medsgssl.config.schema import Config, DataSettings


def complete_method(incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield the methods that begin with what was typed, each with its summary, for the shell."""
    from medsgssl.methods.index import method_index

    for name, entry in method_index().items():
        if name.startswith(incomplete):
            yield name, entry.summary


MethodName = Annotated[
    str,
    typer.Argument(help="The method; see `medsgssl methods`.", autocompletion=complete_method),
]
DataFolder = Annotated[Path | None, typer.Option("--data", help="Folder of the data set.")]
DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the data set.")]
ExtraData = Annotated[
    list[Path] | None,
    typer.Option(
        "--extra-data",
        help="Folder of another data set to pretrain on as well (its labels are not read); repeat "
        "for more.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; repeat for more."),
]
DataOnlySettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="data.KEY=VALUE",
        help="Change one setting of the data, as for `run`; repeat for more.",
    ),
]
Split = Annotated[
    str | None, typer.Option(help="auto, lists, official, random or train (data.split).")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file with settings; --set overrides it.")
]
MaskSource = Annotated[
    str | None,
    typer.Option(
        help="rules, none, shuffled, random-blob, mean-template, or a folder with your own masks."
    ),
]
NoPretrain = Annotated[
    bool, typer.Option("--no-pretrain", help="Run the no-pretraining baseline of the method.")
]
RunOut = Annotated[Path, typer.Option("--out", help="The run folder.")]
Loggers = Annotated[
    list[str] | None,
    typer.Option(
        "--logger", help="Also log to wandb or mlflow (tracking.loggers); repeat for both."
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Show results and errors only.", callback=set_quiet),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def resolve(
    name: str,
    config_file: Path | None,
    settings: list[str] | None,
    *,
    data: Path | None = None,
    extra_data: list[Path] | None = None,
    mask_source: str | None = None,
    no_pretrain: bool = False,
    loggers: list[str] | None = None,
    to_run: bool = True,
) -> Config:
    """Return the ``Config`` of a command line: defaults, then the file, then the options.

    Args:
        name: The method.
        config_file: YAML file with settings.
        settings: Items of ``--set``.
        data: Folder of the data set.
        extra_data: Further folders to pretrain on.
        mask_source: Setting ``masks.source``.
        no_pretrain: Configure the no-pretraining baseline.
        loggers: Setting ``tracking.loggers``.
        to_run: False for a configuration that is only looked at, which needs no torch.
    """
    from medsgssl.config.loading import merge, nest, parse_overrides, read_yaml

    file = read_yaml(config_file) if config_file else {}
    options = parse_overrides(settings or [])
    if data is not None:
        options = merge(options, nest("data.root", str(data.absolute())))
    if extra_data:
        folders = [str(folder.absolute()) for folder in extra_data]
        options = merge(options, nest("data.extra_roots", folders))
    if mask_source is not None:
        options = merge(options, nest("masks.source", mask_source))
    if loggers:
        options = merge(options, nest("tracking.loggers", loggers))
    no_pretrain = no_pretrain or bool(file.get("no_pretrain", False))
    if not to_run:
        from medsgssl.methods.index import configure_from_index

        return configure_from_index(name, file, options, no_pretrain=no_pretrain)
    from medsgssl.methods.registry import configure

    return configure(name, file, options, no_pretrain=no_pretrain, check_names=True)


def resolve_data(data: Path, settings: list[str] | None, split: str | None = None) -> DataSettings:
    """Return the settings of a data set for commands that need no method.

    Raises:
        ConfigError: A setting is unknown or out of range, or is not one of the data.
    """
    from medsgssl.config.loading import build, merge, nest, parse_overrides
    from medsgssl.config.method_settings import MethodSettings
    from medsgssl.config.renamed import with_new_names
    from medsgssl.errors import ConfigError

    given = with_new_names(parse_overrides(settings or []))
    if other := sorted(given.keys() - {"data"}):
        raise ConfigError(
            f"this command reads the settings of the data alone, not {', '.join(other)}",
            "give settings below data., e.g. --set data.split_seed=1",
        )
    tree = merge(given, nest("data.root", str(data.absolute())))
    if split is not None:
        tree = merge(tree, nest("data.split", split))
    # `build` wants the name of a method, which these commands do without.
    return build(merge(tree, {"method_name": "METHOD"}), MethodSettings).data
