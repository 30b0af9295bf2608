"""Which options of a recipe were read: one that nobody reads has no effect, and says it has."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

from runner.errors import DefectError
from runner.recipe.blocks import Block
from runner.recipe.recipe import Recipe

# The blocks that say how an adapter is trained.
LEARNING_BLOCKS = ("quantization", "lora", "training", "hardware")
# Read before a training begins, or beside it; tests/runner/test_option_reads.py calls each
# of these and sees the option read.
READ_ELSEWHERE: Mapping[str, str] = {
    "quantization.method": "loading the base model",
    "quantization.bits": "the check of the base model, before a run starts",
    "quantization.kernel": "loading the base model, where it is a GPTQ checkpoint",
    "quantization.group_size": "quantizing the base model, or the check of a GPTQ checkpoint",
    "quantization.desc_act": "quantizing the base model, or the check of a GPTQ checkpoint",
    "quantization.sym": "quantizing the base model, or the check of a GPTQ checkpoint",
    "quantization.damp": "quantizing the base model",
    "quantization.calibration": "quantizing the base model",
    "training.epochs": "counting the steps, where training.max_steps is null",
    "hardware.device": "planning",
    "hardware.threads": "planning",
    "hardware.batch_tokens": "every evaluation",
}
B = TypeVar("B", bound=Block)


class OptionReads:
    """A recipe that notes which options of ``LEARNING_BLOCKS`` are read.

    Only taking an option by its name counts: dumping, comparing or copying a block does not.
    """

    def __init__(self, recipe: Recipe) -> None:
        """``self.recipe`` is ``recipe``, and notes in ``self.seen`` what is read of it."""
        self.seen: set[str] = set()
        blocks = {name: self._noting(name, getattr(recipe, name)) for name in LEARNING_BLOCKS}
        self.recipe = recipe.model_copy(update=blocks)
        self.seen.clear()

    def unread(self) -> tuple[str, ...]:
        """Options, such as ``lora.r``, that were not read here and are not read elsewhere."""
        known = {*self.seen, *READ_ELSEWHERE}
        return tuple(option for option in options_of(self.recipe) if option not in known)

    def check(self) -> None:
        """Every option must have been read.

        Raises:
            DefectError: some were not; the message names them.
        """
        unread = self.unread()
        if unread:
            raise DefectError(
                f"{', '.join(unread)}: declared as options of a recipe, and read by nothing before "
                "the training starts: what a recipe says there would have no effect. This is a "
                "defect of proofbox, not of your recipe. Please report it with this message and "
                "the output of `proofbox --version`."
            )

    def _noting(self, name: str, block: B) -> B:
        """A copy of ``block`` of a class that notes each option as it is read."""
        kind, seen = type(block), self.seen
        options = frozenset(kind.model_fields)

        def noted(self: B, attribute: str) -> Any:  # noqa: ANN401 - any attribute of the block
            if attribute in options:
                seen.add(f"{name}.{attribute}")
            return kind.__getattribute__(self, attribute)

        def body(namespace: dict[str, Any]) -> None:
            namespace["__getattribute__"] = noted

        noting = cast("type[B]", types.new_class(kind.__name__, (kind,), exec_body=body))
        return noting.model_construct(block.model_fields_set, **block.__dict__)


def options_of(recipe: Recipe) -> Iterator[str]:
    """Every option of ``LEARNING_BLOCKS``, in the order of the schema."""
    for name in LEARNING_BLOCKS:
        for option in type(getattr(recipe, name)).model_fields:
            yield f"{name}.{option}"
