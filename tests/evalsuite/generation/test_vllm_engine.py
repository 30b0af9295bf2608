"""The adapter to vLLM, against a stand-in with vLLM's signatures: the real one needs a GPU.

What cannot be tested here is whether vLLM itself does what its documentation says.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import EvaluationError
from evalsuite.generation import (
    AnswerLog,
    AnswerSettings,
    EngineSubject,
    Request,
    answer_all,
    open_engine,
    vllm_engine,
)
from evalsuite.records import Decoding, EngineSpec

from .asking import GREEDY, SAMPLED, STOPS, Tokenizer, ask, make_prompts

REQUESTS = [
    Request(example_id=f"e{n}", prompt_ids=tuple(prompt))
    for n, prompt in enumerate(make_prompts(6))
]
SETTINGS = AnswerSettings(decoding=GREEDY, stop_token_ids=STOPS, pad_token_id=0, seed=7)


@dataclass(kw_only=True)
class SamplingParams:
    """The fields that are used, by their names and kinds in vllm/sampling_params.py."""

    n: int = 1
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    skip_special_tokens: bool = True


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class StandIn:
    """Remembers how it was made and asked; answers with the tiny model."""

    model: Any
    made: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def LLM(self, **settings: Any) -> StandIn:  # noqa: N802 - vLLM's name
        self.made = settings
        return self

    def generate(
        self,
        prompts: Sequence[dict[str, list[int]]],
        sampling_params: Sequence[SamplingParams],
        *,
        use_tqdm: bool | Callable[..., Any] = True,
        lora_request: Any = None,
    ) -> list[Any]:
        assert not use_tqdm
        self.asked.append({"params": list(sampling_params), "lora": lora_request})
        outputs = []
        for prompt, params in zip(prompts, sampling_params, strict=True):
            decoding = Decoding(max_new_tokens=params.max_tokens or 0)
            ids = prompt["prompt_token_ids"]
            (answer,) = ask(
                self.model, [ids], decoding, stops=params.stop_token_ids or (),
                stop=params.stop or (),
            )  # fmt: skip
            completion = types.SimpleNamespace(token_ids=answer.token_ids)
            outputs.append(types.SimpleNamespace(outputs=[completion]))
        return outputs


@pytest.fixture
def vllm(mistral: Any, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn(mistral)
    module: Any = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = stand_in.LLM, SamplingParams
    request: Any = types.ModuleType("vllm.lora.request")
    request.LoRARequest = LoRARequest
    for name, part in (("vllm", module), ("vllm.lora", module), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, part)
    monkeypatch.setattr(vllm_engine, "version", lambda name: "0.11.2")
    return stand_in


@pytest.fixture
def adapter_folder(tmp_path: Path) -> Callable[..., Path]:
    def write(**settings: Any) -> Path:
        config = {"r": 24, "bias": "none", "use_dora": False, "modules_to_save": None, **settings}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        return tmp_path

    return write


def engine_for(model: Any, adapter: Path | None = None) -> Any:
    tokenizer: Any = Tokenizer()
    return open_engine(
        EngineSpec(name="vllm"),
        EngineSubject(
            subject="base" if adapter is None else "adapter", model=model, tokenizer=tokenizer,
            base="/models/tiny", revision="abc", adapter=adapter,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("stop", [(), ("t8", "t60 t")], ids=["tokens", "strings"])
def test_answers_are_read_from_the_tokens(
    vllm: StandIn, mistral: Any, stop: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_engine, "_AT_ONCE", 4)
    engine = engine_for(mistral)
    settings = AnswerSettings(
        decoding=GREEDY, stop_token_ids=STOPS, pad_token_id=0, seed=7, stop=stop
    )
    found = answer_all(engine, REQUESTS, settings, log=AnswerLog())
    assert found == ask(mistral, make_prompts(6), stop=stop)
    assert [len(call["params"]) for call in vllm.asked] == [4, 2]
    assert engine.identity() == "vllm 0.11.2"
    assert vllm.made == {
        "model": "/models/tiny", "revision": "abc", "dtype": "float32", "generation_config": "vllm",
        "gpu_memory_utilization": 0.9, "trust_remote_code": False,
    }  # fmt: skip


def test_decoding_is_passed_on_as_declared(vllm: StandIn, mistral: Any) -> None:
    settings = AnswerSettings(
        decoding=SAMPLED, stop_token_ids=STOPS, pad_token_id=0, seed=7, stop=("x",)
    )
    list(engine_for(mistral).answer(REQUESTS, settings, done=frozenset(range(5))))
    (params,) = vllm.asked[0]["params"]
    assert params == SamplingParams(
        temperature=0.9, top_p=0.95, top_k=50, max_tokens=24, seed=REQUESTS[5].draw_key(7),
        stop=["x"], stop_token_ids=list(STOPS), ignore_eos=True, skip_special_tokens=False,
    )  # fmt: skip
    list(engine_for(mistral).answer(REQUESTS[:1], SETTINGS))
    (greedy,) = vllm.asked[1]["params"]
    assert (greedy.temperature, greedy.top_p, greedy.top_k, greedy.stop) == (0.0, 1.0, -1, None)


def test_reasoning_is_not_cut_by_a_stop_string(vllm: StandIn, mistral: Any) -> None:
    settings = AnswerSettings(
        decoding=GREEDY, stop_token_ids=STOPS, pad_token_id=0, seed=7, stop=("x",),
        answer_marker="t9",
    )  # fmt: skip
    list(engine_for(mistral).answer(REQUESTS[:1], settings))
    assert vllm.asked[0]["params"][0].stop is None


def test_the_adapter_comes_from_its_folder(
    vllm: StandIn, mistral: Any, adapter_folder: Callable[..., Path]
) -> None:
    folder = adapter_folder()
    list(engine_for(mistral, folder).answer(REQUESTS[:1], SETTINGS))
    assert vllm.made["enable_lora"] is True
    assert vllm.made["max_lora_rank"] == 32, "the least rank that vLLM allows and that suffices"
    assert vllm.asked[0]["lora"] == LoRARequest("adapter", 1, str(folder))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"use_dora": True}, "it has DoRA. Use engine: transformers"),
        ({"bias": "all", "r": 600}, r"trained biases \(bias: all\) and a rank of 600 \(at most"),
        ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"rank_pattern": {"q_proj": 8}}, "ranks that differ"),
        ({"alpha_pattern": {"q_proj": 8}}, "scales that differ"),
        ({"trainable_token_indices": [3]}, "trained rows of the embedding"),
    ],
)
def test_an_adapter_that_vllm_would_run_wrongly_is_refused(
    vllm: StandIn, mistral: Any, adapter_folder: Callable[..., Path], settings: Any, told: str
) -> None:
    with pytest.raises(EvaluationError, match=told):
        engine_for(mistral, adapter_folder(**settings))
    assert vllm.made == {}, "the model was loaded in vain"


def test_without_vllm_the_command_that_installs_it_is_told(mistral: Any) -> None:
    with pytest.raises(EvaluationError, match=r"pip install 'proofbox\[vllm\]'"):
        engine_for(mistral)
