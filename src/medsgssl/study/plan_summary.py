"""A plan in words, for `study run --dry-run`: a table of its runs, and what is fixed beforehand."""

from __future__ import annotations

from medsgssl.data.mask_cache import CONTROLS
from medsgssl.study.plan import StudyPlan
from medsgssl.utils.formatting import counted, join_names, words


def plan_table(plan: StudyPlan) -> list[str]:
    """Return one line per run to be evaluated, under a heading; columns are never cut.

    In this order: method, encoder, seed or fold, label fraction, control (its masks where they
    carry no anatomy), the arm that it is judged against, and the run's name.
    """
    unit = "fold" if plan.folds is not None else "seed"
    rows = [("method", "encoder", unit, "labels", "control", "judged against", "run")]
    for run in plan.runs:
        if run.pretrains:
            continue
        config = plan.config(run)
        against = next(
            (one.against for one in plan.family if one.arm == run.arm and one.kind == "control"),
            "-",
        )
        method = run.method
        if run.no_pretrain and run.method != "direct":
            method += " without pretraining"
        elif run.without:
            method += f" without {run.without}"
        control = run.masks if run.masks in CONTROLS else "-"
        share = f"{100 * run.fraction:g} %"
        row = (method, config.encoder.name, str(run.seed), share, control, against, run.name)
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def describe_plan(plan: StudyPlan) -> list[str]:
    """Say what a plan fixes before anything runs."""
    family = [one for one in plan.family if one.kind == "control"]
    lines = []
    if shared := sum(run.pretrains for run in plan.runs):
        lines.append(
            f"{counted(len(plan.runs), 'run')} in all: those above, and {shared} that pretrain "
            "once for all label fractions of a method."
        )
    lines += [f"Primary comparisons ({len(family)}), each by its difference in mean AUC:"]
    lines += [
        f"  {one.arm} against {one.against}, {100 * one.fraction:g} % of the labels"
        for one in family
    ]
    if plan.primary_diseases is not None:
        names = (
            join_names(list(map(words, plan.primary_diseases))) or "none: nothing will be judged"
        )
        lines.append(f"Primary mean over {counted(len(plan.primary_diseases), 'disease')}: {names}")
    lines.append(f"Margin of equivalence: {plan.margin:g}. Hash of the plan: {plan.hash}")
    if plan.mask_recipe is not None:
        lines.append(f"Masks of every run (masks.recipe=auto): {plan.mask_recipe}")
    if plan.folds is not None:
        lines.append(
            f"{plan.folds} folds by patient replace the list files and data.split; a selection "
            "group of 10 % of the patients is never tested."
        )
    return lines
