from __future__ import annotations

import pytest

from medsgssl.report.prose import merge_warnings, to_prose, without_paths


def test_warnings_of_one_kind_become_one_that_names_all_diseases() -> None:
    origin = "metrics.json"
    texts = [
        "Mass: only 3 positives",
        "2 images were set aside",
        "Edema: only 9 positives",
    ]
    assert merge_warnings([(text, origin) for text in texts]) == [
        ("Mass, Edema: only 3, 9 positives", origin),
        ("2 images were set aside", origin),
    ]


def test_many_warnings_give_the_range_of_their_numbers_and_every_name() -> None:
    many = [(f"Disease_{n}: only {n + 2} positives", "a/metrics.json") for n in range(13)]
    ((text, _),) = merge_warnings([*many, ("Other: only 99 positives", "b/metrics.json")])
    assert text.endswith(": only 2 to 99 positives")
    assert all(f"Disease {n}" in text for n in range(13))
    assert (
        merge_warnings([many[0], ("X: only 4 positives", "b")])[0][1] == "a/metrics.json and 1 more"
    )


def test_files_of_merged_warnings_are_counted_once() -> None:
    like = [("A: only 1", "a/metrics.json and 6 more"), ("B: only 2", "b/metrics.json")]
    ((_, origin),) = merge_warnings(like)
    assert origin == "a/metrics.json and 7 more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/user/data/nih/a.png is missing", "…/a.png is missing"),
        ("root: /data/xrays/nih128", "root: …/nih128"),
        ("by sex/age and view/position, 1/2", "by sex/age and view/position, 1/2"),
        ("runs/simclr-s0/metrics.json", "runs/simclr-s0/metrics.json"),
    ],
)
def test_absolute_paths_lose_their_folders(text: str, expected: str) -> None:
    assert without_paths(text) == expected


def test_back_ticks_become_code_and_markup_is_escaped() -> None:
    assert to_prose("run `a <b>` & go") == "run <code>a &lt;b&gt;</code> &amp; go"


def test_settings_become_code_whether_or_not_in_back_ticks() -> None:
    text = "raise pretrain.lr or `views.frame`, see data of the study."
    code = "raise <code>pretrain.lr</code> or <code>views.frame</code>, see data of the study."
    assert to_prose(text) == code
