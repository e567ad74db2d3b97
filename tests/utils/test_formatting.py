"""What people read: counts agree with their nouns."""

import pytest

from medsgssl.utils.formatting import counted, plural


@pytest.mark.parametrize(("value", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_a_noun_agrees_with_its_count(value, text):
    assert counted(value, "run") == text


@pytest.mark.parametrize(("value", "text"), [(0, "boxes are"), (1, "box is"), (2, "boxes are")])
def test_words_that_take_no_s_are_given_for_many(value, text):
    assert plural(value, "box is", "boxes are") == text
