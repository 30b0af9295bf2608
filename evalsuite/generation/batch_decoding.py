"""One batch of prompts continued by transformers; rows that have finished leave it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from evalsuite.generation.answer import AnswerReader
from evalsuite.generation.request import AnswerSettings, Request
from evalsuite.generation.row_ends import RowEnds
from evalsuite.generation.token_choice import score_processors

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that are being continued: places in the batch, tokens, mask, keys and cache.

    ``tokens`` and ``attention`` are (B, T), prompts padded on the left; ``keys`` (B,) decide draws.
    ``cache`` is empty, or holds all but the last token; None where `generate` is to make one.
    """

    places: tuple[int, ...]
    tokens: torch.Tensor
    attention: torch.Tensor
    keys: torch.Tensor
    cache: Any | None = None

    def only(self, kept: torch.Tensor, tokens: torch.Tensor, cache: Any) -> Rows:  # noqa: ANN401 - any cache of transformers
        """The rows at ``kept``, with the ``tokens`` that they have come to."""
        import torch

        attention = self.attention[kept]
        added = attention.new_ones(len(kept), tokens.shape[1] - attention.shape[1])
        return Rows(
            places=tuple(self.places[place] for place in kept.tolist()),
            tokens=tokens[kept],
            attention=torch.cat([attention, added], dim=1),
            keys=self.keys[kept],
            cache=_only(cache, kept),
        )


def decode_batch(
    model: PreTrainedModel,
    requests: Sequence[Request],
    settings: AnswerSettings,
    reader: AnswerReader,
) -> list[list[int]]:
    """New tokens of each request, up to and with what ended it."""
    from evalsuite.generation.roomy_cache import roomy_cache

    rows = _first_rows(model, requests, settings)
    width = rows.tokens.shape[1]
    most = width + settings.decoding.max_new_tokens
    rows = replace(rows, cache=roomy_cache(model, most))
    found: dict[int, list[int]] = {}
    while rows.places:
        ends, tokens, cache = _continue(model, rows, settings, reader, width=width, most=most)
        over = tokens.shape[1] >= most
        lengths = ends.tolist()
        for place, row, length in zip(
            rows.places, tokens[:, width:].tolist(), lengths, strict=True
        ):
            if length or over:
                found[place] = row[: length or None]
        if over:
            break
        rows = rows.only((ends == 0).nonzero()[:, 0], tokens, cache)
    return [found[place] for place in range(len(requests))]


def _first_rows(
    model: PreTrainedModel, requests: Sequence[Request], settings: AnswerSettings
) -> Rows:
    import torch

    width = max(len(request.prompt_ids) for request in requests)
    tokens = torch.full((len(requests), width), settings.pad_token_id, dtype=torch.long)
    attention = torch.zeros((len(requests), width), dtype=torch.long)
    for place, request in enumerate(requests):
        length = len(request.prompt_ids)
        tokens[place, width - length :] = torch.tensor(request.prompt_ids)
        attention[place, width - length :] = 1
    keys = torch.tensor([request.draw_key(settings.seed) for request in requests])
    return Rows(
        places=tuple(range(len(requests))),
        tokens=tokens.to(model.device),
        attention=attention.to(model.device),
        keys=keys.to(model.device),
    )


def _continue(
    model: PreTrainedModel,
    rows: Rows,
    settings: AnswerSettings,
    reader: AnswerReader,
    *,
    width: int,
    most: int,
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Continue ``rows`` until few go on: ends (B,), tokens (B, T) and the cache."""
    from transformers import LogitsProcessorList, StoppingCriteriaList

    leave_at = len(rows.places) // 2
    ends = rows.keys.new_zeros(len(rows.places))
    criterion = RowEnds(reader, ends, width=width, leave_at=leave_at)
    processors = score_processors(settings.decoding, rows.keys, rows.attention[:, :width])
    generate = cast("Callable[..., Any]", model.generate)
    output = generate(
        input_ids=rows.tokens,
        attention_mask=rows.attention,
        generation_config=_config(settings.pad_token_id, most - rows.tokens.shape[1]),
        logits_processor=LogitsProcessorList(processors),
        stopping_criteria=StoppingCriteriaList([criterion]),
        **({} if rows.cache is None else {"past_key_values": rows.cache}),
    )
    return criterion.ends, output.sequences, output.past_key_values


def _config(pad: int, max_new_tokens: int) -> GenerationConfig:
    """Greedy over what the processors make of the logits; the criterion alone ends rows."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=pad,
        return_dict_in_generate=True,
    )


def _only(cache: Any, kept: torch.Tensor) -> Any | None:  # noqa: ANN401 - any cache of transformers
    """``cache`` with the rows ``kept``; None where it cannot, and is then computed anew."""
    layers = getattr(cache, "layers", [None])
    if not all(hasattr(layer, "batch_select_indices") for layer in layers):
        return None
    cache.batch_select_indices(kept)
    return cache


@contextmanager
def declared_decoding_only(model: PreTrainedModel) -> Iterator[None]:
    """Hide the checkpoint's generation configuration, from which `generate` fills what is unset.

    transformers 5 merges every value of ``model.generation_config`` that the given configuration
    leaves at None (``min_new_tokens``, ``suppress_tokens``, …). peft copies the wrapper's
    configuration onto the inner model, so both are hidden.
    """
    from transformers import GenerationConfig

    holders: list[Any] = [model]
    if hasattr(model, "get_base_model"):
        holders.append(cast("Callable[[], Any]", model.get_base_model)())
    kept = [holder.__dict__.get("generation_config") for holder in holders]
    for holder in holders:
        holder.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for holder, configuration in zip(holders, kept, strict=True):
            if configuration is None:
                del holder.generation_config
            else:
                holder.generation_config = configuration
