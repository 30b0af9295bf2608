"""What proofbox and transformers use of wandb, noting every call: for machines without it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

calls: list[tuple[Any, ...]] = []
run: Any = None


class Error(Exception):
    pass


errors = SimpleNamespace(Error=Error)
logged_in = True


def Settings(**values: Any) -> dict[str, Any]:  # noqa: N802 - wandb's own name
    return values


class Run:
    def __init__(self, identity: str) -> None:
        self.id = identity
        self.url = None
        self.summary: dict[str, Any] = {}
        self.settings = SimpleNamespace(mode="offline", sync_dir=f"offline-run-{identity}")

    def define_metric(self, *_: Any, **__: Any) -> None:
        pass

    def log(self, values: dict[str, Any]) -> None:
        calls.append(("log", dict(values)))

    def finish(self, exit_code: int = 0) -> None:
        global run  # noqa: PLW0603 - as wandb has it
        calls.append(("finish", exit_code, dict(self.summary)))
        run = None


def init(**options: Any) -> Run:
    global run  # noqa: PLW0603 - as wandb has it
    if not logged_in:
        raise Error("No API key configured. Use `wandb login` to log in.")
    calls.append(("init", options))
    run = Run(options["id"])
    return run


def log(values: dict[str, Any]) -> None:
    run.log(values)
