"""What `plan` says of memory is what is then measured; and hollow models attend as whole ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, MistralConfig, Qwen3Config

from evalsuite.packed_attention import UnpackableError, look_at_attention
from runner.base_model.hollow_model import hollowed

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
# A training alone in a process, without evaluation; and the peak that `plan` forecasts.
PROGRAM = """
import json, sys
from pathlib import Path
from runner import stages
from runner.base_model.loaded_model import model_skeleton
from runner.memory_forecast import forecast_memory
from runner.plan import make_plan
from runner.progress import Progress
plan = make_plan(Path(sys.argv[1]), runs=Path(sys.argv[2]))
if sys.argv[3] == "plan":
    data = stages.prepared(plan, Progress())
    print(forecast_memory(plan, model_skeleton(plan.recipe, plan.model), data).peak)
else:
    stages.start(plan, restart=True, progress=Progress())
    data = stages.prepare(plan, Progress())
    print(stages.train(plan, data, Progress()).peak_memory_bytes)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("quickstart", {"training": {"max_steps": 12}}),
        ("quickstart-attention", {"training": {"max_steps": 12}}),
        (
            "quickstart",
            {
                "training": {"max_steps": 4, "batch_size": 64, "validate_every": None},
                "hardware": {"micro_batch_tokens": 8192},
            },
        ),
        (
            "quickstart",
            {
                "training": {"max_steps": 4, "batch_size": 64, "validate_every": None},
                "hardware": {"micro_batch_tokens": 8192, "activation_checkpointing": True},
            },
        ),
        (
            "quickstart",
            {
                "model": {"dtype": "bfloat16"},
                "training": {"max_steps": 4, "batch_size": 32},
                "hardware": {"attention": "padded"},
            },
        ),
    ],
    ids=["quickstart", "attention", "large parts", "recomputed", "bfloat16, padded"],
)
def test_the_forecast_is_within_15_percent_of_what_is_measured(
    recipe: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    import yaml

    document = yaml.safe_load((ROOT / "recipes" / f"{recipe}.yaml").read_text())
    for block, values in changes.items():
        document[block] = {**document.get(block, {}), **values}
    # PyYAML reads 3e-3 as text.
    document["training"]["learning_rate"] = float(document["training"]["learning_rate"])
    source = ROOT / "recipes" / document["dataset"]["source"]
    document["dataset"]["source"] = str(source)
    document["model"]["base"] = str(ROOT / "recipes" / document["model"]["base"])
    document["evaluation"]["code_execution"] = {"backend": "subprocess"}
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(document))
    peaks = []
    for what in ("plan", "train"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path), str(tmp_path / "runs"), what],
            capture_output=True, text=True, check=False, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "2"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[0] == pytest.approx(peaks[1], rel=0.15)


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SMALL, sliding_window=8),
        Qwen3Config(**SMALL, head_dim=8),
        MistralConfig(**SMALL, sliding_window=None),
    ],
    ids=["windows", "qwen3", "no windows"],
)
def test_a_hollow_model_attends_as_the_whole_one(config: Any) -> None:
    whole = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    hollow = hollowed(skeleton, torch.bfloat16)
    assert look_at_attention(hollow, 30) == look_at_attention(whole, 30)
    assert skeleton.device.type == "meta"


def test_a_hollow_model_shows_what_stands_against_packing() -> None:
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=60)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    hollow = hollowed(skeleton, torch.float32).train()
    with pytest.raises(UnpackableError, match="dropout"):
        look_at_attention(hollow, 30)


def test_a_hollow_model_takes_no_memory(tiny_model_folder: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_model_folder)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(config)
    hollow = hollowed(skeleton, torch.float32)
    held = sum(p.untyped_storage().nbytes() for p in (*hollow.parameters(), *hollow.buffers()))
    assert held < 1000
