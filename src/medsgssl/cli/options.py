"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsgssl.utils.progress import set_quiet

if TYPE_CHECKING:
    from medsgssl.config.cluster_settings import SlurmSettings
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

#: Jobs of a cluster at a time where nothing else is asked for.
CLUSTER_JOBS = 100


class LauncherName(StrEnum):
    """Where the runs of a study are done."""

    LOCAL = "local"
    SUBMITIT = "submitit"


Launcher = Annotated[
    LauncherName,
    typer.Option(
        help="Where the runs are done; local: on this machine; submitit: as Slurm jobs (`slurm.*`)."
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """What every command that configures a run takes; `with_run_options` makes options of it."""

    method: MethodName
    data: DataFolder = None
    extra_data: ExtraData = None
    mask_source: MaskSource = None
    config: ConfigFile = None
    settings: Settings = None
    logger: Loggers = None

    def resolve(self, *, no_pretrain: bool = False, to_run: bool = True) -> Config:
        """Return the ``Config`` of a command line: defaults, then the file, then the options.

        Args:
            no_pretrain: Configure the no-pretraining baseline.
            to_run: False for a configuration that is only looked at, which needs no torch.
        """
        from medsgssl.config.loading import merge, nest, parse_overrides, read_yaml

        file = read_yaml(self.config) if self.config else {}
        options = parse_overrides(self.settings or [])
        if self.data is not None:
            options = merge(options, nest("data.root", str(self.data.absolute())))
        if self.extra_data:
            folders = [str(folder.absolute()) for folder in self.extra_data]
            options = merge(options, nest("data.extra_roots", folders))
        if self.mask_source is not None:
            options = merge(options, nest("masks.source", self.mask_source))
        if self.logger:
            options = merge(options, nest("tracking.loggers", self.logger))
        no_pretrain = no_pretrain or bool(file.get("no_pretrain", False))
        if not to_run:
            from medsgssl.methods.index import configure_from_index

            return configure_from_index(self.method, file, options, no_pretrain=no_pretrain)
        if root := merge(file, options).get("data", {}).get("root"):
            from medsgssl.data.paths import require_folder

            require_folder(Path(root))  # a typing error should not wait for torch
        from medsgssl.methods.registry import configure

        return configure(self.method, file, options, no_pretrain=no_pretrain, check_names=True)


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take the fields of its parameter ``options: RunOptions``; a decorator.

    Typer reads options from the signature of a function alone and knows no dataclasses.
    """
    shared = inspect.signature(RunOptions, eval_str=True).parameters
    parameters = dict(inspect.signature(command, eval_str=True).parameters)
    del parameters["options"]
    every = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*shared.values(), *parameters.values())
    ]
    every.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)

    @functools.wraps(command)
    def expanded(**given: Any) -> None:
        options = RunOptions(**{name: given.pop(name) for name in shared})
        command(options=options, **given)

    expanded.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
    return expanded


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


def slurm_settings(items: list[str]) -> tuple[SlurmSettings, list[str]]:
    """Return the settings below ``slurm.`` of a command line, and its other items.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    from medsgssl.config.loading import build, parse_overrides
    from medsgssl.config.method_settings import MethodSettings

    slurm_items = [item for item in items if item.startswith("slurm.")]
    others = [item for item in items if not item.startswith("slurm.")]
    tree = {"method_name": "METHOD", **parse_overrides(slurm_items)}
    return build(tree, MethodSettings).slurm, others
