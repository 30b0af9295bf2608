"""Generation by vLLM in this process: the base model, with the adapter from its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.errors import EvaluationError
from evalsuite.generation.answer import Answer, AnswerReader
from evalsuite.generation.engine import EngineSubject
from evalsuite.generation.request import AnswerSettings, Request
from evalsuite.records import EngineSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Requests between two writes to disk: many, because vLLM is fastest with much to choose from.
_AT_ONCE = 1024
# Ranks that vLLM makes room for (vllm.config.lora.MaxLoRARanks).
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Share of the free memory of the GPU that vLLM may take; transformers holds the model as well.
_FREE_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmEngine:
    """Answers with ``llm``, a ``vllm.LLM``; ``adapter`` is a LoRARequest or None."""

    llm: Any
    adapter: Any | None
    tokenizer: PreTrainedTokenizerBase

    def identity(self) -> str:
        """The version of vLLM."""
        return f"vllm {_version()}"

    def note(self) -> str | None:
        """Nothing beside its name."""
        return None

    def answer(
        self,
        requests: Sequence[Request],
        settings: AnswerSettings,
        *,
        done: frozenset[int] = frozenset(),
    ) -> Iterator[Mapping[int, Answer]]:
        """Answers by place, many at once."""
        reader = AnswerReader(
            tokenizer=self.tokenizer,
            stop_token_ids=frozenset(settings.stop_token_ids),
            stop=settings.stop,
            marker=settings.answer_marker,
        )
        wanted = [place for place in range(len(requests)) if place not in done]
        for start in range(0, len(wanted), _AT_ONCE):
            places = wanted[start : start + _AT_ONCE]
            outputs = self.llm.generate(
                [{"prompt_token_ids": list(requests[place].prompt_ids)} for place in places],
                [_sampling(requests[place], settings) for place in places],
                lora_request=self.adapter,
                use_tqdm=False,
            )
            tokens = [output.outputs[0].token_ids for output in outputs]
            yield {place: reader.read(list(ids)) for place, ids in zip(places, tokens, strict=True)}


def open_vllm(_: EngineSpec, subject: EngineSubject) -> VllmEngine:
    """Load the base model of ``subject`` into vLLM, and its adapter where that is judged.

    Raises:
        EvaluationError: vLLM is not installed, or does not take such an adapter.
    """
    _version()
    rank = None if subject.adapter is None else _adapter_rank(subject.adapter)
    import vllm
    from vllm.lora.request import LoRARequest

    settings: dict[str, Any] = {
        "model": subject.base,
        "revision": subject.revision,
        "dtype": str(subject.model.dtype).removeprefix("torch."),
        # The recipe alone says how tokens are chosen, not the checkpoint's generation_config.json.
        "generation_config": "vllm",
        "gpu_memory_utilization": _memory_share(),
        "trust_remote_code": subject.trust_remote_code,
    }
    adapter = None
    if rank is not None:
        settings |= {"enable_lora": True, "max_lora_rank": rank}
        adapter = LoRARequest("adapter", 1, str(subject.adapter))
    return VllmEngine(llm=vllm.LLM(**settings), adapter=adapter, tokenizer=subject.tokenizer)


def _sampling(request: Request, settings: AnswerSettings) -> Any:  # noqa: ANN401 - a class of vllm
    import vllm

    decoding = settings.decoding
    return vllm.SamplingParams(
        n=1,
        max_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature if decoding.do_sample else 0.0,
        top_p=decoding.top_p if decoding.do_sample else 1.0,
        top_k=(decoding.top_k or -1) if decoding.do_sample else -1,
        repetition_penalty=decoding.repetition_penalty,
        seed=request.draw_key(settings.seed),
        # Reasoning may hold a stop string; where there may be some, the answer is cut here alone.
        stop=None if settings.answer_marker else list(settings.stop) or None,
        stop_token_ids=list(settings.stop_token_ids),
        ignore_eos=True,  # our stop tokens, and no others
        skip_special_tokens=False,
    )


def _version() -> str:
    try:
        return version("vllm")
    except PackageNotFoundError:
        raise EvaluationError(
            "evaluation.engine: vllm is not installed. Install it with: pip install "
            "'proofbox[vllm]'"
        ) from None


def _adapter_rank(folder: Path) -> int:
    """The rank that vLLM must make room for.

    Raises:
        EvaluationError: vLLM cannot run such an adapter.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    refused = {
        "use_dora": "DoRA",
        "modules_to_save": "whole modules (modules_to_save)",
        "rank_pattern": "ranks that differ between modules (rank_pattern)",
        "trainable_token_indices": "trained rows of the embedding (trained_tokens)",
        "alpha_pattern": "scales that differ between modules (alpha_pattern)",
    }
    found = [what for key, what in refused.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        found.append(f"trained biases (bias: {config['bias']})")
    rank = int(config["r"])
    if rank > _RANKS[-1]:
        found.append(f"a rank of {rank} (at most {_RANKS[-1]})")
    if found:
        raise EvaluationError(
            f"evaluation.engine: vllm cannot run this adapter: it has {' and '.join(found)}. Use "
            "engine: transformers."
        )
    return next(allowed for allowed in _RANKS if allowed >= rank)


def _memory_share() -> float:
    """The share of the whole GPU's memory that vLLM may take, of what transformers leaves free."""
    import torch

    if not torch.cuda.is_available():
        return _FREE_SHARE
    free, total = torch.cuda.mem_get_info()
    return _FREE_SHARE * free / total
