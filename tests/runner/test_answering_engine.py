"""From a recipe to what generates answers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import EvaluationError
from evalsuite.records import EngineSpec, ServerSpec
from runner.commands.answering_engine import engine_spec, generation_tokens, other_engine
from runner.plan import Plan, make_plan

SERVER = {
    "url": "http://127.0.0.1:1/v1", "base_model": "tiny", "adapter_model": "mine",
    "api_key_env": "A_KEY", "prompts": "text", "extensions": "vllm", "timeout": 5, "retries": 0,
    "concurrency": 2,
}  # fmt: skip


def plan_of(recipe: dict[str, Any], write_recipe: Any, tmp_path: Path) -> Plan:
    return make_plan(write_recipe(recipe), runs=tmp_path / "runs")


@pytest.fixture
def served(tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    tiny_recipe["evaluation"] |= {"engine": "openai", "server": {**SERVER, "url": url}}
    return tiny_recipe


def test_every_key_of_the_recipe_arrives(
    served: dict[str, Any], write_recipe: Any, tmp_path: Path
) -> None:
    plan = plan_of(served, write_recipe, tmp_path)
    block = plan.recipe.evaluation.server
    assert block is not None
    assert engine_spec(plan.recipe) == EngineSpec(
        name="openai", server=ServerSpec(**{**SERVER, "url": block.url})
    )


def test_transformers_is_the_bench_s_own(
    tiny_recipe: dict[str, Any], write_recipe: Any, tmp_path: Path
) -> None:
    plan = plan_of(tiny_recipe, write_recipe, tmp_path)
    assert engine_spec(plan.recipe) == EngineSpec()
    assert generation_tokens(plan.recipe) is None
    spec: Any = Spec(EngineSpec())
    assert other_engine(plan, "base", spec, None, None) is None  # type: ignore[arg-type]


def test_batch_tokens_bound_generation_where_they_are_given(
    tiny_recipe: dict[str, Any], write_recipe: Any, tmp_path: Path
) -> None:
    tiny_recipe["hardware"]["batch_tokens"] = 777
    assert generation_tokens(plan_of(tiny_recipe, write_recipe, tmp_path).recipe) == 777


def test_a_server_is_looked_for_before_anything_is_asked(
    served: dict[str, Any], write_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "k")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    plan = plan_of(served, write_recipe, tmp_path)
    spec: Any = Spec(engine_spec(plan.recipe))
    with pytest.raises(EvaluationError, match="the server cannot be reached"):
        other_engine(plan, "base", spec, None, None)  # type: ignore[arg-type]


def test_vllm_is_given_the_folders(
    tiny_recipe: dict[str, Any],
    tiny_model_folder: Path,
    write_recipe: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "evalsuite.generation.open_engine", lambda spec, subject: seen.append(subject)
    )
    tiny_recipe["evaluation"]["engine"] = "vllm"
    plan = plan_of(tiny_recipe, write_recipe, tmp_path)
    spec: Any = Spec(engine_spec(plan.recipe))
    for subject in ("base", "adapter"):
        other_engine(plan, subject, spec, None, None)  # type: ignore[arg-type]
    assert [(s.subject, s.base, s.adapter) for s in seen] == [
        ("base", str(tiny_model_folder), None),
        ("adapter", str(tiny_model_folder), plan.folder.adapter),
    ]


class Spec:
    """The one part of an evaluation's specification that is looked at."""

    def __init__(self, engine: EngineSpec) -> None:
        self.engine = engine
