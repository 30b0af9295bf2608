"""The client of OpenAI-compatible servers, against a server on loopback."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import EvaluationError
from evalsuite.generation import (
    Answer,
    AnswerLog,
    AnswerSettings,
    EngineSubject,
    Request,
    answer_all,
    completions_server,
    open_engine,
)
from evalsuite.generation.openai_engine import text_of
from evalsuite.records import Decoding, EngineSpec, ServerSpec

from .asking import GREEDY, SAMPLED, STOPS, Tokenizer, ask, make_prompts
from .completions import Body, serving

SETTINGS = AnswerSettings(decoding=GREEDY, stop_token_ids=STOPS, pad_token_id=0, seed=7)
PROMPTS = make_prompts(10)
REQUESTS = [
    Request(example_id=f"e{n}", prompt_ids=tuple(prompt)) for n, prompt in enumerate(PROMPTS)
]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries; a proxy of this machine is none of the test's."""
    monkeypatch.setattr(completions_server, "_FIRST_WAIT", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class TinyServer:
    """Answers like a server: one prompt at a time, stop strings cut off, tokens counted."""

    def __init__(self, model: Any, *, tells_tokens: bool = False) -> None:
        self.model, self.tells_tokens = model, tells_tokens
        self.lock = threading.Lock()  # the model is one

    def __call__(self, body: Body) -> Body:
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else Tokenizer()(prompt)["input_ids"]
        decoding = Decoding(max_new_tokens=body["max_tokens"])
        with self.lock:
            (answer,) = ask(self.model, [ids], decoding, stop=body.get("stop", ()))
        choice = {"text": answer.text, "finish_reason": "stop" if answer.finished else "length"}
        if self.tells_tokens:
            choice["token_ids"] = list(answer.token_ids)
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(answer.token_ids)}
        return {"choices": [choice], "usage": usage}


def said(text: str = "t3", prompt_tokens: int | None = None) -> Body:
    usage = {"completion_tokens": 1}
    if prompt_tokens is not None:
        usage["prompt_tokens"] = prompt_tokens
    return {"choices": [{"text": text, "finish_reason": "stop"}], "usage": usage}


def fixed(_: Body) -> Body:
    return said()


def engine_for(spec: ServerSpec, *, subject: Any = "base", adapter: Path | None = None) -> Any:
    tokenizer: Any = Tokenizer()
    return open_engine(
        EngineSpec(name="openai", server=spec),
        EngineSubject(subject=subject, model=None, tokenizer=tokenizer, adapter=adapter),  # type: ignore[arg-type]
    )


def answers(spec: ServerSpec, settings: AnswerSettings = SETTINGS, **more: Any) -> list[Answer]:
    return answer_all(engine_for(spec, **more), REQUESTS, settings, log=AnswerLog())


# Answers


@pytest.mark.parametrize("prompts", ["tokens", "text"])
@pytest.mark.parametrize("stop", [(), ("t8", "t60 t")], ids=["tokens", "strings"])
def test_answers_are_those_of_the_served_model(
    mistral: Any, prompts: Any, stop: tuple[str, ...]
) -> None:
    expected = ask(mistral, PROMPTS, stop=stop)
    with serving(TinyServer(mistral)) as (server, spec):
        found = answers(replace(spec, prompts=prompts), replace(SETTINGS, stop=stop))
    assert [(a.text, a.finished, a.new_tokens) for a in found] == [
        (a.text, a.finished, len(a.token_ids)) for a in expected
    ]
    assert all(answer.token_ids == () for answer in found)
    sent = server.asked[0]["prompt"]
    assert isinstance(sent, list if prompts == "tokens" else str)
    assert 1 < server.most_at_once <= 4


