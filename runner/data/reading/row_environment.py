"""Jinja for row templates and filters: sandboxed, strict, and bounded in what it can make.

A recipe may come from somebody else. The sandbox keeps its templates from code; what is here keeps
a constant such as ``"a" * 9999999999`` from taking all memory: Jinja would compute it as soon as
the template is compiled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 10_000_000  # characters or items that one operation may make
_MOST_BITS = 10_000  # of an integer
# Filters that make as much as a number of theirs says.
_PADDING = ("batch", "center", "format", "indent", "slice", "tojson", "wordwrap")
# The same row would not give the same text again.
_RANDOM_FILTERS, _RANDOM_GLOBALS = ("random",), ("lipsum",)
_WIDTH = re.compile(r"\d{7,}")


class RowEnvironment(ImmutableSandboxedEnvironment):
    """Refuses what would make more than ``LONGEST`` characters or items in one operation."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self) -> None:
        """Nothing is computed when a template is compiled (``optimized``)."""
        super().__init__(
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,
            optimized=False,
        )
        for name in _RANDOM_FILTERS:
            del self.filters[name]
        for name in _RANDOM_GLOBALS:
            del self.globals[name]
        for name in _PADDING:
            self.filters[name] = _bounded(name, self.filters[name])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - any values
        """Compute ``*``, ``**`` or ``%`` where the result is of a bearable size.

        Raises:
            SecurityError: it is not.
        """
        if operator == "%":
            _refuse_widths("%", (left,))
        elif _size(operator, left, right) > LONGEST:
            raise SecurityError(f"{operator} would make more than {LONGEST:,} characters or items")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, ANN401 - Jinja's own names, so that a template may use any
        """Call what a template calls, but for texts' methods that make far too much.

        Raises:
            SecurityError: a width or a format is too large.
        """
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps a text's format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            _refuse_widths(f"{method.__name__}()", (owner, *args, *kwargs.values()))
        return super().call(__context, __obj, *args, **kwargs)


@cache
def row_environment() -> RowEnvironment:
    """The one environment that all row templates and filters share."""
    return RowEnvironment()


def _size(operator: str, left: object, right: object) -> float:
    """About how much ``left * right`` or ``left ** right`` makes, of what ``LONGEST`` allows."""
    if isinstance(left, int) and isinstance(right, int):
        bits, times = left.bit_length(), abs(right) if operator == "**" else 1
        length = bits * times if operator == "**" else bits + right.bit_length()
        return 0 if length <= _MOST_BITS else float("inf")
    for many, count in ((left, right), (right, left)):
        if isinstance(count, int) and hasattr(many, "__len__"):
            return float(len(many) * max(count, 0))
    return 0


def _bounded(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(made)  # keeps Jinja's mark on filters that take the environment
    def bounded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any filter's
        _refuse_widths(name, (*args, *kwargs.values()))
        return made(*args, **kwargs)

    return bounded


def _refuse_widths(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        wide = isinstance(value, int) and value > LONGEST
        if wide or (isinstance(value, str) and _names_width(name, value)):
            raise SecurityError(f"{name} would make more than {LONGEST:,} characters or items")


def _names_width(name: str, text: str) -> bool:
    """Whether a format such as ``%9999999d`` or ``{:>9999999}`` asks for a great width."""
    formats = name in ("%", "format", "format()", "format_map()")
    return formats and any(int(number) > LONGEST for number in _WIDTH.findall(text))
