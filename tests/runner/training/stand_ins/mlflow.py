"""What proofbox and transformers use of mlflow, noting every call: for machines without it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

__version__ = "3.0.0"
calls: list[tuple[Any, ...]] = []
runs: dict[str, SimpleNamespace] = {}
opened: SimpleNamespace | None = None


class MlflowException(Exception):  # noqa: N818 - mlflow's own name
    def __init__(self, message: str, error_code: str = "INTERNAL_ERROR") -> None:
        super().__init__(message)
        self.error_code = error_code


exceptions = SimpleNamespace(MlflowException=MlflowException)
utils = SimpleNamespace(
    validation=SimpleNamespace(MAX_PARAM_VAL_LENGTH=20, MAX_PARAMS_TAGS_PER_BATCH=10)
)


class MlflowClient:
    def get_run(self, run_id: str) -> Any:
        if run_id not in runs:
            raise MlflowException("no such run", "RESOURCE_DOES_NOT_EXIST")
        return runs[run_id]


def set_experiment(name: str) -> None:
    calls.append(("experiment", name))


def start_run(run_id: str | None = None, run_name: str | None = None) -> Any:
    global opened  # noqa: PLW0603 - as mlflow has it
    calls.append(("start", run_id, run_name))
    known = run_id or f"run-{len(runs)}"
    runs[known] = SimpleNamespace(info=SimpleNamespace(run_id=known, lifecycle_stage="active"))
    opened = runs[known]
    return opened


def active_run() -> Any:
    return opened


def log_params(values: dict[str, str]) -> None:
    calls.append(("params", values))


def log_metrics(
    metrics: dict[str, float], step: int | None = None, synchronous: bool = True
) -> None:
    calls.append(("metrics", step, metrics))


def set_tag(name: str, value: str) -> None:
    calls.append(("tag", name, value))


def get_tracking_uri() -> str:
    return "sqlite:///mlflow.db"


def end_run(status: str = "FINISHED") -> None:
    global opened  # noqa: PLW0603 - as mlflow has it
    calls.append(("end", status))
    opened = None
