"""A condition over a row's columns that says whether the row is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateSyntaxError, Undefined, nodes
from jinja2.parser import Parser

from runner.data.reading.row_column import type_name
from runner.data.reading.row_environment import row_environment
from runner.data.reading.row_template import TEMPLATE_ERRORS, RowError
from runner.errors import DataError


class RowFilter:
    """A Jinja expression that must be true or false for every row."""

    def __init__(self, key: str, expression: str) -> None:
        """Compile ``expression``; ``key`` is its key in the recipe.

        Raises:
            DataError: it is not a Jinja expression.
        """
        self.key = key
        environment = row_environment()
        try:
            parsed = Parser(environment, expression, state="variable").parse_expression()
            self.names = frozenset(node.name for node in parsed.find_all(nodes.Name))
            self._evaluate = environment.compile_expression(expression, undefined_to_none=False)
        except (TemplateSyntaxError, RecursionError) as error:
            raise DataError(f"{key}: not a Jinja condition: {error}") from None

    def passes(self, row: Mapping[str, Any]) -> bool:
        """Whether ``row`` is read.

        Raises:
            RowError: the condition names a column that the row has not, raises, or is neither true
                nor false.
        """
        try:
            value = self._evaluate(row)
            if isinstance(value, Undefined):
                str(value)  # raises: a name alone that is no column
        except TEMPLATE_ERRORS as error:
            raise RowError(f"{self.key} raised {type(error).__name__}: {error}") from None
        if isinstance(value, bool):
            return value
        raise RowError(f"{self.key} gives {type_name(value)}, neither true nor false")
