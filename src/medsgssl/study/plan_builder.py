"""Makes the plan of a study from what a user asks for, every configuration checked.

The plan itself, with its file ``study.json``, is ``plan.py``; ``plan_summary.py`` says it in words.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from medsgssl.config.loading import (
    Settings,
    SettingsTree,
    flatten,
    merge,
    nest,
    nested,
    parse_overrides,
)
from medsgssl.config.schema import Config
from medsgssl.data.catalog import current_catalog
from medsgssl.data.mask_cache import CONTROLS
from medsgssl.errors import ConfigError
from medsgssl.evaluation.spread import MIN_REPEATS
from medsgssl.methods.registry import configure
from medsgssl.study.plan import PlannedComparison, PlannedRun, StudyPlan
from medsgssl.study.tested_images import study_images
from medsgssl.study.variants import (
    CONTROL,
    Variant,
    matched_baseline,
    matched_control,
    variants_of,
    variants_without,
)

# What a plan decides run by run; a setting for all runs would contradict it.
_DECIDED: tuple[str, ...] = (
    "method_name",
    "no_pretrain",
    "seed",
    "data.root",
    "data.label_fraction",
)
_DECIDED += ("data.folds", "data.fold")
#: Seeds of a study that names neither seeds nor folds.
SEEDS = 3


def make_plan(
    data: Path,
    methods: Sequence[str],
    *,
    seeds: int | None = None,
    folds: int | None = None,
    fractions: Sequence[float] = (1.0,),
    controls: Sequence[str] = (),
    baselines: bool = False,
    ablate: str | None = None,
    items: Sequence[str] = (),
    file: Settings | None = None,
) -> StudyPlan:
    """Plan a study, every configuration checked.

    Every guided method gets its control by itself: `simclr` with the same network, image size,
    frame and number of views seen. Arms that already match are shared.

    Args:
        data: Folder of the data set.
        methods: Names of methods.
        seeds: How many; they are 0, 1, ...; three where no folds are asked for.
        folds: Cross-validation with so many folds instead; fold ``f`` has seed ``f``.
        fractions: Label fractions of fine-tuning.
        controls: Mask controls that every method with masks is also run with.
        baselines: Also run the no-pretraining baseline of every method's network.
        ablate: Of this one of the methods, also run its baseline, and the method without each of
            its components in turn.
        items: Settings as ``KEY=VALUE``, or ``METHOD:KEY=VALUE`` for one method's runs.
        file: Nested settings below these.

    Raises:
        ConfigError: A method, control or setting is unknown, a list is empty, both seeds and folds
            are given, or the method to ablate has no component that can be left out.
    """
    if seeds is not None and folds is not None:
        raise ConfigError(
            "a study has seeds or folds, not both: fold f is trained with seed f",
            "give --seeds or --folds",
        )
    repeats = folds if folds is not None else SEEDS if seeds is None else seeds
    _check_lists(methods, repeats, fractions, controls)
    if folds is not None and folds < MIN_REPEATS:
        raise ConfigError(f"{folds} folds bear no verdict", f"give --folds {MIN_REPEATS} or more")
    common, per_method = _split_items(items, [*methods, CONTROL])
    settings = _absolute(merge(dict(file or {}), common))
    per_method = {name: _absolute(tree) for name, tree in per_method.items()}
    for tree in (settings, *per_method.values()):
        _refuse_decided(tree)
    main = str(settings.get("masks", {}).get("source", "rules"))
    margin = configure(CONTROL, settings).study.margin
    plan = StudyPlan(
        str(data.expanduser().absolute()), settings, per_method, margin=margin, folds=folds
    )
    variants, judged = _design(plan, methods, main, controls, baselines, ablate)
    shares = sorted(set(fractions))
    runs = [
        run
        for repeat in range(repeats)
        for stem, variant in variants.items()
        for run in _runs(stem, variant, repeat, shares, folds is not None)
    ]
    family = [
        PlannedComparison(kind, arm, against, share)
        for kind in ("control", "baseline")
        for share in shares
        for asked, arm, against in dict.fromkeys(judged)
        if asked == kind
    ]
    plan = replace(plan, runs=tuple(runs), family=tuple(family))
    for run in plan.runs:
        plan.config(run, check_names=True)
    return plan


def _design(
    plan: StudyPlan,
    methods: Sequence[str],
    main: str,
    controls: Sequence[str],
    baselines: bool,
    ablate: str | None,
) -> tuple[dict[str, Variant], list[tuple[str, str, str]]]:
    """Return the arms by name, and what is judged: kind, arm, and the arm it is judged against."""
    variants: dict[str, Variant] = {}
    judged: list[tuple[str, str, str]] = []
    for name in dict.fromkeys(methods):
        config = _configured(plan, name)
        for variant in variants_of(name, main, controls):
            _add(variants, variant, main)
        if name != CONTROL and not config.no_pretrain:
            control = matched_control(config, _configured(plan, CONTROL), main)
            judged.append(("control", name, _add(variants, control, main)))
        if (baselines or name == ablate) and not config.no_pretrain:
            baseline = matched_baseline(config, _configured(plan, "direct"), main)
            judged.append(("baseline", name, _add(variants, baseline, main)))
    if ablate is not None:
        for variant in variants_without(_configured(plan, ablate), main):
            _add(variants, variant, main)
    if baselines:
        for stem, variant in list(variants.items()):
            if variant.method == CONTROL:
                config = configure(
                    CONTROL,
                    plan.settings,
                    plan.own_settings.get(CONTROL, {}),
                    nested(variant.overrides),
                )
                baseline = matched_baseline(config, _configured(plan, "direct"), main)
                judged.append(("baseline", stem, _add(variants, baseline, main)))
    return variants, judged


def _configured(plan: StudyPlan, name: str, *layers: Settings) -> Config:
    return configure(name, plan.settings, plan.own_settings.get(name, {}), *layers)


def _add(variants: dict[str, Variant], variant: Variant, main: str) -> str:
    """Add a variant unless it is there, and return its name in the plan."""
    stem, number = variant.stem(main), 2
    while stem in variants and variants[stem] != variant:
        stem, number = f"{variant.stem(main)}-{number}", number + 1
    variants.setdefault(stem, variant)
    return stem


def fix_primary_diseases(plan: StudyPlan) -> StudyPlan:
    """Fix the diseases of the primary mean from the labels of the data set, before anything runs.

    They have enough patients with a positive and with a negative test image, with folds also in
    every fold.

    Raises:
        DataError: The data set cannot be read.
    """
    first = plan.config(plan.runs[0])
    catalog = current_catalog(first.data)
    tested = study_images(catalog, plan.folds, first.data.split_seed)
    names = tuple(name for name, kept in zip(tested.names, tested.primary, strict=True) if kept)
    return replace(plan, primary_diseases=names)


def make_ablation(
    data: Path,
    method: str,
    *,
    seeds: int | None = None,
    folds: int | None = None,
    fractions: Sequence[float] = (1.0,),
    items: Sequence[str] = (),
    file: Settings | None = None,
) -> StudyPlan:
    """Plan the leave-one-out study of a method, beside ``simclr`` with the method's network.

    Args:
        data: Folder of the data set.
        method: Name of the method.
        seeds: How many; they are 0, 1, ...
        folds: Cross-validation with so many folds instead.
        fractions: Label fractions of fine-tuning.
        items: Settings as in ``make_plan``.
        file: Nested settings below these.

    Raises:
        ConfigError: As ``make_plan``.
    """
    return make_plan(
        data,
        [method],
        seeds=seeds,
        folds=folds,
        fractions=fractions,
        ablate=method,
        items=items,
        file=file,
    )


def _absolute(settings: SettingsTree) -> SettingsTree:
    """Return settings whose further data sets are found from any working directory."""
    extra = settings.get("data", {}).get("extra_roots")
    if not isinstance(extra, list | tuple):
        return settings
    folders = [str(Path(str(folder)).expanduser().absolute()) for folder in extra]
    return merge(settings, nest("data.extra_roots", folders))


def _check_lists(
    methods: Sequence[str], repeats: int, fractions: Sequence[float], controls: Sequence[str]
) -> None:
    if not methods or not fractions or repeats < 1:
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
) -> tuple[SettingsTree, dict[str, SettingsTree]]:
    """Part ``METHOD:KEY=VALUE`` from ``KEY=VALUE``."""
    common: list[str] = []
    per_method: dict[str, list[str]] = {}
    for item in items:
        name, colon, rest = item.partition(":")
        if colon and "=" not in name:
            if name not in methods:
                raise ConfigError(
                    f"--set {item!r} is for {name!r}, which is not among the methods",
                    f"name one of: {', '.join(methods)}",
                )
            per_method.setdefault(name, []).append(rest)
        else:
            common.append(item)
    return parse_overrides(common), {
        name: parse_overrides(given) for name, given in per_method.items()
    }


def _refuse_decided(tree: Settings) -> None:
    given = [key for key in flatten(dict(tree)) if key in _DECIDED]
    if given:
        raise ConfigError(
            f"a study decides {', '.join(given)} run by run",
            "use --methods, --baselines, --seeds, --folds, --data and --label-fractions",
        )


def _runs(
    arm: str, variant: Variant, repeat: int, fractions: Sequence[float], folds: bool
) -> Iterator[PlannedRun]:
    name = f"{arm}-{'k' if folds else 's'}{repeat}"
    planned = functools.partial(
        PlannedRun,
        arm=arm,
        method=variant.method,
        no_pretrain=variant.no_pretrain,
        masks=variant.masks,
        seed=repeat,
        without=variant.without,
        fold=repeat if folds else None,
        overrides=dict(variant.overrides),
    )
    start = None if variant.no_pretrain else f"{name}-pretrain"
    if start is not None:
        yield planned(start, fraction=1.0, pretrains=True)
    for share in fractions:
        yield planned(f"{name}-f{share:g}", fraction=share, start=start)
