"""When a stage of a run is due: the key that decides its result, and the mark of a complete one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from medsgssl import __version__
from medsgssl.config.loading import FlatSettings, dump
from medsgssl.config.schema import Config
from medsgssl.data.prepare import PreparedData
from medsgssl.errors import ConfigError, MedsgsslError
from medsgssl.models.weights import read_header
from medsgssl.runs.folder import RunFolder, StageName, deciding_settings
from medsgssl.training.distributed import ALONE, Team
from medsgssl.utils.io import fingerprint

#: Settings that have another name since keys hold them, with the name that a key goes on giving
#: them: what an earlier version completed stays complete.
_NAMED_IN_KEYS = {"method.lambda_reconstruction": "method.reconstruction"}


def stage_keys(config: Config, data: PreparedData, pretrained: Path | None) -> dict[str, str]:
    """Return the key of each stage: a fingerprint of the settings and data that decide its result.

    Args:
        config: The run's configuration.
        data: The prepared data.
        pretrained: The weights that pretraining is replaced by, or None.
    """
    settings = deciding_settings(dump(config))
    flat = {_NAMED_IN_KEYS.get(key, key): value for key, value in settings.items()}

    def part(*prefixes: str) -> FlatSettings:
        return {key: value for key, value in flat.items() if key.startswith(prefixes)}

    common = part(
        "method_name", "seed", "encoder.", "method.", "data.img_size", "data.batch_size",
        "data.render",
    )  # fmt: skip
    keys = {"data": data.key}
    start = read_header(pretrained)["key"] if pretrained else None
    keys["pretrain"] = fingerprint(
        [data.pretrain_key, common, part("pretrain.", "views.pretrain."), start, __version__]
    )
    begin = "direct" if config.no_pretrain else keys["pretrain"]
    keys["finetune"] = fingerprint(
        [
            data.key, common, begin, part("finetune.", "views.finetune.", "data.label_fraction"),
            __version__,
        ]
    )  # fmt: skip
    keys["predict"] = keys["finetune"]
    keys["evaluate"] = fingerprint([keys["predict"], part("evaluate."), __version__])
    return keys


def run_stage_if_needed(
    run: RunFolder,
    stage: StageName,
    keys: dict[str, str],
    work: Callable[[], object],
    console: Console | None = None,
    team: Team = ALONE,
) -> None:
    """Do the work of a stage and mark it complete, unless it is complete and its files are intact.

    The first process decides and marks; the work is everyone's.

    Raises:
        ConfigError: It is complete, but made from something else.
        MedsgsslError: The work ended without one of its files.
    """
    needed = team.first(lambda: _is_needed(run, stage, keys, console))
    if not team.gather(needed)[0]:
        return
    started = time.monotonic()
    work()
    # All have written what is theirs before the stage counts as complete.
    team.gather(None)
    team.first(lambda: _mark(run, stage, keys, time.monotonic() - started))


def _is_needed(
    run: RunFolder, stage: StageName, keys: dict[str, str], console: Console | None
) -> bool:
    key = run.key_of(stage)
    if key == keys[stage]:
        missing = run.missing_outputs(stage)
        changed = f"{missing[0]} is gone" if missing else run.changed_output(stage)
        if changed is None:
            run.tidy(stage)
            return False
        if console is not None:
            text = f"Warning: {changed}: the stage {stage} is run again"
            console.print(text, style="yellow", highlight=False, markup=False)
    elif key is not None and stage != "evaluate" and (stage != "data" or run.has_results()):
        raise ConfigError(
            f"{run.path} holds a complete stage {stage!r} made from other data, other pretrained "
            "weights or another version of medsgssl",
            "choose another --out folder",
        )
    return True


def _mark(run: RunFolder, stage: StageName, keys: dict[str, str], seconds: float) -> None:
    missing = run.missing_outputs(stage)
    if missing:
        raise MedsgsslError(
            f"the stage {stage!r} of {run.path} ended without {', '.join(missing)}",
            "run the same command again; if it ends here again, report it with the log",
        )
    run.mark(stage, keys[stage], seconds)
