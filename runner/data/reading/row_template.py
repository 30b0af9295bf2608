"""Jinja over a row's values: sandboxed, strict, and with errors that can be told to a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, meta

from runner.data.reading.row_environment import row_environment
from runner.errors import DataError

# What a template that somebody else wrote may raise when it is rendered.
TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class RowError(Exception):
    """A row that cannot become a conversation; the message names no row."""


class RowTemplate:
    """A Jinja template over a row's values: sandboxed, and strict about names it does not know."""

    def __init__(self, key: str, source: str) -> None:
        """Compile ``source``; ``key`` is its key in the recipe.

        Raises:
            DataError: the template is not Jinja.
        """
        self.key = key
        environment = row_environment()
        try:
            self.names = frozenset(meta.find_undeclared_variables(environment.parse(source)))
            self._template: Template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise DataError(
                f"{key}: not a Jinja template: {error.message} (line {error.lineno} of it)"
            ) from None
        except RecursionError:
            raise DataError(f"{key}: not a Jinja template: it is nested too deeply") from None

    def render(self, values: Mapping[str, Any]) -> str:
        """The template's text for one row.

        Raises:
            RowError: the template raised.
        """
        try:
            return self._template.render(values)
        except TEMPLATE_ERRORS as error:
            raise RowError(f"{self.key} raised {type(error).__name__}: {error}") from None
