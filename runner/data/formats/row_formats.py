"""Dataset formats: how a row becomes a conversation. One of the project's plug-in points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from runner.data.formats.conversation import Conversation
from runner.data.reading.row_column import Column
from runner.errors import DataError
from runner.recipe import Columns, Template
from runner.recipe_reading.nearest_name import did_you_mean

# format as a recipe names it -> "module:attribute" of a RowFormat, called with (columns, template).
# Third parties add to it with the entry-point group "proofbox.formats".
FORMATS: dict[str, str] = {
    "alpaca": "runner.data.formats.alpaca_format:AlpacaFormat",
    "messages": "runner.data.formats.messages_format:MessagesFormat",
    "sharegpt": "runner.data.formats.sharegpt_format:SharegptFormat",
    "prompt_completion": "runner.data.formats.prompt_completion_format:PromptCompletionFormat",
    "text": "runner.data.formats.text_format:TextFormat",
}


class RowFormat(Protocol):
    """What a dataset format must have. It can be pickled: rows are made in several processes."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that are read."""

    def conversation(self, row: Mapping[str, Any]) -> Conversation:
        """What a row says, ending with the assistant's message; raises RowError."""

    def question(self, text: str) -> Conversation:
        """The messages that ask the model ``text``, without an answer; raises RowError."""

    def content(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """What makes two rows the same: the values by the part they play, whatever its column.

        A JSON value, also for a row that is no conversation. The recipe's templates are not in it:
        changing one moves no row to another partition.
        """


def known_formats() -> dict[str, str]:
    """Name -> ``module:attribute`` of all formats, those of installed packages among them."""
    plugins = {point.name: point.value for point in entry_points(group="proofbox.formats")}
    return {**plugins, **FORMATS}


def plugin_identity(name: str | None) -> str | None:
    """The package and version that a plug-in's format comes from; None for our own formats."""
    for point in entry_points(group="proofbox.formats"):
        if point.name == name and name not in FORMATS:
            return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    return None


def row_format(name: str, columns: Columns, template: Template) -> RowFormat:
    """The format of this name for a recipe's columns and row templates.

    Raises:
        DataError: an unknown format, or a row template that is broken.
    """
    check_format_name(name)
    module, attribute = known_formats()[name].split(":")
    made: RowFormat = getattr(import_module(module), attribute)(columns, template)
    return made


def check_format_name(name: str) -> None:
    """Refuse a name that is neither ours nor a plug-in's.

    Raises:
        DataError: it is not.
    """
    known = known_formats()
    if name not in known:
        raise DataError(
            f"dataset.format: {name!r} is not one of {', '.join(sorted(known))}. "
            + did_you_mean(name, known)
        )
