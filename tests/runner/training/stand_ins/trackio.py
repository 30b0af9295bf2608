"""What proofbox and transformers use of trackio, noting every call: for machines without it."""

from __future__ import annotations

from typing import Any

calls: list[tuple[Any, ...]] = []


def init(**options: Any) -> None:
    print("* Trackio project initialized")
    calls.append(("init", options))


def log(values: dict[str, Any]) -> None:
    calls.append(("log", dict(values)))


def finish() -> None:
    calls.append(("finish",))