def test_vllms_extensions_give_tokens_and_take_all_of_decoding(mistral: Any) -> None:
    decoding = replace(SAMPLED, repetition_penalty=1.2)
    settings = replace(SETTINGS, decoding=decoding)
    with serving(TinyServer(mistral, tells_tokens=True)) as (server, spec):
        found = answers(replace(spec, extensions="vllm"), settings)
    assert [a.token_ids for a in found] == [a.token_ids for a in ask(mistral, PROMPTS)]
    assert found[0].counted_tokens is None
    body = next(body for body in server.asked if body["prompt"] == PROMPTS[3])
    assert body == {
        "model": "tiny", "prompt": PROMPTS[3], "max_tokens": 24, "temperature": 0.9, "top_p": 0.95,
        "seed": REQUESTS[3].draw_key(7) % 2**31, "n": 1, "stream": False, "top_k": 50,
        "repetition_penalty": 1.2, "stop_token_ids": list(STOPS), "ignore_eos": True,
        "return_token_ids": True,
    }  # fmt: skip


def test_greedy_is_temperature_zero_and_nothing_beyond_the_interface_is_sent() -> None:
    with serving(fixed) as (server, spec):
        answers(spec, replace(SETTINGS, stop=("x",)))
    body = server.asked[0]
    seed = REQUESTS[PROMPTS.index(body["prompt"])].draw_key(7) % 2**31
    assert body == {
        "model": "tiny", "prompt": body["prompt"], "max_tokens": 24, "temperature": 0, "top_p": 1.0,
        "seed": seed, "n": 1, "stream": False, "stop": ["x"],
    }  # fmt: skip


def test_reasoning_is_not_cut_by_a_stop_string() -> None:
    settings = replace(SETTINGS, stop=("t5",), answer_marker="t9")
    with serving(lambda body: said("t5 t9 t6 t5 t7")) as (server, spec):
        found = answers(spec, settings)
    assert "stop" not in server.asked[0]
    assert found[0].text == "t6 "


def test_what_is_done_is_not_asked_again() -> None:
    with serving(fixed) as (server, spec):
        made = list(engine_for(spec).answer(REQUESTS, SETTINGS, done=frozenset({0, 2})))
    assert sorted(place for batch in made for place in batch) == [1, *range(3, 10)]
    assert len(server.asked) == 8


# Which prompt the server reads


def test_another_prompt_than_the_meant_one_is_refused() -> None:
    """As of a server that puts a second beginning-of-sequence token before the prompt."""
    with (
        serving(lambda body: said(prompt_tokens=len(body["prompt"]) + 1)) as (_, spec),
        pytest.raises(EvaluationError) as raised,
    ):
        answers(spec)
    assert "the server reads" in str(raised.value) and "prompts: text" in str(raised.value)


def test_a_prompt_without_a_text_of_its_own_is_refused() -> None:
    class Merging(Tokenizer):
        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1, 3]}

    tokenizer: Any = Merging()
    with pytest.raises(EvaluationError, match="has no text that is tokenized to just its tokens"):
        text_of(tokenizer, REQUESTS[0])
    tokenizer = Tokenizer()
    assert text_of(tokenizer, Request(example_id="a", prompt_ids=(1, 5, 6))) == "t5 t6".rjust(6)


# Failures


def test_passing_failures_are_tried_again() -> None:
    def say(place: int, body: Body) -> Any:
        if place % 3 == 2:
            return None
        return (503 if place % 2 else 429), {"error": {"message": "busy"}}, {"Retry-After": "0"}

    with serving(fixed, say=say) as (server, spec):
        found = answers(replace(spec, concurrency=1))
    assert [answer.text for answer in found] == ["t3"] * 10
    assert len(server.asked) == 30


def test_a_lasting_failure_is_told_with_the_servers_own_words() -> None:
    failed = (500, {"error": {"message": "no memory"}}, {})
    with (
        serving(fixed, say=lambda *_: failed) as (s, spec),
        pytest.raises(EvaluationError, match=r"/v1/completions: HTTP 500: no memory"),
    ):
        answers(replace(spec, concurrency=1))
    # Once and twice again; the next request may be on its way already.
    assert len(s.asked) in (3, 6)


