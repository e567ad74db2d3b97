"""Makes the plan of a study from what a user asks for, every configuration checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from medsgssl.config.loading import merge, nest, parse_overrides
from medsgssl.data.mask_cache import CONTROLS
from medsgssl.errors import ConfigError
from medsgssl.methods.registry import configure
from medsgssl.runs.folder import flatten
from medsgssl.study.plan import PlannedRun, StudyPlan
from medsgssl.study.variants import CONTROL, Variant, variants_of, variants_without

# What a plan decides run by run; a setting for all runs would contradict it.
_DECIDED = ("method_name", "no_pretrain", "seed", "data.root", "data.label_fraction")


def make_plan(
    data: Path,
    methods: Sequence[str],
    *,
    seeds: int = 3,
    fractions: Sequence[float] = (1.0,),
    controls: Sequence[str] = (),
    twins: bool = False,
    ablate: str | None = None,
    items: Sequence[str] = (),
    file: Mapping[str, Any] | None = None,
) -> StudyPlan:
    """Plan a study, every configuration checked.

    Args:
        data: Folder of the data set.
        methods: Names of methods.
        seeds: How many; they are 0, 1, ...
        fractions: Label fractions of fine-tuning.
        controls: Mask controls that every method with masks is also run with.
        twins: Also run every method's twin without pretraining.
        ablate: Of this one of the methods, also run its twin, and the method without each of its
            parts in turn.
        items: Settings as ``KEY=VALUE``, or ``METHOD:KEY=VALUE`` for one method's runs.
        file: Nested settings below these.

    Raises:
        ConfigError: A method, control or setting is unknown, a list is empty, or the method to
            ablate has no part that can be left out.
    """
    _check_lists(methods, seeds, fractions, controls)
    common, own = _split_items(items, methods)
    settings = _absolute(merge(dict(file or {}), common))
    own = {name: _absolute(tree) for name, tree in own.items()}
    for tree in (settings, *own.values()):
        _refuse_decided(tree)
    main = str(settings.get("masks", {}).get("source", "rules"))
    plan = StudyPlan(str(data.expanduser().absolute()), settings, own)
    unique = list(dict.fromkeys(methods))
    variants = [
        variant
        for name in unique
        for variant in variants_of(name, main, controls, twins or name == ablate)
    ]
    if ablate is not None:
        variants += variants_without(configure(ablate, settings, own.get(ablate, {})), main)
    runs = [
        run
        for seed in range(seeds)
        for variant in variants
        for run in _runs(variant, seed, sorted(set(fractions)), main)
    ]
    plan = replace(plan, runs=tuple(runs))
    for run in plan.runs:
        plan.config(run, check_names=True)
    return plan


def make_ablation(
    data: Path,
    method: str,
    *,
    seeds: int = 3,
    fractions: Sequence[float] = (1.0,),
    items: Sequence[str] = (),
    file: Mapping[str, Any] | None = None,
) -> StudyPlan:
    """Plan the leave-one-out study of a method, beside ``simclr`` with the method's backbone.

    Args:
        data: Folder of the data set.
        method: Name of the method.
        seeds: How many; they are 0, 1, ...
        fractions: Label fractions of fine-tuning.
        items: Settings as in ``make_plan``.
        file: Nested settings below these.

    Raises:
        ConfigError: As ``make_plan``.
    """
    backbone = configure(method).encoder.name
    # Before the user's own, which then win.
    like = [f"{CONTROL}:encoder.name={backbone}"] if _no_backbone(items, file) else []
    return make_plan(
        data,
        list(dict.fromkeys([CONTROL, method])),
        seeds=seeds,
        fractions=fractions,
        ablate=method,
        items=[*like, *items],
        file=file,
    )


def _absolute(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings whose further data sets are found from any working directory."""
    extra = settings.get("data", {}).get("extra_roots")
    if not isinstance(extra, list | tuple):
        return settings
    folders = [str(Path(str(folder)).expanduser().absolute()) for folder in extra]
    return merge(settings, nest("data.extra_roots", folders))


def _no_backbone(items: Sequence[str], file: Mapping[str, Any] | None) -> bool:
    named = any(item.startswith("encoder.name=") for item in items)
    return not named and "name" not in (file or {}).get("encoder", {})


def _check_lists(
    methods: Sequence[str], seeds: int, fractions: Sequence[float], controls: Sequence[str]
) -> None:
    if not methods or not fractions or seeds < 1:
        raise ConfigError(
            "a study needs methods, seeds and label fractions",
            "give e.g. --methods simclr,guided-crop --seeds 3 --label-fractions 0.1,1",
        )
    wrong = [str(share) for share in fractions if not 0 < share <= 1]
    if wrong:
        raise ConfigError(
            f"label fractions {', '.join(wrong)} are not above 0 and at most 1",
            "give shares such as 0.01,0.1,1",
        )
    unknown = [name for name in controls if name not in CONTROLS]
    if unknown:
        raise ConfigError(
            f"there is no mask control {unknown[0]!r}", f"choose among: {', '.join(CONTROLS)}"
        )


def _split_items(
    items: Sequence[str], methods: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Part ``METHOD:KEY=VALUE`` from ``KEY=VALUE``."""
    common: list[str] = []
    own: dict[str, list[str]] = {}
    for item in items:
        name, colon, rest = item.partition(":")
        if colon and "=" not in name:
            if name not in methods:
                raise ConfigError(
                    f"--set {item!r} is for {name!r}, which is not among the methods",
                    f"name one of: {', '.join(methods)}",
                )
            own.setdefault(name, []).append(rest)
        else:
            common.append(item)
    return parse_overrides(common), {name: parse_overrides(found) for name, found in own.items()}


def _refuse_decided(tree: Mapping[str, Any]) -> None:
    given = [key for key in flatten(dict(tree)) if key in _DECIDED]
    if given:
        raise ConfigError(
            f"a study decides {', '.join(given)} run by run",
            "use --methods, --baselines, --seeds, --data and --label-fractions",
        )


def _runs(
    variant: Variant, seed: int, fractions: Sequence[float], main: str
) -> Iterator[PlannedRun]:
    stem = f"{variant.stem(main)}-s{seed}"
    own = {**asdict(variant), "seed": seed}
    start = None if variant.no_pretrain else f"{stem}-pretrain"
    if start is not None:
        yield PlannedRun(start, fraction=1.0, pretrains=True, **own)
    for share in fractions:
        yield PlannedRun(f"{stem}-f{share:g}", fraction=share, start=start, **own)
