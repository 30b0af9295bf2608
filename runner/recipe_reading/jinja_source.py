"""Jinja in a recipe: whether it is any, and which names it uses. Nothing is compiled or run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.recipe_reading.finding import sentences
from runner.recipe_reading.nearest_name import did_you_mean

if TYPE_CHECKING:
    from jinja2 import nodes


def template_names(source: str) -> frozenset[str] | str:
    """The names that a Jinja template uses, or what keeps it from being one."""
    if "{" not in source:
        return frozenset()
    return _names(source, expression=False)


def expression_problem(source: str) -> str | None:
    """What keeps a text from being one Jinja expression, or None."""
    if source.lstrip().startswith("{"):
        return "this is a condition, and so needs no braces. Write for example: language == 'en'"
    names = _names(source, expression=True)
    return names if isinstance(names, str) else None


def _names(source: str, *, expression: bool) -> frozenset[str] | str:
    # Takes 30 ms to import, and most recipes have no template.
    from jinja2 import TemplateSyntaxError, nodes

    try:
        parsed = _parsed(source, expression=expression)
        names = frozenset(name.name for name in parsed.find_all(nodes.Name) if name.ctx == "load")
        unknown = _unknown_filter(parsed)
    except TemplateSyntaxError as error:
        problem = (error.message or "unknown problem").rstrip(".")
        problem = problem[0].lower() + problem[1:]
        what = "a Jinja condition" if expression else "Jinja"
        return f"this is not {what} (line {error.lineno} of the text): {problem}"
    except RecursionError:
        return "this is nested too deeply for Jinja"
    return unknown or names


def _parsed(source: str, *, expression: bool) -> nodes.Node:
    """The syntax tree: compiling would compute constants, such as ``"a" * 9999999999``."""
    from jinja2.parser import Parser

    from runner.data.reading.row_environment import row_environment

    if not expression:
        return row_environment().parse(source)
    parser = Parser(row_environment(), source, state="variable")
    parsed = parser.parse_expression()
    if not parser.stream.eos:
        assigns = parser.stream.current.type == "assign"
        parser.fail("one = sets a name, == compares" if assigns else "it goes on after its end")
    return parsed


def _unknown_filter(parsed: nodes.Node) -> str | None:
    from jinja2 import nodes

    from runner.data.reading.row_environment import row_environment

    known = row_environment().filters
    for node in parsed.find_all(nodes.Filter):
        if node.name == "random":
            return "this uses the filter random: a row would not give the same text again"
        if node.name not in known:
            near = did_you_mean(node.name, known)
            return sentences(f"Jinja has no filter {node.name!r}", near)
    return None
