"""Numbers as text: only the digits that an interval supports, always written the same way."""

from __future__ import annotations

import math
from dataclasses import dataclass

MINUS = "\N{MINUS SIGN}"
# What stands where there is no value.
NOTHING = "\N{EN DASH}"
MOST_DECIMALS = 6
_BYTES_PER_STEP = 1024
_SECONDS_PER_MINUTE = 60
_MINUTES_PER_HOUR = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How values of one unit are written: ``factor`` times the value, then ``suffix``.

    ``difference_suffix`` follows differences: a share differs by points, not by percent.
    """

    unit: str
    factor: float = 1.0
    suffix: str = ""
    difference_suffix: str = ""


def scale_of(unit: str) -> Scale:
    """The scale on which values of ``unit`` are written; shares (0 to 1) read as percentages."""
    if unit == "share" or unit.startswith("share "):
        return Scale(
            unit=f"%{unit.removeprefix('share')}",
            factor=100.0,
            suffix="%",
            difference_suffix=" points",
        )
    return Scale(unit=unit)


def decimals_for(half_width: float) -> int:
    """Decimals that show two significant digits of ``half_width`` (an interval's half)."""
    if half_width <= 0.0 or math.isinf(half_width):
        return 3
    return min(MOST_DECIMALS, max(0, 1 - math.floor(math.log10(half_width))))


def fixed(value: float, decimals: int, *, signed: bool = False) -> str:
    """``value`` with ``decimals`` decimals, thousands grouped, a true minus sign, no minus zero."""
    if math.isinf(value):
        return f"{MINUS if value < 0 else '+' if signed else ''}∞"
    rounded = round(value, decimals) + 0.0
    sign = MINUS if rounded < 0 else "+" if signed and rounded > 0 else ""
    return f"{sign}{abs(rounded):,.{decimals}f}"


def significant(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """``value`` with ``digits`` significant digits and no exponent between 1e-6 and 1e9."""
    if value == 0.0 or math.isinf(value):
        return fixed(value, 0, signed=signed)
    magnitude = math.floor(math.log10(abs(value)))
    if not -MOST_DECIMALS <= magnitude < 9:  # noqa: PLR2004 - a billion still reads as digits
        sign = MINUS if value < 0 else "+" if signed else ""
        return f"{sign}{abs(value):.{digits - 1}e}"
    return fixed(value, max(0, digits - 1 - magnitude), signed=signed)


def plain(value: float, *, signed: bool = False) -> str:
    """A number that a person chose (a margin, a learning rate), with no digit added."""
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    return f"{sign}{abs(value):.12g}"


def value_text(value: float, scale: Scale, *, half_width: float | None = None) -> str:
    """``0.412`` or ``83.6%``: as many decimals as ``half_width`` supports, else 3 digits."""
    scaled = value * scale.factor
    if half_width is None or half_width == 0.0 or math.isinf(half_width):
        return f"{significant(scaled)}{scale.suffix}"
    return f"{fixed(scaled, decimals_for(half_width * scale.factor))}{scale.suffix}"


def interval_text(
    value: float, low: float, high: float, scale: Scale, *, difference: bool = False
) -> str:
    """``0.412 [0.398, 0.426]``; a difference is signed and carries its own suffix."""
    decimals = _interval_decimals(value, low, high, scale)
    numbers = [
        fixed(number * scale.factor, decimals, signed=difference) for number in (value, low, high)
    ]
    suffix = scale.difference_suffix if difference else scale.suffix
    return f"{numbers[0]}{suffix} [{numbers[1]}, {numbers[2]}]"


def _interval_decimals(value: float, low: float, high: float, scale: Scale) -> int:
    if high > low:
        return decimals_for((high - low) / 2 * scale.factor)
    scaled = abs(value * scale.factor)
    return 1 if scale.factor > 1 else decimals_for(scaled / 10)


def count(number: int) -> str:
    """``1,546``."""
    return f"{number:,}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 example``, ``1,546 examples``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def percent(part: float, whole: float) -> str:
    """``part`` of ``whole`` as ``62.4%``; an empty whole is a dash."""
    return f"{fixed(100 * part / whole, 1)}%" if whole else NOTHING


def seconds(value: float) -> str:
    """``0.42 s``, ``38.1 s``, ``2 min 05 s``, ``3 h 12 min``."""
    if value < _SECONDS_PER_MINUTE:
        return f"{significant(value)} s"
    minutes, rest = divmod(round(value), _SECONDS_PER_MINUTE)
    if minutes < _MINUTES_PER_HOUR:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, _MINUTES_PER_HOUR)
    return f"{hours} h {minutes:02d} min"


def size(value: float) -> str:
    """``812 B``, ``7.40 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _BYTES_PER_STEP:
            return f"{significant(value)} {unit}"
        value /= _BYTES_PER_STEP
    return f"{significant(value)} TiB"
