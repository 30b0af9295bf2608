"""A run whose answers come from a server: refused until the adapter is served, then continued."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.run_folder import open_run
from tests.conftest import ROOT
from tests.evalsuite.generation.completions import Body, serving


def run(recipe: Path, runs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", "run", str(recipe), "--runs", str(runs)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={
            **os.environ, "PROOFBOX_CACHE": str(runs / "cache"), "A_KEY": "sk-secret",
            "NO_PROXY": "127.0.0.1",
        },
    )  # fmt: skip


def complete(body: Body) -> Body:
    usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 3}
    return {"choices": [{"text": body["model"], "finish_reason": "stop"}], "usage": usage}


@pytest.mark.slow
def test_a_run_waits_for_its_adapter_to_be_served(
    tmp_path: Path, tiny_recipe: dict[str, Any]
) -> None:
    recipe, runs = tmp_path / "recipe.json", tmp_path / "runs"
    with serving(complete, models=["tiny"]) as (server, spec):
        tiny_recipe["evaluation"] |= {
            "engine": "openai",
            "server": {
                "url": spec.url, "base_model": "tiny", "adapter_model": "mine",
                "api_key_env": "A_KEY",
            },
        }  # fmt: skip
        recipe.write_text(json.dumps(tiny_recipe))
        first = run(recipe, runs)
        assert first.returncode == 4, first.stderr
        adapter = open_run(runs / "tiny").adapter
        message = " ".join(first.stderr.split())
        assert f"Serve the adapter in {adapter} under that name" in message
        assert "Traceback" not in first.stderr
        assert server.models is not None
        server.models.append("mine")
        second = run(recipe, runs)
        assert second.returncode in (0, 1, 3), second.stderr
        assert "training: done before" in second.stdout + second.stderr
    found = open_run(runs / "tiny")
    for subject, model in (("base", "tiny"), ("adapter", "mine")):
        rows = pq.read_table(found.evaluation / subject / "answers.parquet").to_pylist()
        assert {row["answer"] for row in rows} == {model}
        assert {row["new_tokens"] for row in rows} == {3}
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer sk-secret"}
    # The key is nowhere: not in the records, not in the log, not in the cache.
    files = [path for path in runs.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if b"sk-secret" in path.read_bytes()]
    assert not list((runs / "cache" / "evaluations").glob("*")), "what a server runs may change"
