"""The padding token: one that nothing can mistake for the end of an answer."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from runner.data.labels.special_tokens import special_tokens
from runner.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def configure_padding(tokenizer: PreTrainedTokenizerBase, pad_token: str | None) -> None:
    """Set the tokenizer's padding token to the recipe's; None keeps the tokenizer's own.

    A padding token equal to the end token is refused: trainers that mask by token id then mask the
    end token too, and the model never learns to stop (trl#1623, alignment-handbook#127).

    Raises:
        DataError: no padding token, one that is not in the vocabulary, or the end token.
    """
    token = tokenizer.pad_token if pad_token is None else pad_token
    if token is None:
        raise DataError(
            "model.pad_token: the tokenizer has no padding token. " + _suggestion(tokenizer)
        )
    vocabulary = tokenizer.get_vocab()
    if token not in vocabulary:
        raise DataError(
            f"model.pad_token: {token!r} is not in the tokenizer's vocabulary. "
            + _near(token, tokenizer, vocabulary)
            + _suggestion(tokenizer)
        )
    refuse_padding_that_ends(tokenizer, token, {tokenizer.eos_token})
    tokenizer.pad_token = token


def refuse_padding_that_ends(
    tokenizer: PreTrainedTokenizerBase, pad_token: str, ends: set[str | None]
) -> None:
    """Raise DataError where ``pad_token`` is one of the tokens that end an answer."""
    if pad_token in ends:
        raise DataError(
            f"model.pad_token: {pad_token!r} is also the token that ends an answer, so padding "
            "would hide the end of answers from training. " + _suggestion(tokenizer)
        )


def _near(token: str, tokenizer: PreTrainedTokenizerBase, vocabulary: dict[str, int]) -> str:
    special = [name for name in special_tokens(tokenizer) if name in vocabulary]
    close = difflib.get_close_matches(token, special, n=3, cutoff=0.5)
    close = close or difflib.get_close_matches(token, list(vocabulary), n=3, cutoff=0.7)
    return f"Near ones: {', '.join(close)}. " if close else ""


def _suggestion(tokenizer: PreTrainedTokenizerBase) -> str:
    spare = [
        name for kind in ("pad", "unk", "reserved") for name in special_tokens(tokenizer)
        if kind in name.lower() and name != tokenizer.eos_token
    ]  # fmt: skip
    if not spare:
        return (
            "This tokenizer has no special token to spare (none named pad, unk or reserved). "
            "Write `pad_token:` with a token of its vocabulary that no text uses."
        )
    others = f" (or {', '.join(spare[1:3])})" if spare[1:] else ""
    return f"Write `pad_token: {spare[0]!r}` under `model`{others}."
