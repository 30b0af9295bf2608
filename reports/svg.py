"""The few pieces of SVG that the charts are made of: elements, linear axes, a plot frame.

Colours are CSS classes of the page's stylesheet, so that a chart follows light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from reports.number_text import fixed

# Nominal width of one character of the charts' 12-pixel text; only used to keep labels apart.
CHARACTER = 7.2


def element(name: str, content: str = "", **attributes: str | float) -> Markup:
    """One SVG element. ``class_`` is class, underscores are hyphens; all values are escaped."""
    parts = [f' {_attribute(key)}="{_value(value)}"' for key, value in attributes.items()]
    head = f"<{name}{''.join(parts)}"
    return Markup(f"{head}/>" if not content else f"{head}>{escape(content)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """The elements one after the other."""
    return Markup("").join(parts)


def _attribute(key: str) -> str:
    return {"class_": "class", "viewBox": "viewBox"}.get(key, key.replace("_", "-"))


def _value(value: str | float) -> str:
    return str(escape(value)) if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """A coordinate to a tenth of a pixel, without a useless zero."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def text(x: float, y: float, content: str, class_: str = "tick", anchor: str = "middle") -> Markup:
    """A line of text; ``anchor`` is start, middle or end."""
    return element("text", content, x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("path", d=f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}", class_=class_)


def polyline(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """A line through ``points``."""
    path = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return element("path", d=f"M{path}", class_=class_)


def dots(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Many dots as one path of zero-length strokes with round ends: 14 bytes a dot."""
    path = "".join(f"M{number(x)} {number(y)}h0" for x, y in points)
    return element("path", d=path, class_=class_) if path else Markup("")


def box(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    """A rectangle; a negative width or height is taken from the other side."""
    left, top = min(x, x + width), min(y, y + height)
    return element("rect", x=left, y=top, width=abs(width), height=abs(height), class_=class_)


def picture(
    *,
    key: str,
    title: str,
    description: str,
    width: float,
    height: float,
    body: Markup,
    magnified: float = 1.15,
) -> Markup:
    """The ``<svg>`` around ``body``, named for screen readers; ``key`` is unique in the page.

    It is shown ``magnified`` where there is room, and shrinks to a narrow screen.
    """
    label = element("title", title, id=f"{key}-title") + element(
        "desc", description, id=f"{key}-desc"
    )
    return element(
        "svg",
        label + body,
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width * magnified,
        height=height * magnified,
        class_="chart",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A linear scale from values ``low``..``high`` to pixels ``start``..``end``.

    ``whole`` axes count things: their ticks are whole numbers.
    """

    low: float
    high: float
    start: float
    end: float
    whole: bool = False

    def at(self, value: float) -> float:
        """The pixel of ``value``, kept inside the axis."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """At most ``most`` + 1 round values inside the axis."""
        step = self._step(most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]

    def labels(self, most: int = 5) -> list[tuple[float, str]]:
        """The ticks with their text, all with the decimals that the step needs."""
        decimals = _decimals_of(self._step(most))
        return [(tick, fixed(tick, decimals)) for tick in self.ticks(most)]

    def _step(self, most: int) -> float:
        step = round_step((self.high - self.low) / most)
        if not self.whole or step.is_integer():
            return step
        return 1.0 if step < 1.0 else 2.0 * step  # 2.5 becomes 5


def _decimals_of(step: float) -> int:
    """Decimals that write a round step in full: 2 for 0.05, 3 for 0.025."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    whole = step * 10.0**decimals
    return decimals if abs(whole - round(whole)) < 1e-6 * whole else decimals + 1


def round_step(step: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least ``step``."""
    power = 10.0 ** math.floor(math.log10(step))
    steps = (factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0))
    return float(next(candidate for candidate in steps if candidate >= step * 0.999999))


def is_point(low: float, high: float) -> bool:
    """Whether a range is too narrow, in floating point, to be cut into steps."""
    return high - low <= 1e-9 * max(1.0, abs(low), abs(high))


def round_range(low: float, high: float, most: int = 5) -> tuple[float, float]:
    """``low``..``high`` widened to whole steps; a range without width gets one."""
    if is_point(low, high):
        pad = abs(low) * 0.05 or 0.5
        low, high = low - pad, high + pad
    step = round_step((high - low) / most)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """The frame of a chart: two axes inside ``width`` x ``height`` pixels."""

    width: float
    height: float
    x: Axis
    y: Axis

    def frame(self, x_name: str, y_name: str, *, x_most: int = 5, y_most: int = 5) -> Markup:
        """Horizontal grid, tick labels and the names of both axes."""
        grid = [
            line(self.x.start, self.y.at(tick), self.x.end, self.y.at(tick), "grid")
            + text(self.x.start - 7, self.y.at(tick) + 4, label, anchor="end")
            for tick, label in self.y.labels(y_most)
        ]
        below = [
            line(self.x.at(tick), self.y.start, self.x.at(tick), self.y.start + 4, "axis")
            + text(self.x.at(tick), self.y.start + 18, label)
            for tick, label in self.x.labels(x_most)
        ]
        base_line = line(self.x.start, self.y.start, self.x.end, self.y.start, "axis")
        names = text(self.x.end, self.height - 4, x_name, "axis-name", "end") + text(
            0, 12, y_name, "axis-name", "start"
        )
        return joined([*grid, base_line, *below, names])


def plot(
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    width: float,
    height: float,
    left: float = 46,
    whole_x: bool = False,
    whole_y: bool = False,
) -> Plot:
    """A frame with room for the axis names above and below."""
    return Plot(
        width=width,
        height=height,
        x=Axis(low=x[0], high=x[1], start=left, end=width - 12, whole=whole_x),
        y=Axis(low=y[0], high=y[1], start=height - 40, end=26, whole=whole_y),
    )


def legend(items: Iterable[tuple[str, str]], *, right: float, y: float) -> Markup:
    """Colour keys from right to left, as ``(class of the swatch, label)``."""
    parts: list[Markup] = []
    x = right
    for class_, label in reversed(list(items)):
        x -= len(label) * CHARACTER
        parts.append(text(x, y, label, "legend", "start"))
        parts.append(dots([(x - 9, y - 4)], f"swatch {class_}"))
        x -= 26
    return joined(parts)
