"""What the page says of a run in words: title, verdict, warnings, stages, files."""

from __future__ import annotations

import re
from pathlib import Path

from medsgssl.report.run_files import FILES, Results
from medsgssl.runs.artifact import read_artifact
from medsgssl.runs.kept_epoch import KeptEpoch
from medsgssl.runs.metrics_file import Metrics
from medsgssl.utils.formatting import join_names, words

#: So many warnings of one kind are told as one.
_ALIKE = 3
#: Of more than these, the first and the last.
_TOLD = 14
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")


def title(results: Results) -> str:
    """Return the name of the method, and of its twin without pretraining."""
    name = str(results.config.get("method_name", "run"))
    return f"{name}, direct twin" if results.no_pretrain and name != "direct" else name


def data_set(results: Results) -> str:
    """Return the folder of the data set and what kind of data set the audit found there."""
    kind = results.data["catalog"]["source"] if results.data else None
    root = results.setting("data.root")
    folder = Path(str(root)).name if root else ""
    if kind and folder and str(kind).lower() != folder.lower():
        return f"{folder} ({kind})"
    return str(kind or folder or "unnamed data set")


def mask_source(results: Results) -> str:
    """Return which masks the run saw; ``none`` where its method looks at no mask."""
    return results.data["masks"]["source"] if results.data else str(results.setting("masks.source"))


def split_kind(results: Results) -> str:
    """Return how the images were split: as resolved, else as asked for."""
    if results.data:
        return results.data["catalog"]["split"]["kind"]
    return str(results.setting("data.split"))


def verdict(metrics: Metrics) -> str:
    """Say in one sentence for how many diseases the classifier beats chance."""
    with_interval = {
        name: interval
        for name, found in metrics["per_disease"].items()
        if (interval := found["auc_interval"]) is not None
    }
    if not with_interval:
        return "No disease has an interval: nothing can be said about chance."
    above = [name for name, interval in with_interval.items() if interval[0] > 0.5]
    unsure = [words(name) for name in with_interval if name not in above]
    total = len(metrics["per_disease"])
    text = f"Better than chance, with an interval above 0.5, for {len(above)} of {total} diseases"
    text += f"; not for {join_names(unsure, most=4)}" if unsure else ""
    without = total - len(with_interval)
    return f"{text}; {without} without an interval." if without else f"{text}."


def best_epoch(results: Results) -> tuple[int, float] | None:
    """Return the epoch that fine-tuning kept, as the log counts, and its validation mean AUC.

    Runs without ``kept_epoch.json`` are of a version that kept the highest validation mean AUC.
    """
    path = results.folder.kept_epoch
    if path.is_file():
        kept = read_artifact(path, KeptEpoch, "medsgssl finetune")
        for score in kept["epochs"]:
            if score["epoch"] == kept["epoch"]:
                return score["epoch"], score["val_mean_auc"]
        return None
    log = results.finetune_log
    if log is None or "val_mean_auc" not in log or log["val_mean_auc"].isna().all():
        return None
    row = int(log["val_mean_auc"].to_numpy(dtype=float, na_value=-1.0).argmax())
    return int(log["epoch"].iloc[row]), float(log["val_mean_auc"].iloc[row])


def warnings(results: Results) -> list[tuple[str, str]]:
    """Return every warning of the run with the file it comes from."""
    origins = {
        "data.json": results.data["warnings"] if results.data else [],
        "pretrain_warnings.json": results.pretrain_warnings,
        "metrics.json": results.metrics["warnings"] if results.metrics else [],
    }
    return [
        (text, origin)
        for origin, texts in origins.items()
        for text in _merged([str(text) for text in texts])
    ]


def _merged(texts: list[str]) -> list[str]:
    """Make one text of three or more that differ in their name and numbers alone.

    ``Mass: only 3 positives`` and so on become ``Mass, Nodule, Edema: only 3, 4, 9 positives``.
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        rest = text.partition(": ")[2]
        groups.setdefault(_NUMBER.sub("0", rest) or text, []).append(text)
    return [
        text
        for like in groups.values()
        for text in ([_merge(like)] if len(like) >= _ALIKE else like)
    ]


def _merge(like: list[str]) -> str:
    if len(like) > _TOLD:
        return f"{like[0]}; {len(like) - 2} more of this kind; the last: {like[-1]}"
    parts = [text.partition(": ") for text in like]
    # Every other piece is a number, which all may share.
    pieces = zip(*(_NUMBER.split(rest) for _, _, rest in parts), strict=True)
    rest = "".join(piece[0] if len(set(piece)) == 1 else ", ".join(piece) for piece in pieces)
    return f"{', '.join(words(name) for name, _, _ in parts)}: {rest}"


def stage_rows(results: Results) -> list[tuple[str, float | None, str]]:
    """Return name, seconds and time of completion of every stage that is complete."""
    return [
        (name, entry.get("seconds"), str(entry.get("finished", "")))
        for name, entry in results.stages.items()
    ]


def file_rows(results: Results) -> list[tuple[str, str, int | None]]:
    """Return name, meaning and size of each file; the size is None for one that is not there."""
    folder = results.folder.path
    return [
        (name, what, (folder / name).stat().st_size if (folder / name).is_file() else None)
        for name, (_, what) in FILES.items()
    ]
