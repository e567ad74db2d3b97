"""Who the patient of an image is, where no table says so: one definition, always shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from medsgssl.errors import ConfigError, DataError
from medsgssl.runs.data_summary import PatientSummary
from medsgssl.utils.formatting import plural

# Published layouts, by what their paths look like.
_KNOWN = (
    ("the folder patientNNNNN of CheXpert", re.compile(r"(?:^|/)(patient\d+)(?=/)")),
    ("the folder pNNNNNNNN of MIMIC-CXR", re.compile(r"(?:^|/)(p\d{8})(?=/)")),
    ("the number before _ in the names of PadChest", re.compile(r"(?:^|/)(\d{20,})_[^/]*$")),
)
_BY_NAME = "the path up to the first _ or / after a digit, without folders of splits and batches"
# Folders that hold a part of a data set and not a patient.
_PART = re.compile(
    r"(?i)(?:images?|imgs?|pngs?|jpe?gs?|dicoms?|dcm|files?|train(?:ing)?|val(?:id(?:ation)?)?|"
    r"test(?:ing)?|batch|part|fold|subset|split|archive)(?:[ _.-]*\d*)"
)
_FEW_IMAGES = 20


@dataclass(frozen=True)
class Patients:
    """The patient of each image.

    Attributes:
        ids: (N,) text.
        rule: How they were found, for people.
        example: One image and its patient.
    """

    ids: tuple[str, ...]
    rule: str
    example: tuple[str, str]

    def series(self) -> pd.Series:
        """Return the ids as a column."""
        return pd.Series(list(self.ids), dtype="str")


def patients_of_paths(paths: Sequence[str], pattern: str | None) -> Patients:
    """Find the patients of images by their paths.

    Args:
        paths: Paths below the data folder, with ``/``.
        pattern: ``data.patient_pattern``: a regular expression that is searched in each path; the
            patient is its first group, or the whole match. None: the rules of published layouts,
            else the beginning of the name.

    Raises:
        ConfigError: The pattern is not a regular expression.
        DataError: The pattern is not found in a path.
    """
    if pattern is not None:
        ids = [_matched(path, pattern) for path in paths]
        return _patients(paths, ids, f"data.patient_pattern={pattern}")
    ids = []
    rules: dict[str, int] = {}
    for path in paths:
        rule, patient = _by_rules(path)
        ids.append(patient)
        rules[rule] = rules.get(rule, 0) + 1
    ordered = sorted(rules, key=lambda rule: -rules[rule])
    return _patients(paths, ids, "; else ".join(ordered))


def summarize_patients(patients: pd.Series, rule: str, example: tuple[str, str]) -> PatientSummary:
    """Return what is shown of the rule."""
    return {
        "rule": rule,
        "patients": int(patients.nunique()),
        "images": len(patients),
        "example": f"{example[0]} -> {example[1]}" if example[0] else "",
    }


def patient_warning(summary: PatientSummary) -> str | None:
    """Question a rule that finds suspiciously few patients."""
    images, patients = summary["images"], summary["patients"]
    if images < _FEW_IMAGES or patients * _FEW_IMAGES > images:
        return None
    return (
        f"only {patients:,} {plural(patients, 'patient')} in {images:,} images, by "
        f"{summary['rule']} (for example {summary['example']}): if these are not the "
        "patients, set data.patient_pattern or data.patient_column"
    )


def _patients(paths: Sequence[str], ids: Sequence[str], rule: str) -> Patients:
    example = (paths[-1], ids[-1]) if paths else ("", "")
    return Patients(tuple(ids), rule, example)


def _matched(path: str, pattern: str) -> str:
    try:
        match = re.search(pattern, path)
    except re.error as error:
        raise ConfigError(
            f"data.patient_pattern={pattern!r} is not a regular expression: {error}",
            r"give one whose first group is the patient, e.g. '^(\d+)_'",
        ) from error
    patient = (match.group(1) if match.re.groups else match.group()) if match else None
    if not patient:
        raise DataError(
            f"data.patient_pattern={pattern!r} finds no patient in {path!r}",
            "give a pattern that fits every image path below the data folder",
        )
    return patient


def _by_rules(path: str) -> tuple[str, str]:
    for rule, pattern in _KNOWN:
        if match := pattern.search(path):
            return rule, match.group(1)
    *folders, name = path.split("/")
    kept = [folder for folder in folders if not _PART.match(folder)]
    text = "_".join([*kept, re.sub(r"\.[^.]*$", "", name)])
    match = re.match(r"\D*\d[^_]*", text)
    return _BY_NAME, match.group() if match else text
