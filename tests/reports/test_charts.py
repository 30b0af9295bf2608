"""Charts: axes, bins, and drawings that say the same in words."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.charts import (
    Curve,
    Dumbbell,
    Interval,
    Share,
    bars,
    bins_of,
    curves,
    difference_histogram,
    dumbbells,
    gate_strip,
    paired_scatter,
    share_bar,
)
from reports.svg import Axis, element, number, round_range, round_step

NUMBERS = st.floats(-1e4, 1e4, allow_nan=False)


@given(st.lists(NUMBERS, min_size=1, max_size=60))
def test_bins_hold_every_value_and_have_an_edge_at_zero(values: list[float]) -> None:
    bins = bins_of(values)
    assert sum(b.count for b in bins) == len(values)
    assert len(bins) <= 27
    assert any(abs(b.low) < 1e-9 or abs(b.high) < 1e-9 for b in bins)
    for left, right in pairwise(bins):
        assert math.isclose(left.high, right.low, abs_tol=1e-9)


@given(NUMBERS, st.floats(1e-3, 1e4))
def test_round_range_covers_and_ticks_lie_inside(low: float, width: float) -> None:
    start, end = round_range(low, low + width)
    assert start <= low + 1e-6 * width
    assert end >= low + width - 1e-6 * width
    axis = Axis(low=start, high=end, start=0, end=100)
    assert 2 <= len(axis.ticks()) <= 9
    assert all(-0.01 <= axis.at(tick) <= 100.01 for tick in axis.ticks())


@given(st.floats(1e-9, 1e9))
def test_round_step_is_at_least_the_step(step: float) -> None:
    assert step * 0.99999 <= round_step(step) <= 2.6 * step


def test_tick_labels_are_written_in_full() -> None:
    labels = [label for _, label in Axis(low=1.65, high=1.75, start=0, end=1).labels(4)]
    assert labels == ["1.650", "1.675", "1.700", "1.725", "1.750"]
    assert [label for _, label in Axis(low=0, high=100, start=0, end=1).labels(4)][1] == "25"


def test_an_axis_without_width_gets_one() -> None:
    low, high = round_range(3.0, 3.0)
    assert low < 3.0 < high


def test_coordinates_are_short() -> None:
    assert [number(x) for x in (1.0, 0.04, -0.04, 12.345)] == ["1", "0", "0", "12.3"]


def test_attributes_and_text_are_escaped() -> None:
    assert str(element("text", "<b>&", class_='a"b')) == (
        '<text class="a&#34;b">&lt;b&gt;&amp;</text>'
    )


CURVE = Curve(label="training", class_="quiet", points=((1.0, 2.0), (2.0, 1.0)))
INTERVAL = Interval(value=0.5, low=0.4, high=0.6)
CHARTS = {
    "curves": curves([CURVE], key="k", title="T", x_name="step", y_name="nats"),
    "one point": curves(
        [Curve(label="a", class_="quiet", points=((0.0, 1.0),))],
        key="k", title="T", x_name="step", y_name="nats",
    ),
    "scatter": paired_scatter(
        [(1.0, 0.5), (1.0, 1.0), (0.2, 0.3)], key="k", title="T", unit="nats",
        smaller_is_better=True,
    ),
    "scatter of equals": paired_scatter(
        [(0.0, 0.0)], key="k", title="T", unit="nats", smaller_is_better=True
    ),
    "histogram": difference_histogram(
        bins_of([-1.0, -0.5, 0.2]), key="k", title="T", x_name="d", smaller_is_better=True
    ),
    "dumbbells": dumbbells(
        [Dumbbell(label="A", base=INTERVAL, adapter=INTERVAL, allowed=0.4),
         Dumbbell(label="B", base=None, adapter=INTERVAL)],
        key="k", title="T", x_name="F1", span=(0.0, 1.0),
    ),
    "gate": gate_strip(
        INTERVAL, 0.5, key="k", title="T", higher_passes=True, class_="pass", zero=True, label="0.5"
    ),
    "shares": share_bar(
        [Share(label="gained", class_="adapter", count=3),
         Share(label="lost", class_="base", count=0)],
        key="k", title="T",
    ),
    "bars": bars([("train", 3.0, "3 s"), ("prepare", 0.0, "0 s")], key="k", title="T"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_well_formed_named_and_within_its_box(name: str) -> None:
    root = ET.fromstring(CHARTS[name])
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "k-title k-desc"
    assert root.findtext("title") == "T"
    assert root.findtext("desc")
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    for rectangle in root.iter("rect"):
        x, y = float(str(rectangle.get("x"))), float(str(rectangle.get("y")))
        assert x >= -0.1
        assert x + float(str(rectangle.get("width"))) <= width + 0.1
        assert y + float(str(rectangle.get("height"))) <= height + 0.1
    assert "nan" not in CHARTS[name]


def test_gate_strip_shades_the_side_that_passes() -> None:
    def passing(higher_passes: bool) -> tuple[float, float]:
        root = ET.fromstring(
            gate_strip(
                INTERVAL, 0.5, key="k", title="T", higher_passes=higher_passes, class_="pass",
                zero=False, label="0.5",
            )
        )  # fmt: skip
        band = next(r for r in root.iter("rect") if r.get("class") == "passing")
        x = float(str(band.get("x")))
        return x, x + float(str(band.get("width")))

    assert passing(True)[0] == pytest.approx(130, abs=1)
    assert passing(False)[1] == pytest.approx(130, abs=1)


def test_scatter_of_many_examples_stays_small() -> None:
    pairs = [(i / 5000, i / 6000) for i in range(5000)]
    chart = paired_scatter(pairs, key="k", title="T", unit="nats", smaller_is_better=True)
    assert len(chart) < 16_000
    assert "556 examples drawn of 5,000" in chart
