"""Numbers as text: only the digits that an interval supports."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.number_text import (
    MINUS,
    counted,
    decimals_for,
    fixed,
    interval_text,
    percent,
    plain,
    scale_of,
    seconds,
    significant,
    size,
    value_text,
)

RAW = scale_of("nats per token")
SHARE = scale_of("share of items")


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.412, 0.398, 0.426, "0.412 [0.398, 0.426]"),
        (0.41234, 0.1, 0.7, "0.41 [0.10, 0.70]"),
        (1234.5, 1200.0, 1270.0, "1,234 [1,200, 1,270]"),
        (0.0, 0.0, 0.0, "0.000 [0.000, 0.000]"),
        (1.5, -math.inf, math.inf, f"1.500 [{MINUS}∞, ∞]"),
    ],
)
def test_interval(value: float, low: float, high: float, text: str) -> None:
    assert interval_text(value, low, high, RAW) == text


def test_shares_are_percentages_and_their_differences_points() -> None:
    assert interval_text(0.836, 0.785, 0.879, SHARE) == "83.6% [78.5, 87.9]"
    assert interval_text(0.0, 0.0, 0.0145, SHARE) == "0.00% [0.00, 1.45]"
    difference = interval_text(-0.02, -0.05, 0.01, SHARE, difference=True)
    assert difference == f"{MINUS}2.0 points [{MINUS}5.0, +1.0]"
    assert SHARE.unit == "% of items"


def test_value_follows_its_interval() -> None:
    assert value_text(1.75512, RAW, half_width=0.03) == "1.755"
    assert value_text(1.75512, RAW) == "1.76"
    assert value_text(0.5, SHARE, half_width=0.05) == "50.0%"


@given(st.floats(1e-6, 1e6))
def test_two_significant_digits_of_the_half_width_show(half_width: float) -> None:
    decimals = decimals_for(half_width)
    assert 0 <= decimals <= 6
    if 1e-5 < half_width < 10:
        assert 10 <= round(half_width * 10**decimals, 6) <= 100


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(0, 6))
def test_fixed_never_says_minus_zero(value: float, decimals: int) -> None:
    text = fixed(value, decimals, signed=True)
    if not any(digit in text for digit in "123456789"):
        assert text[0] == "0"
    assert "-" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1,234"), (0.012345, "0.0123"), (-0.5, f"{MINUS}0.500"),
     (1e-9, "1.00e-09"), (math.inf, "∞")],
)  # fmt: skip
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


def test_plain_adds_no_digit() -> None:
    assert plain(0.05) == "0.05"
    assert plain(3e-4) == "0.0003"
    assert plain(-2.0, signed=True) == f"{MINUS}2"


def test_counts_sizes_times() -> None:
    assert counted(1, "example") == "1 example"
    assert counted(1546, "example") == "1,546 examples"
    assert percent(1, 3) == "33.3%"
    assert percent(0, 0) == "\N{EN DASH}"
    assert seconds(0.42) == "0.420 s"
    assert seconds(125.2) == "2 min 05 s"
    assert seconds(11_530) == "3 h 12 min"
    assert size(812) == "812 B"
    assert size(941_203_456) == "898 MiB"
