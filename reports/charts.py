"""Charts: functions from data to an SVG string, in the same bytes for the same data.

Every chart takes a ``key`` that is unique in its page, and a ``title`` that says what to see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.number_text import counted, percent, significant
from reports.svg import (
    CHARACTER,
    Axis,
    Plot,
    box,
    dots,
    is_point,
    joined,
    legend,
    line,
    picture,
    plot,
    polyline,
    round_range,
    round_step,
    text,
)

WIDTH = 460.0
HEIGHT = 300.0
SQUARE = 380.0
# Dots drawn in a scatter; beyond it every k-th is drawn, which keeps the chart near 10 kB.
MOST_DOTS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One line of a chart: its label, the class of its colour and its points (x, y)."""

    label: str
    class_: str
    points: tuple[tuple[float, float], ...]
    marked: bool = False


def curves(lines: Sequence[Curve], *, key: str, title: str, x_name: str, y_name: str) -> Markup:
    """Lines over a common x axis; ``marked`` ones show a dot at each point.

    The y axis starts at 0 unless that would flatten the lines.
    """
    points = [point for curve in lines for point in curve.points]
    frame = plot(
        x=(0.0, max(x for x, _ in points) or 1.0),
        y=_span([y for _, y in points]),
        width=WIDTH,
        height=HEIGHT,
        whole_x=True,
    )
    body = [
        frame.frame(x_name, y_name),
        legend([(c.class_, c.label) for c in lines], right=WIDTH - 12, y=12),
        *[_curve(frame, curve) for curve in lines],
    ]
    ends = "; ".join(
        f"{c.label} from {significant(c.points[0][1])} to {significant(c.points[-1][1])}"
        for c in lines
    )
    return picture(
        key=key, title=title, description=ends, width=WIDTH, height=HEIGHT, body=joined(body)
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The range of an axis: from 0, unless that would press what there is to see together."""
    lowest, highest = min(values), max(values)
    from_zero = 0.0 <= lowest < 0.4 * highest
    return round_range(0.0 if from_zero else lowest, highest)


def _curve(frame: Plot, curve: Curve) -> Markup:
    pixels = [(frame.x.at(x), frame.y.at(y)) for x, y in curve.points]
    drawn = polyline(pixels, f"curve {curve.class_}")
    return drawn + dots(pixels, f"knot {curve.class_}") if curve.marked else drawn


def paired_scatter(
    pairs: Sequence[tuple[float, float]],
    *,
    key: str,
    title: str,
    unit: str,
    smaller_is_better: bool,
) -> Markup:
    """One dot an example, base value across and adapter value up, with the diagonal of no change.

    Dots on the better side of the diagonal have the adapter's colour, the others the base's.
    """
    span = _span([value for pair in pairs for value in pair])
    frame = plot(x=span, y=span, width=SQUARE, height=SQUARE)
    step = math.ceil(len(pairs) / MOST_DOTS)
    shown = pairs[::step]
    better = [p for p in shown if (p[1] < p[0]) == smaller_is_better and p[0] != p[1]]
    worse = [p for p in shown if (p[1] < p[0]) != smaller_is_better or p[0] == p[1]]
    body = [
        frame.frame(f"base, {unit}", f"adapter, {unit}"),
        line(*_corner(frame, span[0]), *_corner(frame, span[1]), "diagonal"),
        *[
            dots([(frame.x.at(x), frame.y.at(y)) for x, y in group], f"dot {class_}")
            for group, class_ in ((better, "adapter"), (worse, "base"))
        ],
        text(frame.x.end - 14, frame.y.end + 6, "no change", "note", "end"),
    ]
    drawn = f"{counted(len(shown), 'example')} drawn of {len(pairs):,}"
    return picture(
        key=key,
        title=title,
        description=f"Base across, adapter up, {unit}. {drawn}.",
        width=frame.width,
        height=frame.height,
        body=joined(body),
    )


def _corner(frame: Plot, value: float) -> tuple[float, float]:
    return frame.x.at(value), frame.y.at(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bar of a histogram: values from ``low`` to below ``high``."""

    low: float
    high: float
    count: int


def bins_of(values: Sequence[float], most: int = 24) -> list[Bin]:
    """At most about ``most`` bins of a round width, with an edge at zero."""
    low, high = min(0.0, *values), max(0.0, *values)
    step = round_step((high - low) / most) if not is_point(low, high) else 1.0
    first, last = math.floor(low / step + 1e-9), max(1, math.ceil(high / step - 1e-9))
    counts = [0] * (last - first)
    for value in values:
        counts[min(len(counts) - 1, max(0, math.floor(value / step) - first))] += 1
    return [
        Bin(low=(first + i) * step, high=(first + i + 1) * step, count=n)
        for i, n in enumerate(counts)
    ]


def difference_histogram(
    bins: Sequence[Bin], *, key: str, title: str, x_name: str, smaller_is_better: bool
) -> Markup:
    """How many examples changed by how much; bars on the better side have the adapter's colour."""
    frame = plot(
        x=(bins[0].low, bins[-1].high),
        y=_count_span([b.count for b in bins]),
        width=WIDTH,
        height=HEIGHT,
        whole_y=True,
    )
    zero = frame.x.at(0.0)
    bars = [
        _bar(frame, b, "adapter" if (b.high <= 0) == smaller_is_better else "base")
        for b in bins
        if b.count
    ]
    body = [
        frame.frame(x_name, "examples", y_most=4),
        *bars,
        line(zero, frame.y.start, zero, frame.y.end, "zero"),
        *_side_names(frame, zero, smaller_is_better=smaller_is_better),
    ]
    total = counted(sum(b.count for b in bins), "example")
    return picture(
        key=key,
        title=title,
        description=f"Histogram of {total}, {x_name}.",
        width=WIDTH,
        height=HEIGHT,
        body=joined(body),
    )


def _count_span(counts: Sequence[int]) -> tuple[float, float]:
    """From 0 to a round number above the highest bar."""
    return round_range(0.0, max(4, *counts), most=4)


def _bar(frame: Plot, bar: Bin, class_: str) -> Markup:
    left, right = frame.x.at(bar.low), frame.x.at(bar.high)
    top = frame.y.at(bar.count)
    gap = 1.0 if right - left > 4 else 0.0  # noqa: PLR2004 - pixels
    return box(left, top, right - left - gap, frame.y.start - top, f"bar {class_}")


def _side_names(frame: Plot, zero: float, *, smaller_is_better: bool) -> list[Markup]:
    names = ("adapter better", "base better")
    left, right = names if smaller_is_better else names[::-1]
    room = len("adapter better") * CHARACTER + 8
    parts = []
    if zero - frame.x.start > room:
        parts.append(text(zero - 6, frame.y.end + 2, left, "note", "end"))
    if frame.x.end - zero > room:
        parts.append(text(zero + 6, frame.y.end + 2, right, "note", "start"))
    return parts


def length_histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    key: str,
    title: str,
    x_name: str,
    limit: tuple[float, str] | None = None,
) -> Markup:
    """Bars between given ``edges`` (one more than ``counts``).

    ``limit`` is a value that nothing may exceed, with its label: a line, or an arrow towards it
    where it lies too far to the right.
    """
    bins = [
        Bin(low=low, high=high, count=n)
        for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    right = bins[-1].high
    near = limit is not None and limit[0] <= _NEAR * right
    frame = plot(
        x=(bins[0].low, max(right, limit[0]) if limit is not None and near else right),
        y=_count_span(counts),
        width=WIDTH,
        height=HEIGHT,
        whole_x=True,
        whole_y=True,
        left=54,
    )
    body = [frame.frame(x_name, "examples", y_most=4)]
    body += [_bar(frame, b, "neutral") for b in bins if b.count]
    words = f"Histogram of {counted(sum(counts), 'example')}, {x_name}"
    if limit is not None:
        body.append(_limit(frame, limit[0], limit[1], near=near))
        words += f"; {limit[1]}"
    return picture(
        key=key, title=title, description=f"{words}.", width=WIDTH, height=HEIGHT, body=joined(body)
    )


# A limit is drawn where it is at most this many times the highest value; else only pointed at.
_NEAR = 1.5


def _limit(frame: Plot, value: float, label: str, *, near: bool) -> Markup:
    if not near:
        return text(frame.x.end, frame.y.end - 14, f"{label} →", "tick strong", "end")
    x = frame.x.at(value)
    return line(x, frame.y.start, x, frame.y.end, "threshold") + text(
        x + 2, frame.y.end - 14, label, "tick strong", "end"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dumbbell:
    """One metric of base and adapter; ``allowed`` is the worst that a gate's margin allows."""

    label: str
    base: Interval | None
    adapter: Interval | None
    allowed: float | None = None


_ROW = 34.0


def dumbbells(
    rows: Sequence[Dumbbell], *, key: str, title: str, x_name: str, span: tuple[float, float]
) -> Markup:
    """Base and adapter of several metrics on one scale, with their intervals.

    A shaded band runs from a gate's margin to the base's value.
    """
    left = 18 + CHARACTER * max(len(row.label) for row in rows)
    height = 34 + _ROW * len(rows) + 40
    axis = Axis(low=span[0], high=span[1], start=left, end=WIDTH - 16)
    bottom = height - 40
    grid = [
        line(axis.at(tick), 26, axis.at(tick), bottom, "grid")
        + text(axis.at(tick), bottom + 18, label)
        for tick, label in axis.labels()
    ]
    body = [
        *grid,
        text(axis.end, height - 4, x_name, "axis-name", "end"),
        legend([("base", "base"), ("adapter", "adapter")], right=axis.end, y=12),
        *[_dumbbell(axis, row, 34 + _ROW * (i + 0.5)) for i, row in enumerate(rows)],
    ]
    return picture(
        key=key,
        title=title,
        description="; ".join(_dumbbell_words(row) for row in rows),
        width=WIDTH,
        height=height,
        body=joined(body),
    )


def _dumbbell(axis: Axis, row: Dumbbell, y: float) -> Markup:
    parts = [text(axis.start - 10, y + 4, row.label, "label", "end")]
    if row.allowed is not None and row.base is not None:
        start, end = axis.at(row.allowed), axis.at(row.base.value)
        parts.append(box(start, y - 11, end - start, 22, "band"))
    if row.base is not None and row.adapter is not None:
        parts.append(line(axis.at(row.base.value), y, axis.at(row.adapter.value), y, "handle"))
    for interval, class_ in ((row.base, "base"), (row.adapter, "adapter")):
        if interval is not None:
            low, high = axis.at(interval.low), axis.at(interval.high)
            parts.append(line(low, y, high, y, f"range {class_}"))
            parts.append(dots([(axis.at(interval.value), y)], f"bell {class_}"))
    return joined(parts)


def _dumbbell_words(row: Dumbbell) -> str:
    ends = [
        f"{name} {significant(interval.value)}"
        for name, interval in (("base", row.base), ("adapter", row.adapter))
        if interval is not None
    ]
    return f"{row.label}: {', '.join(ends)}"


def gate_strip(
    interval: Interval,
    threshold: float,
    *,
    key: str,
    title: str,
    higher_passes: bool,
    class_: str,
    zero: bool,
    label: str,
) -> Markup:
    """An interval against the line it must clear; the side that passes is shaded.

    ``zero`` marks no difference; ``label`` is the threshold in words.
    """
    width, height, y = 260.0, 62.0, 24.0
    shown = [interval.low, interval.high, threshold, *([0.0] if zero else [])]
    pad = (max(shown) - min(shown)) * 0.12 or abs(threshold) * 0.1 or 0.5
    axis = Axis(low=min(shown) - pad, high=max(shown) + pad, start=4, end=width - 4)
    at = axis.at(threshold)
    passing = box(at, 6, (axis.end if higher_passes else axis.start) - at, 36, "passing")
    body = [passing, line(axis.start, 42, axis.end, 42, "axis")]
    half = len(label) * CHARACTER / 2
    label_x = min(max(at, half), width - half)
    if zero:
        body.append(line(axis.at(0.0), 6, axis.at(0.0), 42, "zero"))
        if abs(axis.at(0.0) - label_x) > half + 12:
            body.append(text(axis.at(0.0), 57, "0"))
    body += [
        line(at, 2, at, 46, "threshold"),
        text(label_x, 57, label, "tick strong"),
        line(axis.at(interval.low), y, axis.at(interval.high), y, f"whisker {class_}"),
        *[
            line(axis.at(end), y - 5, axis.at(end), y + 5, f"whisker {class_}")
            for end in (interval.low, interval.high)
        ],
        dots([(axis.at(interval.value), y)], f"bell {class_}"),
    ]
    side = "above" if higher_passes else "below"
    return picture(
        key=key,
        title=title,
        description=f"The interval passes where it lies wholly {side} {label}.",
        width=width,
        height=height,
        body=joined(body),
        magnified=1.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One part of a whole: its label, its colour class and its count."""

    label: str
    class_: str
    count: int


def share_bar(shares: Sequence[Share], *, key: str, title: str) -> Markup:
    """A whole cut into its parts, each labelled with its count where there is room."""
    width, height = WIDTH, 44.0
    total = sum(share.count for share in shares)
    parts: list[Markup] = []
    x = 0.0
    for share in shares:
        length = width * share.count / total
        if share.count:
            parts.append(box(x, 4, max(1.0, length - 2), 36, f"part {share.class_}"))
        if length > len(f"{share.count:,}") * CHARACTER + 10:
            parts.append(text(x + length / 2 - 1, 27, f"{share.count:,}", f"inside {share.class_}"))
        x += length
    words = "; ".join(f"{s.label} {s.count:,} ({percent(s.count, total)})" for s in shares)
    return picture(
        key=key, title=title, description=words, width=width, height=height, body=joined(parts)
    )


def bars(rows: Sequence[tuple[str, float, str]], *, key: str, title: str) -> Markup:
    """Horizontal bars from 0 as ``(label, value, value in words)``."""
    left = 18 + CHARACTER * max(len(label) for label, _, _ in rows)
    room = 10 + CHARACTER * max(len(words) for _, _, words in rows)
    height = 28.0 * len(rows) + 8
    axis = Axis(
        low=0.0,
        high=max(value for _, value, _ in rows) or 1.0,
        start=left,
        end=WIDTH - room,
    )
    parts: list[Markup] = []
    for index, (label, value, words) in enumerate(rows):
        y = 4 + 28.0 * index
        parts.append(text(left - 10, y + 18, label, "label", "end"))
        parts.append(box(left, y + 3, max(1.0, axis.at(value) - left), 20, "bar neutral"))
        parts.append(text(axis.at(value) + 7, y + 18, words, "tick", "start"))
    description = "; ".join(f"{label}: {words}" for label, _, words in rows)
    return picture(
        key=key,
        title=title,
        description=description,
        width=WIDTH,
        height=height,
        body=joined(parts),
    )
