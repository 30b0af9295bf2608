"""Tokens that an adapter learns: found in the vocabulary, or added for every subject alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runner.data.labels.special_tokens import special_tokens
from runner.errors import UsageError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def add_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: Sequence[str] = ()
) -> None:
    """Add those of ``texts`` that are no token yet, in their order, each as a whole.

    The tokens in ``special`` are the template's alone; all others are ordinary text.

    Raises:
        UsageError: a token that should be special is an ordinary one of the vocabulary.
    """
    from transformers import AddedToken

    vocabulary = tokenizer.get_vocab()
    ordinary = [t for t in special if t in vocabulary and t not in special_tokens(tokenizer)]
    if ordinary:
        raise UsageError(
            f"lora.special_tokens: {ordinary[0]!r} is an ordinary token of the vocabulary. Remove "
            "it here: text may hold it."
        )
    for text in texts:
        if text not in vocabulary:
            token = AddedToken(text, normalized=False, special=text in special)
            tokenizer.add_tokens([token], special_tokens=text in special)


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    """Ids of ``texts``, each a token of the vocabulary."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[text] for text in texts]


def needed_rows(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], rows: int) -> int:
    """Rows of an embedding of ``rows`` rows once those of ``texts`` that lie beyond have theirs.

    Tokens beyond that are none of ``texts`` are left out: they do not belong to the model at all.
    """
    beyond = {index for index in tokenizer.get_vocab().values() if index >= rows}
    known = set(token_ids(tokenizer, texts))
    return max(beyond) + 1 if beyond and beyond <= known else rows


def make_room(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> int:
    """Give the tokens among ``texts`` that lie beyond the embedding a row; returns how many.

    A new row is the mean of the rows before it, in the embedding and in the head: the same in every
    process. (transformers would draw it at random: no two processes would hold the same base.)

    Raises:
        UsageError: the head has a bias, whose new values nothing would decide, or is quantized, or
            is said to be the embedding and is not.
    """
    import torch

    rows: int = _ends(model)[0].weight.shape[0]
    wanted = needed_rows(tokenizer, texts, rows)
    if wanted == rows:
        return 0
    head = model.get_output_embeddings()
    if head is not None and (not hasattr(head, "weight") or head.bias is not None):
        raise UsageError(
            "lora.trained_tokens: this model's output head has a bias or is quantized, and tokens "
            "cannot be added to it. Name tokens of its vocabulary."
        )
    check_tied(model)
    means = [_mean_row(module.weight) for module in _ends(model)]
    model.resize_token_embeddings(wanted, mean_resizing=False)
    with torch.no_grad():
        for module, mean in zip(_ends(model), means, strict=True):
            module.weight[rows:] = mean
    return wanted - rows


def is_tied(model: PreTrainedModel) -> bool:
    """Whether the configuration says that the embedding is the output head too."""
    return bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))


def check_tied(model: PreTrainedModel) -> None:
    """Embedding and head must be one weight exactly where the configuration says so.

    Where a checkpoint has two and says one, transformers keeps both until they are touched, and
    then makes them one: the base model would become another one without a word.

    Raises:
        UsageError: they are not.
    """
    head = model.get_output_embeddings()
    if head is not None and is_tied(model) != (len(_ends(model)) == 1):
        raise UsageError(
            "lora: this model's config.json says tie_word_embeddings: "
            f"{str(is_tied(model)).lower()}, and its weights say otherwise. Its embedding and its "
            "head cannot be trained before the checkpoint is corrected."
        )


def _ends(model: PreTrainedModel) -> list[Any]:
    """The input embedding, and the head where it has a weight of its own."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    own = head is not None and head.weight is not embedding.weight
    return [embedding, head] if own else [embedding]


def _mean_row(weight: torch.Tensor) -> torch.Tensor:
    """Mean of the rows of (V, H), (H,), added up in double precision."""
    import torch

    return weight.detach().mean(0, dtype=torch.float64).to(weight.dtype)
