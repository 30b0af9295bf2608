"""A block inside a recipe that has a dataset and a template of its own, as the rules see it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runner.recipe_reading.draft import KeyPath
from runner.recipe_reading.finding import Finding
from runner.recipe_reading.moved_view import MovedView
from runner.recipe_reading.recipe_view import RecipeView


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockView(MovedView):
    """The recipe with ``dataset`` and ``template`` replaced by those of a block.

    ``moved`` gives for each of the two where the block has it. One that the block leaves out is
    not in ``moved``: then the recipe's own is meant, and what is found there is told at ``block``.
    """

    block: KeyPath
    moved: dict[str, KeyPath]

    @classmethod
    def at(cls, recipe: RecipeView, block: KeyPath, *, dataset: str) -> BlockView:
        """The view of the block at ``block``, whose rows are under the key ``dataset``."""
        moved = {"dataset": (*block, dataset)}
        if recipe.value(*block).get("template") is not None:
            moved["template"] = (*block, "template")
        return cls(
            document=recipe.document,
            blamed=recipe.blamed,
            around=recipe.around,
            block=block,
            moved=moved,
        )

    def placed(self, finding: Finding) -> Finding:
        """``finding`` where the document has what it is about."""
        head = finding.path[0]
        if head in self.moved:
            return replace(finding, path=self._there(finding.path))
        return replace(finding, path=self.block, at_key=False)

    def _there(self, path: KeyPath) -> KeyPath:
        """Where the document has ``path``; one that is there already stays."""
        moved = self.moved.get(str(path[0])) if path else None
        return path if moved is None else (*moved, *path[1:])
