from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.normalization import IGNORABLE, normalized, plain_number


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,000", "1000.0"),
        ("It costs 1,234,567.50.", "It costs 1234567.5."),
        ("-0.50", "\N{MINUS SIGN}.5"),
        ("007", "7"),
        ("0.0", "-0"),
        ("x = 3.10", "x = 3.1"),
    ],
)
def test_numbers_are_the_same_however_they_are_written(one: str, other: str) -> None:
    assert normalized(one, ["number_format"]) == normalized(other, ["number_format"])
    assert normalized(one) != normalized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,5", "15"),
        ("3.5", "35"),
        ("version 1.2.30", "version 1.2.3"),
        ("x10", "x1"),
        ("1.0e5", "1e5"),
        ("10,00", "1000"),
        ("-5", "5"),
        ("10-5", "10 5"),
    ],
)
def test_other_numbers_and_names_stay_apart(one: str, other: str) -> None:
    assert normalized(one, ["number_format"]) != normalized(other, ["number_format"])


def test_punctuation_does_not_eat_decimal_points() -> None:
    both = ["number_format", "punctuation"]
    assert normalized("3.50 (about)!", both) == normalized("3.5 about", both) == "3.5 about"
    assert normalized("35", both) != normalized("3.5", both)
    assert normalized("-3", both) != normalized("3", both)
    assert normalized("3.5", ["punctuation"]) == "35"


def test_each_thing_is_ignored_only_where_it_is_declared() -> None:
    text = "The  Cat, a 1,000.0"
    assert normalized(f" {text}\n") == text
    assert normalized(text, ["case"]) == "the  cat, a 1,000.0"
    assert normalized(text, ["whitespace"]) == "The Cat, a 1,000.0"
    assert normalized(text, ["punctuation"]) == "The  Cat a 10000"
    assert normalized(text, ["number_format"]) == "The  Cat, a 1000"
    assert normalized(text, ["articles", "whitespace"]) == "The Cat, 1,000.0"
    assert normalized(text, ["case", "articles", "whitespace"]) == "cat, 1,000.0"
    assert normalized("cafe\u0301") == "caf\u00e9"


@given(st.text(), st.sets(st.sampled_from(IGNORABLE)))
def test_white_space_around_a_text_never_counts(text: str, ignore: set[str]) -> None:
    assert normalized(f"\n {text}\t", ignore) == normalized(text, ignore)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4))
def test_a_number_in_its_plain_form_is_the_same_number(number: Decimal) -> None:
    for written in (f"{number:f}", f"{number:,f}"):
        assert Decimal(plain_number(written)) == number
        assert plain_number(plain_number(written)) == plain_number(written)
        assert normalized(written, ["number_format"]) == plain_number(written)
