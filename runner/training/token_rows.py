"""Where the tokens that an adapter learns occur in the rows: one that never does cannot learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runner.errors import DataError
from runner.recipe import Lora
from runner.training.step_schedule import StepSchedule

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_AT_ONCE = 10_000  # rows that are searched together
# Steps in which a token is looked for; one that occurs later is not watched on its own.
SEARCHED_STEPS = 50
_IGNORED = -100


def check_tokens_occur(rows: Dataset, tokens: Mapping[str, int]) -> None:
    """Refuse to train tokens (text -> id) that are in no row.

    Raises:
        DataError: it names them.
    """
    import numpy

    missing = set(tokens.values())
    if not missing:
        return
    for table in rows.select_columns(["input_ids"]).with_format("arrow").iter(_AT_ONCE):
        for chunk in table.column("input_ids").chunks:
            values = chunk.flatten().to_numpy(zero_copy_only=False)
            missing -= {one for one in missing if bool(numpy.any(values == one))}
        if not missing:
            return
    names = ", ".join(repr(text) for text, number in tokens.items() if number in missing)
    raise DataError(
        f"lora.trained_tokens: no row of the train partition has {names}, as it is tokenized, so "
        "nothing would be learned. Remove that, or look at the rows with: proofbox preview RECIPE"
    )


def first_steps(rows: Dataset, schedule: StepSchedule, ids: Sequence[int]) -> dict[int, int]:
    """Token id -> first optimizer step (from 1) whose loss depends on its embedding.

    That is a step with an example in which the token stands before a token that is learned. Only
    the first steps are searched; what is not found there is left out.
    """
    found: dict[int, int] = {}
    for number, step in enumerate(schedule.steps[:SEARCHED_STEPS], start=1):
        sought = set(ids) - found.keys()
        if not sought:
            break
        read = rows[list(step)]
        for tokens, labels in zip(read["input_ids"], read["labels"], strict=True):
            last = max((at for at, label in enumerate(labels) if label != _IGNORED), default=0)
            found |= dict.fromkeys(sought.intersection(tokens[:last]), number)
    return found


def token_decisions(tokenizer: PreTrainedTokenizerBase, block: Lora) -> tuple[str, ...]:
    """Of each trained token: its id, and whether the base model's tokenizer lacked it."""
    vocabulary, special = tokenizer.get_vocab(), block.special_tokens
    loaded = tokenizer.init_kwargs.get("added_tokens_decoder") or {}
    own = {*range(tokenizer.vocab_size), *map(int, loaded)}
    return tuple(
        f"lora.trained_tokens: {text!r} is "
        + ("a token of the vocabulary" if vocabulary[text] in own else "new")
        + (" and special" if text in special else "")
        + f", with id {vocabulary[text]}"
        for text in block.trained_tokens
    )
