"""Which masks a study draws: one recipe for all runs, and one mask student per fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from medsgssl.config.schema import Config
from medsgssl.data.catalog import Catalog, current_catalog, load_or_build
from medsgssl.data.mask_cache import CONTROLS
from medsgssl.data.mask_choice import ANATOMIC, count_leaked, require_no_leak
from medsgssl.masks.recipes.distilled.student_weights import SHIPPED, read_card
from medsgssl.masks.recipes.registry import AUTO, DISTILLED
from medsgssl.methods.registry import method_of
from medsgssl.study.plan import StudyPlan
from medsgssl.utils.locks import shared_work


def fix_masks(plan: StudyPlan) -> StudyPlan:
    """Fix what ``masks.recipe=auto`` stands for in every run, before anything runs.

    Runs of one study must not differ in how their masks were drawn: it stands for ``distilled``
    where the student saw no validation or test patient of any run, and for ``anatomic`` otherwise.

    Raises:
        MaskError: ``distilled`` is asked for by name, and its student saw validation or test
            patients. Where folds use the shipped one, ``student_of_fold`` teaches others instead.
        DataError: The data set cannot be read.
    """
    fixed = None
    for config, catalog in _drawing(plan):
        weights = config.masks.weights or SHIPPED
        if config.masks.recipe == DISTILLED:
            # With folds and no student of one's own, each fold is taught its own.
            if plan.folds is None or config.masks.weights is not None:
                require_no_leak(catalog, weights, any_split=plan.folds is not None)
        elif fixed != ANATOMIC:
            # With folds every patient is tested, or chooses settings, in some run.
            leaked = count_leaked(catalog, weights, any_split=plan.folds is not None)
            fixed = ANATOMIC if leaked else DISTILLED
    return replace(plan, mask_recipe=fixed)


def _drawing(plan: StudyPlan) -> Iterator[tuple[Config, Catalog]]:
    """Every distinct data set, split and mask settings for which a student may draw masks.

    Of several folds, the first stands for all.
    """
    known: dict[str, Catalog] = {}
    seen = set()
    for run in plan.runs:
        config = replace(plan, mask_recipe=None).config(run)
        masks = config.masks
        if masks.recipe not in (AUTO, DISTILLED) or masks.source not in ("rules", *CONTROLS):
            continue
        if not method_of(config).sees_masks:
            continue
        data = config.data.model_dump_json(exclude={"label_fraction", "fold"})
        key = (data, masks.recipe, masks.weights)
        if key not in seen:
            seen.add(key)
            if data not in known:
                known[data] = current_catalog(config.data)
            yield config, known[data]


def student_of_fold(config: Config, folder: Path, say: Callable[[str], object] = print) -> Config:
    """Teach the mask student of a fold on its training patients, where a run needs one.

    Args:
        config: The configuration of one run.
        folder: The study's folder; students lie in ``students``.
        say: Takes a line after every epoch.

    Returns:
        The configuration with ``masks.weights``; unchanged unless ``distilled`` was asked for by
        name in a study of folds whose validation or test patients the shipped student saw.
    """
    masks = config.masks
    drawn = masks.recipe == DISTILLED and masks.source in ("rules", *CONTROLS)
    if not drawn or config.data.fold is None or masks.weights is not None:
        return config
    if not method_of(config).sees_masks or not count_leaked(load_or_build(config.data), SHIPPED):
        return config
    weights = folder / "students" / f"fold-{config.data.fold}.safetensors"
    # Runs of one fold may begin together: one teaches, the others wait.
    with shared_work(weights.with_suffix(".work")):
        if not weights.is_file():
            from medsgssl.data.mask_student import teach  # noqa: PLC0415 - imports torch
            from medsgssl.masks.recipes.distilled.train import TrainSettings  # noqa: PLC0415

            say(f"teaching the mask student of fold {config.data.fold}: {weights}")
            teach(config.data, weights, TrainSettings(), say=say)
    read_card(weights)
    return config.model_copy(
        update={"masks": masks.model_copy(update={"weights": weights.absolute()})}
    )
