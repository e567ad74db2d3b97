"""Train, validation and test: by patient, with a leak check on every build and load.

Who the patient of an image is, a data set's reader says; ``readers/patients.py`` finds patients by
paths where no table names them. ``stratify.py`` draws so that rare diseases are in every part.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medsgssl.config.schema import DataSettings
from medsgssl.data.labels import LabelSet, label_array
from medsgssl.data.official import nih_test_patients, nih_val_patients
from medsgssl.data.readers.base import ListFile
from medsgssl.data.stratify import patient_labels, stratified_parts
from medsgssl.errors import DataError, LeakError
from medsgssl.runs.data_summary import SplitSummary
from medsgssl.utils.formatting import plural

SPLITS = ("train", "val", "test")
_SENSIBLE_SHARE = (0.05, 0.25)
#: Share of the patients that are never tested: every choice of settings is made on them.
SELECTION_SHARE = 0.1
#: What ``fold_of_patients`` gives the patients of the selection group.
SELECTION = -1


def assign_splits(
    table: pd.DataFrame,
    settings: DataSettings,
    lists: dict[str, ListFile] | None,
    source: str,
    label_set: LabelSet,
    own_split: pd.Series | None = None,
) -> tuple[pd.Series, SplitSummary]:
    """Give every image a split.

    Args:
        table: Catalog rows: ``image_id``, ``patient_id`` and the labels are used.
        settings: ``split``, ``split_seed``, ``val_fraction``, ``test_fraction``; ``folds`` and
            ``fold``, which replace ``split`` and the list files.
        lists: The list files of the data set.
        source: Name of the data set.
        label_set: Names the columns of the labels, which drawn splits are stratified by.
        own_split: The split that the data set itself gives, ``""`` where it gives none.

    Returns:
        ``train``, ``val`` or ``test`` by row, and the facts of the split: ``kind``, ``seed``
        (``None`` where nothing was drawn), ``validation`` (``bundled``, ``drawn`` or ``none``) and
        ``listed_without_row``.

    Raises:
        DataError: Lists are missing or incomplete, or a split would be empty.
        LeakError: A patient is in both lists.
    """
    if settings.fold is not None and settings.split != "train":
        return _fold(table, settings, label_set)
    kind = _resolve(settings, lists, source, own_split is not None)
    summary: SplitSummary = {"kind": kind, "seed": settings.split_seed, "validation": "drawn"}
    if kind == "train":
        summary = {"kind": kind, "seed": None, "validation": "none"}
        return pd.Series("train", index=table.index, dtype="str"), summary
    if kind == "random":
        shares = (
            (1 - settings.test_fraction) * (1 - settings.val_fraction),
            (1 - settings.test_fraction) * settings.val_fraction,
            settings.test_fraction,
        )
        split = _draw(table, shares, settings.split_seed, label_set)
    else:
        if own_split is not None and kind == "own":
            split = _complete(own_split)
        elif kind == "lists":
            split, summary["listed_without_row"] = _from_lists(table, _both(lists))
        else:
            is_test = table["patient_id"].isin(nih_test_patients())
            split = pd.Series(np.where(is_test, "test", "train"), index=table.index, dtype="str")
        check_leaks(table["patient_id"], split)
        bundled = source == "nih" and _use_bundled_validation(table["patient_id"], split)
        if bundled:
            summary["seed"], summary["validation"] = None, "bundled"
        elif (split == "val").any():
            summary["seed"], summary["validation"] = None, "own"
        else:
            _draw_validation(table, split, settings, label_set)
    _check_filled(split, kind)
    check_leaks(table["patient_id"], split)
    return split, summary


def _fold(
    table: pd.DataFrame, settings: DataSettings, label_set: LabelSet
) -> tuple[pd.Series, SplitSummary]:
    """Test one fold, or the selection group, and train on the others.

    The selection group is training data of every fold. While it is scored itself, fold 0 is set
    aside (an empty split), so that settings are chosen without its patients.
    """
    numbers, _, labels = patient_labels(table["patient_id"], label_array(table, label_set.names))
    fold = fold_of_patients(labels, settings.folds or 2, settings.split_seed)[numbers]
    choosing = settings.fold == "selection"
    tested = fold == (SELECTION if choosing else settings.fold)
    split = pd.Series(np.where(tested, "test", "train"), index=table.index, dtype="str")
    if choosing:
        split[fold == 0] = ""
    # Other patients each time: the folds' validation patients need not be the same ones.
    seed = settings.split_seed + (0 if choosing else int(settings.fold or 0))
    _draw_validation(table, split, settings.model_copy(update={"split_seed": seed}), label_set)
    _check_filled(split, "folds")
    check_leaks(table["patient_id"], split)
    return split, {"kind": "folds", "seed": settings.split_seed, "validation": "drawn"}


def check_leaks(patients: pd.Series, split: pd.Series) -> None:
    """Check that no patient has images in two splits.

    Raises:
        LeakError: Names the first ten patients and how many there are.
    """
    pairs = pd.DataFrame({"patient": patients, "split": split}).drop_duplicates()
    leaking = sorted(pairs.loc[pairs["patient"].duplicated(), "patient"].unique())
    if leaking:
        listed = ", ".join(leaking[:10]) + (" ..." if len(leaking) > 10 else "")
        raise LeakError(
            f"{len(leaking)} {plural(len(leaking), 'patient has', 'patients have')} images in "
            f"more than one split: {listed}",
            "put all images of a patient into one split, or use data.split=random; where these are "
            "not the patients, set data.patient_pattern or data.patient_column",
        )


def _complete(own_split: pd.Series) -> pd.Series:
    """Return the data set's own split, where it gives one for every image."""
    without = int((own_split == "").sum())
    if without:
        raise DataError(
            f"{without} {plural(without, 'image has', 'images have')} no split in "
            "the data set's own tables",
            "complete them, or use data.split=random",
        )
    return own_split.copy()


