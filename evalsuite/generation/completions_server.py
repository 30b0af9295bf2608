"""A server with OpenAI's completions interface: one request, and all that can go wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import requests
from urllib3.util import Retry

from evalsuite.errors import EvaluationError
from evalsuite.records import ServerSpec

# A server that is starting, overloaded or behind a proxy that lost it answers with one of these.
_PASSING = (408, 429, 500, 502, 503, 504)
# Seconds before the second try, doubled before each further one.
_FIRST_WAIT = 0.5
_CONNECT_SECONDS = 10.0
# Characters of a server's own explanation that are shown.
_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Completion:
    """What the server wrote after one prompt; token ids only where it tells them."""

    text: str
    finished: bool
    prompt_tokens: int | None
    new_tokens: int
    token_ids: tuple[int, ...] | None


class CompletionsServer:
    """A connection that tries again what may pass, and says in words what does not."""

    def __init__(self, spec: ServerSpec) -> None:
        """Read the key from its environment variable; nothing is sent yet.

        Raises:
            EvaluationError: The variable is not set.
        """
        self._spec = spec
        self._session = requests.Session()
        self._session.auth = _Key(_key(spec.api_key_env))
        retry = Retry(
            total=spec.retries,
            backoff_factor=_FIRST_WAIT,
            status_forcelist=_PASSING,
            allowed_methods=None,  # a prompt may be answered twice: it changes nothing there
            raise_on_status=False,
        )
        adapter = requests.adapters.HTTPAdapter(max_retries=retry, pool_maxsize=spec.concurrency)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def models(self) -> list[str] | None:
        """Names of the models that are served; None where the server does not list them."""
        response = self._send("GET", "models", None)
        if response.status_code in (404, 405, 501):
            return None
        listed = self._content(response).get("data")
        if not isinstance(listed, list):
            return None
        return [str(entry["id"]) for entry in listed if isinstance(entry, dict) and "id" in entry]

    def complete(self, body: Mapping[str, Any]) -> Completion:
        """The completion of one prompt.

        Raises:
            EvaluationError: The server cannot be reached, refuses, or answers with something else.
        """
        content = self._content(self._send("POST", "completions", body))
        try:
            return _completion(content)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EvaluationError(
                f"{self._place('completions')}: this is no completion ({error!r}): "
                f"{str(content)[:_SHOWN]}"
            ) from None

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> requests.Response:
        place, seconds = self._place(path), self._spec.timeout
        try:
            return self._session.request(
                method, place, json=body, timeout=(min(_CONNECT_SECONDS, seconds), seconds)
            )
        except (requests.Timeout, requests.ConnectionError) as error:
            slow = isinstance(error, requests.Timeout) or "Read timed out" in str(error)
            raise EvaluationError(
                f"{place}: no answer within {seconds:g} seconds, {self._spec.retries + 1} times. "
                "Raise evaluation.server.timeout, or lower evaluation.server.concurrency."
                if slow
                else f"{place}: the server cannot be reached. Start it, or change "
                f"evaluation.server.url. ({_cause(error)})"
            ) from None
        except requests.RequestException as error:
            raise EvaluationError(f"{place}: {error}") from None

    def _content(self, response: requests.Response) -> dict[str, Any]:
        if response.status_code in (401, 403):
            named = self._spec.api_key_env
            raise EvaluationError(
                f"{response.url}: the server refuses the API key in ${named}."
                if named
                else f"{response.url}: the server wants an API key. Name the environment variable "
                "that holds it: evaluation.server.api_key_env."
            )
        if not response.ok:
            raise EvaluationError(
                f"{response.url}: HTTP {response.status_code}: {_explanation(response)}"
            )
        try:
            content = response.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise EvaluationError(
                f"{response.url}: expected a JSON object, found {response.text[:_SHOWN]!r}."
            )
        return content

    def _place(self, path: str) -> str:
        return f"{self._spec.url.rstrip('/')}/{path}"


@dataclass(frozen=True, slots=True)
class _Key:
    """Puts the key into a request; without one, also keeps `requests` from looking into netrc."""

    key: str | None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key is not None:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise EvaluationError(
            f"evaluation.server.api_key_env: the environment variable {variable} is not set. "
            f"Set it to the server's API key."
        )
    return key


def _completion(content: Mapping[str, Any]) -> Completion:
    choice = content["choices"][0]
    reason, usage = choice["finish_reason"], content.get("usage") or {}
    if reason not in ("stop", "length"):
        raise ValueError(f"finish_reason is {reason!r}, not 'stop' or 'length'")
    ids = choice.get("token_ids")
    token_ids = None if ids is None else tuple(int(token) for token in ids)
    counted = usage.get("completion_tokens")
    if counted is None:
        counted = len(cast("tuple[int, ...]", token_ids))
    prompt_tokens = usage.get("prompt_tokens")
    return Completion(
        text=str(choice["text"]),
        finished=reason == "stop",
        prompt_tokens=None if prompt_tokens is None else int(prompt_tokens),
        new_tokens=int(counted),
        token_ids=token_ids,
    )


def _explanation(response: requests.Response) -> str:
    """What the server says about an error, in whichever form it does."""
    try:
        content = response.json()
    except ValueError:
        return response.text[:_SHOWN].strip() or response.reason
    error = content.get("error", content) if isinstance(content, dict) else content
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:_SHOWN]


def _cause(error: requests.RequestException) -> str:
    """The innermost reason of a failed connection."""
    inner: BaseException = error
    while isinstance(reason := getattr(inner, "reason", None), BaseException) or (
        inner.args and isinstance(reason := inner.args[0], BaseException)
    ):
        inner = reason
    return str(inner).rpartition(": ")[2]
