"""``data.json``: what the images, labels, splits and lung masks of a run are."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from medsgssl.runs.artifact import read_artifact


class PatientSummary(TypedDict):
    """How the patient of an image was found."""

    rule: str
    patients: int
    images: int
    example: str  # "image -> patient"


class ColumnSummary(TypedDict):
    """What was understood of a table that describes images."""

    found: dict[str, str]  # what a column stands for -> its name
    absent: list[str]  # what no column stands for, e.g. "sex"
    not_understood: dict[str, int]  # values that were given and could not be read, by column
    not_used: list[str]


class LabelsSummary(TypedDict):
    """Where the labels of a data set come from, as its reader tells."""

    label_revision: str  # "none" where there are no labels
    labels_file: NotRequired[str]
    other_labels_files: NotRequired[list[str]]
    labels_hash: NotRequired[str]
    ages_set_missing: NotRequired[int]
    patients: NotRequired[PatientSummary]
    columns: NotRequired[ColumnSummary]
    remarks: NotRequired[list[str]]  # sentences that the user should read


class SplitSummary(TypedDict):
    """How images were split."""

    kind: str  # "official", "lists", "random", "train"
    seed: int | None  # None where nothing was drawn
    validation: str  # "bundled", "drawn", "none"
    listed_without_row: NotRequired[int]


class FormatCount(TypedDict):
    """Files of one format, and whether they can be decoded on this machine."""

    format: str  # "PNG", "DICOM (JPEG 2000)"
    files: int
    transfer_syntax: str  # UID of the compression of DICOM; "" otherwise
    readable: bool
    install: str  # what brings the decoder that is missing; "" where none is


class FileCounts(TypedDict):
    """Image files by status."""

    rows: int
    usable: int
    missing: int
    unreadable: int
    lateral: int
    not_in_table: int
    not_in_table_first: list[str]
    other_files: NotRequired[dict[str, int]]  # files that are no image, by suffix
    passed_over: NotRequired[dict[str, int]]  # by reason
    links: NotRequired[int]  # linked folders that were followed
    links_first: NotRequired[list[str]]
    formats: NotRequired[list[FormatCount]]  # most frequent first
    set_aside: NotRequired[dict[str, int]]  # unreadable files by reason
    rotation_tags: NotRequired[int]  # images with a rotation tag, which is not followed


class SplitCounts(TypedDict):
    """Size of one split; ``positives`` by class, empty without labels."""

    patients: int
    images: int
    usable: int
    positives: dict[str, int]


class DuplicateCounts(TypedDict):
    """Images with the same content."""

    images: int
    groups: int
    groups_across_patients: int
    groups_across_splits: int
    groups_of_other_labels: NotRequired[int]  # identical images whose labels differ
    other_labels_first: NotRequired[list[str]]
    across_splits_first: list[str]


class Audit(TypedDict):
    """What a data set holds and lacks."""

    files: FileCounts
    labels: dict[str, int]  # positive images by class, and those of none
    unknown_labels: NotRequired[dict[str, int]]  # by class, where there are any
    splits: dict[str, SplitCounts]
    duplicates: DuplicateCounts | None  # None where contents were not hashed
    warnings: list[str]


class CatalogOrigin(LabelsSummary):
    """What a catalog was made from."""

    source: str
    labeled: bool
    classes: NotRequired[list[str]]  # in display order
    intensity: str
    split: SplitSummary
    files_fingerprint: str
    inputs_fingerprint: str
    max_pixels: NotRequired[int]


class CatalogSummary(CatalogOrigin, Audit):
    """What is known of a catalog: its origin and its audit."""


class MaskSummary(TypedDict):
    """Which lung masks a run saw."""

    source: str  # "none" where the method looks at no mask
    identity: str
    recipe: NotRequired[str]
    recipe_reason: NotRequired[str]  # why masks.recipe=auto stands for it
    counts: NotRequired[dict[str, int]]  # by status: ok, doubtful, failed
    whole_image_instead: NotRequired[int]
    quality_of_usable: NotRequired[dict[str, int]]  # by tenth of the quality


class Overlap(TypedDict):
    """Images of a further data set that were set aside."""

    held_out: int
    already_there: int


class ExtraDataset(TypedDict):
    """A further data set that pretraining saw."""

    kind: str
    fingerprint: str
    images: int
    trained_on: int
    set_aside_as_held_out: int
    already_in_the_first: int
    mask_source: str
    masks_failed: int


class LabelsUsed(TypedDict):
    """What ``data.label_fraction`` leaves of the training split."""

    patients: int
    images: int


class DataSummary(TypedDict):
    """Everything that ``data.json`` holds."""

    catalog: CatalogSummary
    masks: MaskSummary
    warnings: list[str]
    also: NotRequired[dict[str, ExtraDataset]]
    labels_used: NotRequired[LabelsUsed]
    shared: NotRequired[Overlap]


def read_data_summary(path: Path) -> DataSummary | None:
    """Read ``data.json``; None where it is not there.

    Raises:
        DataError: It is damaged or of another version.
    """
    return read_artifact(path, DataSummary, "`medsgssl run`") if path.is_file() else None