def _resolve(
    settings: DataSettings, lists: dict[str, ListFile] | None, source: str, has_own: bool
) -> str:
    if settings.split == "auto":
        if has_own:
            return "own"
        if lists:
            return "lists"
        return "official" if source == "nih" else "random"
    if settings.split == "own" and not has_own:
        raise DataError(
            f"{settings.root} brings no split of its own",
            "add a column `split` of train, val and test to its table, or use data.split=random",
        )
    if settings.split == "official" and source != "nih":
        raise DataError(
            f"{settings.root} holds no NIH table, so it has no official split",
            "use data.split=random",
        )
    return settings.split


def _both(lists: dict[str, ListFile] | None) -> dict[str, ListFile]:
    lists = lists or {}
    for part, name in (("trainval", "train_val_list.txt"), ("test", "test_list.txt")):
        if part not in lists:
            raise DataError(
                f"{name} is not in the data folder",
                "add it, or use data.split=official or data.split=random",
            )
    return lists


def _from_lists(table: pd.DataFrame, lists: dict[str, ListFile]) -> tuple[pd.Series, int]:
    trainval, test = (frozenset(lists[part].image_ids) for part in ("trainval", "test"))
    paths = f"{lists['trainval'].path} and {lists['test'].path}"
    both = sorted(trainval & test)
    if both:
        raise LeakError(
            f"{len(both)} {plural(len(both), 'image is', 'images are')} in both {paths}, "
            f"the first {both[0]}",
            "remove them from one of the two lists",
        )
    ids = table["image_id"]
    in_test, in_trainval = ids.isin(test).to_numpy(), ids.isin(trainval).to_numpy()
    in_none = ~(in_test | in_trainval)
    if in_none.any():
        raise DataError(
            f"{in_none.sum()} {plural(in_none.sum(), 'image')} of the label table "
            f"{plural(in_none.sum(), 'is', 'are')} neither in {paths}, "
            f"the first {ids[in_none].iloc[0]}",
            "complete the lists, or use data.split=official or data.split=random",
        )
    split = pd.Series(np.where(in_test, "test", "train"), index=table.index, dtype="str")
    return split, len(trainval | test) - len(table)


def _use_bundled_validation(patients: pd.Series, split: pd.Series) -> bool:
    """Move the bundled validation patients, where they fit this set; changes ``split``."""
    bundled = patients.isin(nih_val_patients())
    if (bundled & (split == "test")).any():
        return False
    everyone = patients[split != "test"].nunique()
    share = patients[bundled].nunique() / max(1, everyone)
    if not _SENSIBLE_SHARE[0] <= share <= _SENSIBLE_SHARE[1]:
        return False
    split[bundled] = "val"
    return True


def _draw_validation(
    table: pd.DataFrame, split: pd.Series, settings: DataSettings, label_set: LabelSet
) -> None:
    """Draw validation patients from the training patients; changes ``split``."""
    rows = table[split == "train"]
    if rows["patient_id"].nunique() < 2:
        return
    shares = (1 - settings.val_fraction, settings.val_fraction)
    split[rows.index] = _draw(rows, shares, settings.split_seed, label_set)


def _draw(
    table: pd.DataFrame, shares: tuple[float, ...], seed: int, label_set: LabelSet
) -> pd.Series:
    numbers, _, labels = patient_labels(table["patient_id"], label_array(table, label_set.names))
    parts = stratified_parts(labels, shares, seed, "split")
    names = np.array(SPLITS)[parts[numbers]]
    return pd.Series(names.tolist(), index=table.index, dtype="str")


def _check_filled(split: pd.Series, kind: str) -> None:
    empty = [name for name in SPLITS if not (split == name).any()]
    if empty:
        other = (
            "give more patients; where the data set has more, set data.patient_pattern or "
            "data.patient_column (`medsgssl catalog DATA --split train` shows how they were found)"
            if kind in ("random", "folds")
            else "use data.split=random"
        )
        raise DataError(f"the {kind} split leaves {' and '.join(empty)} empty", other)


def fold_of_patients(labels: NDArray[np.bool_], folds: int, seed: int) -> NDArray[np.int64]:
    """Deal patients into folds so that rare diseases are spread over them.

    Args:
        labels: ``(P, L)`` bool, positive where any image of the patient is.
        folds: How many.
        seed: Seed of the draw.

    Returns:
        ``(P,)`` the fold that tests each patient, or ``SELECTION``.
    """
    group = stratified_parts(labels, (1 - SELECTION_SHARE, SELECTION_SHARE), seed, "selection")
    fold = np.full(len(labels), SELECTION, dtype=np.int64)
    tested = group == 0
    fold[tested] = stratified_parts(labels[tested], (1 / folds,) * folds, seed, "folds")
    return fold
