"""Answers to prompts: batched decoding exactly as declared."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from evalsuite.batches import halve_on_out_of_memory, length_sorted_batches
from evalsuite.errors import EvaluationError
from evalsuite.loss import inference
from evalsuite.records import Decoding

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model wrote after one prompt.

    ``token_ids`` are the new tokens, the stop token included; ``finished`` says that a stop token
    ended the answer and not the limit; ``text`` is free of special tokens, and of what a model
    writes before an answer (reasoning, a channel's name) where its end is known.
    """

    text: str
    token_ids: tuple[int, ...]
    finished: bool


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    decoding: Decoding,
    stop_token_ids: Sequence[int],
    pad_token_id: int,
    batch_tokens: int,
    seed: int,
    on_progress: Callable[[int], None] | None = None,
    answer_marker: str = "",
) -> list[Answer]:
    """Continue every prompt, in the order given.

    Sampling is seeded per batch; the caller's random state is untouched. Greedy answers do not
    depend on the batch beyond rounding of the kernels.

    Args:
        model: A causal language model of transformers, bare or wrapped by peft.
        tokenizer: Decodes the new tokens.
        prompts: Token ids of rendered prompts.
        decoding: The whole of how tokens are chosen; the checkpoint's own generation
            configuration has no say.
        stop_token_ids: Any of these ends an answer.
        pad_token_id: Fills shorter prompts on the left, masked.
        batch_tokens: At most so many tokens in a batch, padding and new tokens included.
        seed: Decides sampled tokens, together with the batch's first prompt.
        on_progress: Told after every batch how many prompts are done.
        answer_marker: Text, special tokens included, after whose last occurrence the answer begins;
            where it does not occur, everything is the answer.

    Raises:
        EvaluationError: A prompt is empty, or there is no stop token.
    """
    _require_generable(prompts, stop_token_ids)
    settings = _generation_config(decoding, stop_token_ids, pad_token_id)
    results: dict[int, Answer] = {}

    def answer(batch: Sequence[int]) -> list[Answer]:
        rows = [prompts[index] for index in batch]
        with _seeded(seed + batch[0]):
            new = _generate(model, rows, settings, pad_token_id)
        return [_answer(tokenizer, row, frozenset(stop_token_ids), answer_marker) for row in new]

    lengths = [len(prompt) + decoding.max_new_tokens for prompt in prompts]
    with inference(model), _declared_decoding_only(model):
        for batch in length_sorted_batches(lengths, batch_tokens):
            results.update(zip(batch, halve_on_out_of_memory(batch, answer), strict=True))
            if on_progress is not None:
                on_progress(len(results))
    return [results[index] for index in range(len(prompts))]


def _require_generable(prompts: Sequence[Sequence[int]], stop_token_ids: Sequence[int]) -> None:
    if not stop_token_ids:
        raise EvaluationError("there is no stop token; no answer could ever be finished.")
    for place, prompt in enumerate(prompts):
        if not prompt:
            raise EvaluationError(f"prompt {place} is empty; there is nothing to continue.")


def _generation_config(
    decoding: Decoding, stop_token_ids: Sequence[int], pad: int
) -> GenerationConfig:
    from transformers import GenerationConfig

    sampling: dict[str, Any] = {}
    if decoding.do_sample:
        sampling = {
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": decoding.top_k,
        }
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        do_sample=decoding.do_sample,
        num_beams=1,
        repetition_penalty=decoding.repetition_penalty,
        eos_token_id=list(stop_token_ids),
        pad_token_id=pad,
        **sampling,
    )


@contextmanager
def _declared_decoding_only(model: PreTrainedModel) -> Iterator[None]:
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


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators for a block and restore them afterwards."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], settings: GenerationConfig, pad: int
) -> list[list[int]]:
    """New tokens of each prompt, padding after the end included."""
    import torch

    width = max(map(len, prompts))
    tokens = torch.full((len(prompts), width), pad, dtype=torch.long)  # (B, T)
    attention = torch.zeros((len(prompts), width), dtype=torch.long)  # (B, T)
    for place, prompt in enumerate(prompts):
        tokens[place, width - len(prompt) :] = torch.tensor(list(prompt))
        attention[place, width - len(prompt) :] = 1
    generate = cast("Callable[..., torch.Tensor]", model.generate)
    output = generate(
        input_ids=tokens.to(model.device),
        attention_mask=attention.to(model.device),
        generation_config=settings,
    )
    new: list[list[int]] = output[:, width:].tolist()
    return new


def _answer(
    tokenizer: PreTrainedTokenizerBase,
    new: Sequence[int],
    stop_token_ids: frozenset[int],
    answer_marker: str,
) -> Answer:
    stops = (place for place, token in enumerate(new) if token in stop_token_ids)
    end = next(stops, None)
    kept = tuple(new) if end is None else tuple(new[: end + 1])
    text = _text_after(tokenizer, kept, answer_marker)
    return Answer(text=text, token_ids=kept, finished=end is not None)


def _text_after(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], marker: str) -> str:
    """The text of ``ids`` without special tokens, from the last ``marker`` on if there is one.

    The marker may hold special tokens and share a token with the answer, so it is looked for in the
    text of ever more tokens: the first that hold as many markers as all of them end with the last.
    """

    def text(part: Sequence[int], *, special: bool) -> str:
        return str(tokenizer.decode(list(part), skip_special_tokens=not special))

    total = text(ids, special=True).count(marker) if marker else 0
    if not total:
        return text(ids, special=False)
    counts = range(len(ids) + 1)
    end = bisect_left(counts, total, key=lambda n: text(ids[:n], special=True).count(marker))
    shared = text(ids[:end], special=True).rpartition(marker)[2]
    # The white space between marker and answer is the template's.
    return (shared + text(ids[end:], special=False)).lstrip()
