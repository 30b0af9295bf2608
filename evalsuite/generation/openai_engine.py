"""Generation by a server with OpenAI's completions interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalsuite.errors import EvaluationError
from evalsuite.generation.answer import Answer, AnswerReader
from evalsuite.generation.completions_server import Completion, CompletionsServer
from evalsuite.generation.engine import EngineSubject
from evalsuite.generation.request import AnswerSettings, Request
from evalsuite.records import EngineSpec, ServerSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Seeds of the least number of bits that servers take.
_SEEDS = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenaiEngine:
    """Asks ``server`` for completions of ``model``, several at once."""

    server: CompletionsServer
    spec: ServerSpec
    model: str
    tokenizer: PreTrainedTokenizerBase

    def identity(self) -> str:
        """The server; which of its models answers is another matter."""
        return f"openai {self.spec.url} ({self.spec.prompts}, extensions {self.spec.extensions})"

    def note(self) -> str | None:
        """Which model of the server answered."""
        return f"served model {self.model}"

    def answer(
        self,
        requests: Sequence[Request],
        settings: AnswerSettings,
        *,
        done: frozenset[int] = frozenset(),
    ) -> Iterator[Mapping[int, Answer]]:
        """Answers by place, each as it comes.

        Raises:
            EvaluationError: The server cannot be reached, refuses, reads another prompt than the
                one that was meant, or lacks what the settings need.
        """
        _require_readable(settings.answer_marker, self.tokenizer, self.spec)
        reader = AnswerReader(
            tokenizer=self.tokenizer,
            stop_token_ids=frozenset(settings.stop_token_ids),
            stop=settings.stop,
            marker=settings.answer_marker,
        )
        wanted = [place for place in range(len(requests)) if place not in done]
        pool = ThreadPoolExecutor(max_workers=self.spec.concurrency)
        try:
            asked = {
                pool.submit(self._ask, requests[place], settings, reader): place for place in wanted
            }
            for future in as_completed(asked):
                yield {asked[future]: future.result()}
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask(self, request: Request, settings: AnswerSettings, reader: AnswerReader) -> Answer:
        completion = self.server.complete(self._body(request, settings))
        read, meant = completion.prompt_tokens, len(request.prompt_ids)
        if read is not None and read != meant:
            raise EvaluationError(
                f"the server reads {read} tokens where the prompt of example {request.example_id} "
                f"has {meant}: it would be asked something else. {self._mending()}"
            )
        if self.spec.extensions == "vllm":
            return reader.read(_told_tokens(completion))
        return reader.read_text(
            completion.text, finished=completion.finished, counted_tokens=completion.new_tokens
        )

    def _mending(self) -> str:
        if self.spec.prompts == "text":
            return "Send token ids: evaluation.server.prompts: tokens."
        return "It seems not to take token ids; try evaluation.server.prompts: text."

    def _body(self, request: Request, settings: AnswerSettings) -> dict[str, Any]:
        decoding = settings.decoding
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": self._prompt(request),
            "max_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature if decoding.do_sample else 0,
            "top_p": decoding.top_p,
            "seed": request.draw_key(settings.seed) % _SEEDS,
            "n": 1,
            "stream": False,
        }
        # Reasoning may hold a stop string; where there may be some, the answer is cut here alone.
        if settings.stop and not settings.answer_marker:
            body["stop"] = list(settings.stop)
        if self.spec.extensions == "vllm":
            body |= {
                "top_k": decoding.top_k or -1,
                "repetition_penalty": decoding.repetition_penalty,
                "stop_token_ids": list(settings.stop_token_ids),
                "ignore_eos": True,
                "return_token_ids": True,
            }
        return body

    def _prompt(self, request: Request) -> list[int] | str:
        if self.spec.prompts == "tokens":
            return list(request.prompt_ids)
        return text_of(self.tokenizer, request)


def text_of(tokenizer: PreTrainedTokenizerBase, request: Request) -> str:
    """A text that the tokenizer, as a server uses it, turns into the prompt's tokens again.

    Raises:
        EvaluationError: There is none.
    """
    rendered = str(tokenizer.decode(list(request.prompt_ids), skip_special_tokens=False))
    # Most tokenizers put the beginning-of-sequence token before any text.
    beginning = str(tokenizer.bos_token or "")
    for text in (rendered, rendered.removeprefix(beginning)):
        if tuple(tokenizer(text)["input_ids"]) == request.prompt_ids:
            return text
    raise EvaluationError(
        f"the prompt of example {request.example_id} has no text that is tokenized to just its "
        "tokens. Send token ids: evaluation.server.prompts: tokens."
    )


def open_openai(spec: EngineSpec, subject: EngineSubject) -> OpenaiEngine:
    """A connection to the server that serves ``subject``.

    Raises:
        EvaluationError: The server cannot be reached, or does not serve the model.
    """
    if spec.server is None:
        raise EvaluationError("the engine openai needs evaluation.server.")
    server = CompletionsServer(spec.server)
    key = f"{subject.subject}_model"
    model = getattr(spec.server, key)
    if model is None:
        raise EvaluationError(f"evaluation.server.{key} is missing: which model is asked?")
    served = server.models()
    if served is not None and model not in served:
        raise EvaluationError(
            f"evaluation.server.{key}: {spec.server.url} serves {', '.join(served) or 'nothing'}, "
            f"and no {model!r}. {_how_to_serve(subject, model)}"
        )
    return OpenaiEngine(server=server, spec=spec.server, model=model, tokenizer=subject.tokenizer)


def _how_to_serve(subject: EngineSubject, model: str) -> str:
    if subject.adapter is None:
        return "Serve it, or change the name."
    return (
        f"Serve the adapter in {subject.adapter} under that name (vllm serve BASE --enable-lora "
        f"--lora-modules {model}={subject.adapter}), then run the same command: it continues."
    )


def _require_readable(marker: str, tokenizer: PreTrainedTokenizerBase, spec: ServerSpec) -> None:
    """A server that leaves special tokens out of its text hides where an answer begins.

    Raises:
        EvaluationError: The marker holds a special token, and token ids are not told.
    """
    hidden = [token for token in tokenizer.all_special_tokens if token in marker]
    if hidden and spec.extensions == "none":
        raise EvaluationError(
            f"answers of this chat template begin after {marker!r}, and servers leave "
            f"{hidden[0]!r} out of their text. Use a server that tells token ids "
            "(evaluation.server.extensions: vllm), or engine: transformers."
        )


def _told_tokens(completion: Completion) -> tuple[int, ...]:
    if completion.token_ids is None:
        raise EvaluationError(
            "the server does not tell token ids. It is no vLLM of version 0.10.2 or later: remove "
            "evaluation.server.extensions."
        )
    return completion.token_ids
