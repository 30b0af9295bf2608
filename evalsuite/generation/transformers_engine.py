"""Generation by transformers in this process: batches as large as memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalsuite.batches import answered_batches
from evalsuite.generation.answer import Answer, AnswerReader
from evalsuite.generation.batch_decoding import declared_decoding_only, decode_batch
from evalsuite.generation.engine import EngineSubject
from evalsuite.generation.merged_adapter import (
    copied_bytes_on_gpu,
    merged_adapter,
    why_not_merged,
)
from evalsuite.generation.request import AnswerSettings, Request
from evalsuite.loss import inference
from evalsuite.records import EngineSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Tokens of one batch on a CPU, where more rows at once are hardly faster.
_CPU_TOKENS = 16_384
# Share of a GPU's memory beside the weights that the keys and values of a batch may take; the rest
# is for logits and what attention needs. What is still too much is found out and halved.
_CACHE_SHARE = 0.5
_FEWEST_TOKENS = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersEngine:
    """Continues prompts with a live model.

    ``model`` is a causal language model of transformers, bare or wrapped by peft. At most
    ``batch_tokens`` tokens are in a batch, padding and new tokens included; None: as many as suit
    the device.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_tokens: int | None = None

    def identity(self) -> str:
        """Its name; versions of packages are recorded for a whole run."""
        return "transformers"

    def note(self) -> str | None:
        """Whether the adapter is merged while answers are generated."""
        if not hasattr(self.model, "merge_adapter"):
            return None
        reason = why_not_merged(self.model)
        return "adapter merged" if reason is None else f"adapter not merged: {reason}"

    def answer(
        self,
        requests: Sequence[Request],
        settings: AnswerSettings,
        *,
        done: frozenset[int] = frozenset(),
    ) -> Iterator[Mapping[int, Answer]]:
        """Answers by place, batch after batch, the longest prompts first."""
        reader = AnswerReader(
            tokenizer=self.tokenizer,
            stop_token_ids=frozenset(settings.stop_token_ids),
            stop=settings.stop,
            marker=settings.answer_marker,
        )

        def work(batch: Sequence[int]) -> list[Answer]:
            chosen = [requests[place] for place in batch]
            with inference(self.model):
                rows = decode_batch(self.model, chosen, settings, reader)
            return [reader.read(row) for row in rows]

        lengths = [len(r.prompt_ids) + settings.decoding.max_new_tokens for r in requests]
        if len(done) == len(requests):
            return
        budget = self.batch_tokens or memory_tokens(self.model)
        with merged_adapter(self.model), declared_decoding_only(self.model):
            for batch, answers in answered_batches(lengths, budget, work, done=done):
                yield dict(zip(batch, answers, strict=True))


def open_transformers(_: EngineSpec, subject: EngineSubject) -> TransformersEngine:
    """The engine around the live model of ``subject``."""
    return TransformersEngine(
        model=subject.model, tokenizer=subject.tokenizer, batch_tokens=subject.batch_tokens
    )


def memory_tokens(model: PreTrainedModel) -> int:
    """How many tokens a batch may have on the model's device.

    On a GPU by the memory that it has beside the weights, and not by what happens to be free: the
    same machine makes the same batches, and so the same bits, every time.
    """
    if model.device.type != "cuda":
        return _CPU_TOKENS
    import torch

    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    taken = weights + copied_bytes_on_gpu(model)
    beside = torch.cuda.get_device_properties(model.device).total_memory - taken
    return max(_FEWEST_TOKENS, int(beside * _CACHE_SHARE / cache_bytes_per_token(model)))


def cache_bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes that the keys and values of one token take in all layers.

    Layers without keys and values, or with a window, take less: then batches are smaller than they
    might be.
    """
    config: Any = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers * heads * size) * model.dtype.itemsize
