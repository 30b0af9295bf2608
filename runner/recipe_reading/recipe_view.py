"""A recipe that may be wrong in places, as the rules across keys see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runner.recipe_reading.document import Document
from runner.recipe_reading.draft import KeyPath, Plain
from runner.recipe_reading.finding import Finding
from runner.recipe_reading.recipe_schema import Schema, published_schema, resolve


class Unclear(Exception):  # noqa: N818 - no error: it ends a rule that cannot be decided
    """A rule asked for a value that is itself wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeView:
    """A document's values with the defaults for what it does not give.

    ``blamed`` are the paths that something is wrong with already, and ``around`` the paths of what
    holds them. Asking for one of them, or for anything inside one, raises ``Unclear``: a rule that
    needs it says nothing.
    """

    document: Document
    blamed: frozenset[KeyPath]
    around: frozenset[KeyPath]

    @classmethod
    def of(cls, document: Document, findings: Sequence[Finding]) -> RecipeView:
        """The view of a document about which ``findings`` have been made."""
        wrong = {finding.path for finding in findings if not finding.stray}
        meant = {finding.meant for finding in findings if finding.meant is not None}
        blamed = frozenset(wrong | meant | document.unreadable)
        around = frozenset(path[:end] for path in blamed for end in range(len(path)))
        return cls(document=document, blamed=blamed, around=around)

    def value(self, *path: str | int) -> Any:  # noqa: ANN401 - checked against the schema already
        """The value at ``path``, or its default.

        Raises:
            Unclear: something is wrong with it.
        """
        if not self.is_clear(*path):
            raise Unclear
        value: Plain = self.document.value
        for depth, step in enumerate(path):
            if isinstance(value, dict) and step not in value:
                return self._default(path, depth)
            value = value[step]  # type: ignore[index]  # as the schema has it
        return value

    def is_clear(self, *path: str | int) -> bool:
        """Whether nothing is wrong with the value at ``path``, nor around or inside it."""
        return path not in self.around and not self._is_blamed(path)

    def gives(self, *path: str | int) -> bool:
        """Whether the document itself has the key ``path``."""
        return path in self.document.keys

    def indices(self, *path: str | int) -> Iterator[int]:
        """The indices of the list at ``path``, none where it is no list."""
        value: Any = self.document.value
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return iter(range(len(value) if isinstance(value, list) else 0))

    def count(self, *path: str | int) -> int:
        """The number of items of the list at ``path``, which may themselves be wrong.

        Raises:
            Unclear: something is wrong with the list.
        """
        if self._is_blamed(path):
            raise Unclear
        return len(list(self.indices(*path)))

    def _is_blamed(self, path: KeyPath) -> bool:
        return any(path[:end] in self.blamed for end in range(len(path) + 1))

    def _default(self, path: KeyPath, depth: int) -> Plain:
        """The default of ``path``, whose first ``depth`` steps the document has."""
        schema = published_schema()
        node: Schema = schema
        for step in path:
            node = resolve(node, schema)
            node = node["items"] if isinstance(step, int) else node["properties"][step]
        default: Plain = node.get("default")
        return default
