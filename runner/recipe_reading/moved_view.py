"""A recipe as the rules see it, with some of its blocks found elsewhere in the document."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.recipe_view import RecipeView


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedView(RecipeView):
    """A view in which a path may stand for another: rules need not know where a block lies."""

    @abstractmethod
    def _there(self, path: KeyPath) -> KeyPath:
        """Where the document has ``path``; one that is there already stays."""

    def value(self, *path: str | int) -> Any:  # noqa: ANN401 - checked against the schema already
        """The value at ``path``, or its default."""
        return RecipeView.value(self, *self._there(path))

    def is_clear(self, *path: str | int) -> bool:
        """Whether nothing is wrong with the value at ``path``, nor around or inside it."""
        return RecipeView.is_clear(self, *self._there(path))

    def gives(self, *path: str | int) -> bool:
        """Whether the document itself has the key ``path``."""
        return RecipeView.gives(self, *self._there(path))

    def indices(self, *path: str | int) -> Iterator[int]:
        """The indices of the list at ``path``, none where it is no list."""
        return RecipeView.indices(self, *self._there(path))
