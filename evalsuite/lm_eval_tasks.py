"""Tasks of lm-evaluation-harness (extra lm-eval), run by it on the loaded model.

Its numbers are its own: it renders, batches, scores and filters. What is taken over is each item's
score (lm_eval_items.py): two models are compared on the same items, with intervals and gates.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.bench import Bench
from evalsuite.errors import EvaluationError
from evalsuite.lm_eval_items import TaskRun, store_items
from evalsuite.records import LmEvalTasks

if TYPE_CHECKING:
    from lm_eval.api.task import Task

INSTALL = "pip install 'proofbox[lm-eval]'"
_STDERR = 2  # the file descriptor
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def is_installed() -> bool:
    """Whether the extra is there."""
    return importlib.util.find_spec("lm_eval") is not None


def evaluate_lm_eval(bench: Bench, block: LmEvalTasks) -> dict[str, Any]:
    """Run all tasks and store the items of each in a file of its own; returns their summaries.

    Raises:
        EvaluationError: The extra is missing, a task is not known, cannot be loaded or run, or
            gives no score of an item.
    """
    if not is_installed():
        raise EvaluationError(f"evaluation.lm_eval needs the package lm_eval: {INSTALL}")
    started = time.perf_counter()
    if bench.on_progress is not None:
        bench.on_progress("lm-eval", 0, 1)
    runs = run_tasks(bench, block)
    summaries = {name: store_items(bench.folder, name, run) for name, run in runs.items()}
    if bench.on_progress is not None:
        bench.on_progress("lm-eval", 1, 1)
    return {
        "version": version("lm_eval"),
        "seconds": time.perf_counter() - started,
        "tasks": summaries,
    }


def run_tasks(bench: Bench, block: LmEvalTasks) -> dict[str, TaskRun]:
    """What the harness makes of each task; of a group, of each of its tasks.

    Raises:
        EvaluationError: A task is not known, or cannot be loaded or run.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    with _quietly(), contextlib.chdir(block.include_path or Path.cwd()):
        tasks = _load(block)
        with _explained("lm-eval"):
            results = simple_evaluate(
                model=_model(bench, block),
                tasks=list(tasks.values()),
                num_fewshot=block.num_fewshot,
                limit=block.limit,
                bootstrap_iters=0,  # the intervals are ours
                log_samples=True,
                system_instruction=block.system,
                apply_chat_template=block.apply_chat_template,
                fewshot_as_multiturn=block.fewshot_as_multiturn and block.apply_chat_template,
                task_manager=TaskManager(include_defaults=False),
            )
    if results is None:
        raise EvaluationError("lm-eval gave no results: it runs in one process only.")
    return {name: _task_run(name, task, results, block) for name, task in tasks.items()}


def _model(bench: Bench, block: LmEvalTasks) -> Any:  # noqa: ANN401 - untyped
    """The loaded model as the harness takes it; it may change the tokenizer, so it gets a copy."""
    from lm_eval.models.huggingface import HFLM

    tokenizer = copy.deepcopy(bench.tokenizer)
    if block.apply_chat_template:
        tokenizer.chat_template = block.chat_template
    with _explained("lm-eval"):
        return HFLM(
            pretrained=bench.model,
            tokenizer=tokenizer,
            batch_size=block.batch_size,
            chat_template_args={}
            if block.thinking is None
            else {"enable_thinking": block.thinking},
        )


def _load(block: LmEvalTasks) -> dict[str, Task]:
    """The tasks by name. Those of ``include_path`` alone are found much faster."""
    from lm_eval.tasks import TaskManager

    folder = None if block.include_path is None else str(block.include_path)
    manager = None
    with _explained("lm-eval"):
        if folder is not None:
            manager = TaskManager(include_path=folder, include_defaults=False)
        if manager is None or not set(block.tasks) <= set(manager.all_tasks):
            manager = TaskManager(include_path=folder)
    _refuse_unknown(block.tasks, manager.all_tasks)
    found: dict[str, Task] = {}
    for name in block.tasks:
        with _explained(f"lm-eval task {name}"):
            found |= manager.load([name])["tasks"]
    for name, task in found.items():
        _refuse_file_name(name)
        _refuse_data_elsewhere(name, task, block.include_path)
    return found


def _refuse_unknown(names: Sequence[str], known: Sequence[str]) -> None:
    from difflib import get_close_matches

    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            raise EvaluationError(
                f"lm-eval has no task {name!r} ({len(known):,} are known, those of "
                f"evaluation.lm_eval.include_path among them).{meant}"
            )


def _refuse_file_name(name: str) -> None:
    if not _FILE_NAME.fullmatch(name):
        raise EvaluationError(
            f"lm-eval task {name!r}: its results need a file of this name, which it cannot have."
        )


def _refuse_data_elsewhere(name: str, task: Task, folder: Path | None) -> None:
    """Local data must be in ``folder``, whose digest says what an evaluation was made of."""
    arguments = getattr(task.config, "dataset_kwargs", None) or {}
    for path in _paths(arguments.get("data_files")):
        local = Path(path).expanduser()
        if folder is not None and (folder / local).resolve().is_relative_to(folder.resolve()):
            continue
        if "://" not in path and (local.is_absolute() or folder is not None):
            raise EvaluationError(
                f"lm-eval task {name}: its data {path!r} lies outside of "
                "evaluation.lm_eval.include_path. Move it there: what is there is known by its "
                "digest."
            )


def _paths(files: object) -> Iterator[str]:
    """The paths in ``data_files``: one, a list, or either by split."""
    if isinstance(files, str):
        yield files
    elif isinstance(files, Mapping):
        for part in files.values():
            yield from _paths(part)
    elif isinstance(files, Sequence):
        for part in files:
            yield from _paths(part)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """What a task that somebody else wrote, or its data, may raise."""
    import jinja2
    import yaml
    from datasets.exceptions import DatasetsError

    raised = (
        OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, AssertionError,
        yaml.YAMLError, jinja2.TemplateError, DatasetsError,
    )  # fmt: skip
    try:
        yield
    except raised as error:
        raise EvaluationError(f"{what}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """No bars and no log lines of the harness between ours, nor what git says that it calls."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    kept, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(nowhere)
        logger.setLevel(before)


def _task_run(name: str, task: Task, results: Mapping[str, Any], block: LmEvalTasks) -> TaskRun:
    samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
    config = json.dumps(results["configs"][name], sort_keys=True, default=str)
    given = {key: value for key, value in asdict(block).items() if key not in _NOT_SCORED}
    return TaskRun(
        task=task,
        samples=samples,
        results=results["results"][name],
        higher_is_better=results["higher_is_better"][name],
        conditions={
            "data": name,
            "lm_eval": version("lm_eval"),
            "task_version": results["versions"].get(name),
            "num_fewshot": results["n-shot"].get(name),
            "config_digest": _digest([_ADDRESS.sub("", config)]),
            "task_hash": _digest(
                str(sample[key])
                for sample in samples
                for key in ("doc_hash", "prompt_hash", "target_hash")
            ),
            **given,
        },
    )


# Arguments that a score does not depend on, or that other conditions stand for.
_NOT_SCORED = ("tasks", "include_path", "num_fewshot", "batch_size", "chat_template")


def _digest(parts: Iterator[str] | Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
