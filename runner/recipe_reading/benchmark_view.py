"""A benchmark as the rules about rows, templates and tasks see it: as if it were a recipe's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding
from runner.recipe_reading.moved_view import MovedView
from runner.recipe_reading.recipe_view import RecipeView

TASK: KeyPath = ("evaluation", "generation", 0)
# Where a recipe has something -> where a benchmark has it.
_PLACES: dict[KeyPath, KeyPath] = {
    ("dataset",): ("dataset",),
    ("template", "system"): ("system",),
    ("template", "user"): ("prompt",),
    ("template", "assistant"): ("answer",),
    TASK: (),
}
_SHOTS: dict[KeyPath, KeyPath] = {("dataset", "source"): ("few_shot", "source")}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkView(MovedView):
    """The recipe with a benchmark's rows, templates and scoring in place of its own.

    The benchmark is at ``block``; ``places`` says where it has what.
    """

    block: KeyPath
    places: dict[KeyPath, KeyPath]

    @classmethod
    def at(cls, recipe: RecipeView, block: KeyPath) -> BenchmarkView:
        """The view of the benchmark at ``block``."""
        return cls(
            document=recipe.document,
            blamed=recipe.blamed,
            around=recipe.around,
            block=block,
            places=_PLACES,
        )

    @property
    def shots(self) -> BenchmarkView:
        """The view whose dataset is the source of few-shot rows."""
        return replace(self, places=_SHOTS)

    def placed(self, finding: Finding) -> Finding:
        """``finding`` where the document has what it is about."""
        return replace(finding, path=self._there(finding.path))

    def _there(self, path: KeyPath) -> KeyPath:
        """Where the document has ``path``; one that is there already stays."""
        for place, moved in self.places.items():
            if path[: len(place)] == place:
                return (*self.block, *moved, *path[len(place) :])
        return path
