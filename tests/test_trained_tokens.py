"""A recipe with all that a lora block can hold, to a release that loads as its card says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.run_folder import RunFolder, open_run
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
MARKERS = ["<|im_start|>", "<|im_end|>"]


def proofbox(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runner", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=["lora", "pissa"])
def finished(
    request: pytest.FixtureRequest, tiny_recipe: dict[str, Any], write_recipe: Any, tmp_path: Path
) -> RunFolder:
    """The base model knows nothing of the template's markers, nor of the word `return`."""
    tiny_recipe["template"] = {"chat": "chatml"}
    tiny_recipe["lora"] |= {
        "variant": request.param,
        "trained_tokens": [*MARKERS, "return"],
        "special_tokens": MARKERS,
        "modules_to_save": ["norm"],
        "target_modules": "all-linear",
        "exclude_modules": [r"down_proj"],
        "rank_pattern": {"v_proj": 2},
        "alpha_pattern": {"v_proj": 2},
    }
    recipe = write_recipe(tiny_recipe)
    told = proofbox("run", recipe, "--runs", tmp_path / "runs")
    assert "lora.trained_tokens: 'return' is new, with id 261" in told
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    return open_run(folder)


def test_an_adapter_with_everything_is_released_and_loads_as_its_card_says(
    finished: RunFolder, tmp_path: Path
) -> None:
    assert "verified. Verdict PASS" in proofbox("verify", finished.release)
    card = (finished.release / "README.md").read_text()
    code = card.partition("```python\n")[2].partition("```")[0]
    base = json.loads((finished.path / "lock.json").read_text())["model"]["name"]
    code = code.replace(f'"{Path(base).name}"', repr(base)).replace("=256", "=4")
    script = tmp_path / "as_the_card_says.py"
    script.write_text(code + CHECK.format(probe=str(finished.probe)))
    done = subprocess.run(
        [sys.executable, script], cwd=finished.release, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    tokens, worst = json.loads(done.stdout.splitlines()[-1])
    assert {259, 260, 261} <= set(tokens), "the proof of the adapter shows each trained token"
    assert worst < 1e-5


CHECK = """
import json
import torch
from safetensors.torch import load_file

stored, seen, worst = load_file({probe!r}), set(), 0.0
model.eval()
for i in range(len(stored) // 2):
    ids = stored[f"ids.{{i}}"]
    with torch.no_grad():
        logits = model(input_ids=ids[None]).logits[0, -8:]
    seen |= set(ids.tolist())
    worst = max(worst, float((logits - stored[f"logits.{{i}}"]).abs().max()))
print(json.dumps([sorted(seen), worst]))
"""
