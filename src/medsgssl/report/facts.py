"""What the page says of a run in words: title, verdict, warnings, stages, files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsgssl.report.page import listed, words
from medsgssl.report.results import FILES, Results


def title(results: Results) -> str:
    """Return the name of the method, and of its twin without pretraining."""
    name = str(results.config.get("name", "run"))
    return f"{name}, direct twin" if results.direct and name != "direct" else name


def data_set(results: Results) -> str:
    """Return the name of the data set: from the audit, else that of its folder."""
    found = (results.data or {}).get("catalog", {}).get("source")
    root = results.setting("data.root")
    return str(found) if found else Path(str(root)).name if root else "unnamed data set"


def mask_source(results: Results) -> str:
    """Return which masks the run saw; ``none`` where its method looks at no mask."""
    found = (results.data or {}).get("masks", {}).get("source")
    return str(found or results.setting("masks.source"))


def verdict(metrics: Mapping[str, Any]) -> str:
    """Say in one sentence for how many diseases the classifier beats chance."""
    with_interval = {
        name: found
        for name, found in metrics["per_disease"].items()
        if found["auc_interval"] is not None
    }
    if not with_interval:
        return "No disease has an interval: nothing can be said about chance."
    above = [name for name, found in with_interval.items() if found["auc_interval"][0] > 0.5]
    unsure = [words(name) for name in with_interval if name not in above]
    total = len(metrics["per_disease"])
    text = f"Better than chance, with an interval above 0.5, for {len(above)} of {total} diseases"
    text += f"; not for {listed(unsure)}" if unsure else ""
    without = total - len(with_interval)
    return f"{text}; {without} without an interval." if without else f"{text}."


def best_epoch(results: Results) -> tuple[int, float] | None:
    """Return the epoch of the highest validation mean AUC, as the log counts, and that AUC."""
    log = results.finetune_log
    if log is None or "val_mean_auc" not in log or log["val_mean_auc"].isna().all():
        return None
    row = int(log["val_mean_auc"].to_numpy(dtype=float, na_value=-1.0).argmax())
    return int(log["epoch"].iloc[row]), float(log["val_mean_auc"].iloc[row])


def warnings(results: Results) -> list[tuple[str, str]]:
    """Return every warning of the run with the file it comes from."""
    found = [(text, "data.json") for text in (results.data or {}).get("warnings", [])]
    found += [(text, "pretrain_warnings.json") for text in _condensed(results.pretrain_warnings)]
    found += [(text, "metrics.json") for text in (results.metrics or {}).get("warnings", [])]
    return [(str(text), origin) for text, origin in found]


def _condensed(texts: list[str], most: int = 4) -> list[str]:
    """Keep the first and the last of many like warnings, one per epoch as they come."""
    if len(texts) <= most:
        return texts
    return [*texts[: most - 1], f"… {len(texts) - most} more of this kind …", texts[-1]]


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
