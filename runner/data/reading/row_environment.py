"""Jinja for row templates and filters: sandboxed, strict, and bounded in single operations.

A recipe may come from somebody else. The sandbox keeps its templates from code; what is here keeps
one small expression, such as ``"a" * 9999999999`` or ``x.replace("", x)``, from taking all memory.
It is no bound of a whole template: loops and ``~`` may still make much, step by step, and so may a
format that names one long value many times.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from jinja2 import StrictUndefined, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.filters import make_attrgetter
from jinja2.nodes import EvalContext
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
    """Refuses operators, filters and methods that would multiply to more than ``LONGEST``."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

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
        self.filters |= {"replace": _replace, "join": _join}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401 - any values
        """Compute ``*``, ``**``, ``%`` or ``+`` where the result is of a bearable size.

        Raises:
            SecurityError: it is not.
        """
        if operator == "%":
            _refuse_widths("%", (left,))
        else:
            _refuse_length(operator, _size(operator, left, right))
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
            if method.__name__ == "replace":
                _refuse_replacing("replace()", owner, *args, **kwargs)
            elif method.__name__ == "join" and args:
                args = (_bearable("join()", owner, args[0]), *args[1:])
        return super().call(__context, __obj, *args, **kwargs)


@cache
def row_environment() -> RowEnvironment:
    """The one environment that all row templates and filters share."""
    return RowEnvironment()


def _size(operator: str, left: object, right: object) -> float:
    """About how much ``left * right`` (or ``**``, ``+``) makes, of what ``LONGEST`` allows."""
    if operator == "+":
        return sum(len(part) for part in (left, right) if isinstance(part, str | list | tuple))
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


@pass_eval_context
def _replace(context: EvalContext, text: Any, old: str, new: str, count: int | None = None) -> str:  # noqa: ANN401 - any value, as Jinja's own filter takes
    """Jinja's ``replace``."""
    number = -1 if count is None else count
    _refuse_replacing("replace", str(text), str(old), str(new), number)
    return str(text).replace(str(old), str(new), number)


@pass_eval_context
def _join(
    context: EvalContext,
    values: Any,  # noqa: ANN401 - as Jinja's own
    between: str = "",
    attribute: str | int | None = None,
) -> str:
    """Jinja's ``join``."""
    if attribute is not None:
        values = map(make_attrgetter(context.environment, attribute), values)
    return str(between).join(_bearable("join", str(between), map(str, values)))


def _refuse_replacing(name: str, text: object, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Python's own
    """Refuse a replacement that makes too much; what ``str.replace`` refuses itself is left to it.

    Raises:
        SecurityError: it makes too much.
    """
    match (text, *args, *kwargs.values()):
        case [str(whole), str(old), str(new), *count]:
            found = whole.count(old)
            times = min([found, *(n for n in count if isinstance(n, int) and n >= 0)])
            _refuse_length(name, len(whole) + times * (len(new) - len(old)))


def _bearable(name: str, between: str, values: Any) -> list[Any]:  # noqa: ANN401 - any that can be joined
    """What is to be joined.

    Raises:
        SecurityError: it makes too much.
    """
    kept, length = [], 0
    for value in values:
        kept.append(value)
        length += len(between) + (len(value) if isinstance(value, str) else 0)
        _refuse_length(name, length - len(between))
    return kept


def _refuse_length(name: str, length: float) -> None:
    if length > LONGEST:
        raise SecurityError(f"{name} would make more than {LONGEST:,} characters or items")


def _refuse_widths(name: str, values: tuple[object, ...]) -> None:
    for value in values:
        wide = isinstance(value, int) and value > LONGEST
        if wide or (isinstance(value, str) and _names_width(name, value)):
            raise SecurityError(f"{name} would make more than {LONGEST:,} characters or items")


def _names_width(name: str, text: str) -> bool:
    """Whether a format such as ``%9999999d`` or ``{:>9999999}`` asks for a great width."""
    formats = name in ("%", "format", "format()", "format_map()")
    return formats and any(int(number) > LONGEST for number in _WIDTH.findall(text))