@pytest.mark.parametrize(
    ("status", "content", "told"),
    [
        (400, {"error": {"message": "prompt too long"}}, "HTTP 400: prompt too long"),
        (404, {"message": "no model"}, "HTTP 404: no model"),
        (422, {"detail": [{"loc": ["body"]}]}, "HTTP 422: .*loc"),
        (418, b"<html>teapot</html>", "HTTP 418: <html>teapot"),
        (200, b"<html>login</html>", "expected a JSON object, found '<html>login"),
        (200, [1], "expected a JSON object"),
        (200, {"choices": []}, "this is no completion"),
        (200, {"choices": [{"text": "x", "finish_reason": "content_filter"}]}, "content_filter"),
        (200, {"choices": [{"text": "x", "finish_reason": "stop"}]}, "this is no completion"),
        (401, {}, "wants an API key. Name the environment variable"),
    ],
)
def test_an_answer_that_is_none_is_told(status: int, content: Any, told: str) -> None:
    with (
        serving(fixed, say=lambda *_: (status, content, {})) as (server, spec),
        pytest.raises(EvaluationError, match=told),
    ):
        answers(replace(spec, concurrency=1))
    # The next request may be on its way already.
    assert len(server.asked) <= 2, "what will not pass is not tried again"


def test_a_server_that_is_not_there_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spec = ServerSpec(url=f"http://127.0.0.1:{port}/v1", base_model="a", adapter_model="b")
    with pytest.raises(EvaluationError, match=r"cannot be reached. Start it.*refused"):
        engine_for(spec)


def test_a_server_that_is_too_slow_is_told() -> None:
    def say(place: int, body: Body) -> Any:
        time.sleep(0.5)

    with (
        serving(fixed, say=say) as (_, spec),
        pytest.raises(EvaluationError, match=r"no answer within 0\.1 seconds, 2 times"),
    ):
        answers(replace(spec, timeout=0.1, retries=1, concurrency=1))


def test_a_failure_ends_the_others_too() -> None:
    def say(place: int, body: Body) -> Any:
        return (400, {"error": "no"}, {}) if place == 1 else None

    with (
        serving(fixed, say=say) as (server, spec),
        pytest.raises(EvaluationError, match="HTTP 400: no"),
    ):
        answers(replace(spec, concurrency=1))
    assert len(server.asked) < 10


# Keys and models


def test_the_key_comes_from_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("A_KEY", "sk-secret")
    with serving(fixed) as (server, spec):
        answers(spec)
        assert all("Authorization" not in headers for headers in server.headers)
        engine = engine_for(replace(spec, api_key_env="A_KEY"))
        list(engine.answer(REQUESTS[:1], SETTINGS))
    assert server.headers[-1]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in repr(engine) + engine.identity() + str(engine.note())


def test_a_key_that_is_not_set_or_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A_KEY", raising=False)
    with serving(fixed, say=lambda *_: (401, {"error": "no"}, {})) as (_, spec):
        keyed = replace(spec, api_key_env="A_KEY", concurrency=1)
        with pytest.raises(EvaluationError, match="the environment variable A_KEY is not set"):
            engine_for(keyed)
        monkeypatch.setenv("A_KEY", "sk-wrong")
        with pytest.raises(EvaluationError, match=r"refuses the API key in \$A_KEY") as raised:
            answers(keyed)
    assert "sk-wrong" not in str(raised.value)


def test_a_model_that_is_not_served_is_told_with_how_to_serve_it() -> None:
    with serving(fixed, models=["tiny", "other"]) as (server, spec):
        answers(spec)
        with pytest.raises(EvaluationError) as raised:
            engine_for(spec, subject="adapter", adapter=Path("/runs/a/adapter"))
    message = str(raised.value)
    assert "serves tiny, other, and no 'tiny-adapter'" in message
    assert "--lora-modules tiny-adapter=/runs/a/adapter" in message
    assert "it continues" in message
    assert {body["model"] for body in server.asked} == {"tiny"}


def test_the_adapter_is_asked_by_its_own_name() -> None:
    with serving(fixed, models=None) as (server, spec):
        answers(spec, subject="adapter")
    assert {body["model"] for body in server.asked} == {"tiny-adapter"}


# What a server hides


def test_a_marker_that_servers_leave_out_is_refused() -> None:
    settings = replace(SETTINGS, answer_marker="t4<2>")
    with serving(fixed) as (_, spec), pytest.raises(EvaluationError, match="extensions: vllm"):
        answers(spec, settings)


def test_a_server_that_tells_no_tokens_is_no_vllm() -> None:
    with serving(fixed) as (_, spec), pytest.raises(EvaluationError, match="tell token ids"):
        answers(replace(spec, extensions="vllm"))
