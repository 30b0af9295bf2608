"""The pretraining script and the committed model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import repeat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

from pretraining.pretrain import ShardTokens, learning_rate, model_config, pretrain

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes/quickstart/model"


def test_the_committed_model_is_small_and_of_the_declared_shape() -> None:
    weights = FOLDER / "model.safetensors"
    assert weights.stat().st_size <= 8_000_000
    with safe_open(weights, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    assert sum(tensor.numel() for tensor in tensors.values()) == 3_705_600
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    config = MistralConfig.from_pretrained(FOLDER)
    declared = model_config(AutoTokenizer.from_pretrained(FOLDER), layers=5, intermediate=640)
    for name in ("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings"):
        assert getattr(config, name) == getattr(declared, name)
    assert config.tie_word_embeddings


def test_the_base_completes_a_function_it_is_told_about() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = MistralForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    text = "<s># Multiply n by 7, add 12 to it and return it.\ndef scale_code(n):"
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    out = model.generate(ids, max_new_tokens=24, do_sample=False, pad_token_id=0)
    names: dict[str, object] = {}
    body = tokenizer.decode(out[0], skip_special_tokens=True).split("\n\n")[0]
    exec(body, names)
    assert names["scale_code"](5) == 47


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01, rel=0.01)
    assert max(rates) == pytest.approx(1.0, rel=0.05)
    assert rates[-1] == pytest.approx(0.05, rel=0.01)


def test_the_same_batches_give_the_same_weights() -> None:
    def losses() -> list[float]:
        torch.manual_seed(1)
        config = MistralConfig(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            pad_token_id=0,
        )
        rows = torch.arange(32).reshape(2, 16) % 7
        return pretrain(
            MistralForCausalLM(config),
            repeat(rows),
            steps=5,
            peak=1e-2,
            device=torch.device("cpu"),
        )

    first = losses()
    assert first == losses()
    assert first[-1] < first[0]


def test_a_shard_is_packed_documents() -> None:
    tokens = ShardTokens(FOLDER, frozenset())(3)
    assert tokens[0] == 1
    assert tokens[-1] == 2
    assert (tokens == 1).sum() == (tokens == 2).sum() == 1000
    assert tokens.max() < 1024
    assert not (tokens == 0).any()


@pytest.mark.slow
def test_the_script_writes_a_model_folder(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pretraining.pretrain",
        "--steps",
        "2",
        "--batch",
        "1",
        "--device",
        "cpu",
        "--workers",
        "1",
        "--out",
        str(tmp_path),
        "--losses",
        str(tmp_path / "losses.json"),
    ]
    subprocess.run(command, cwd=ROOT, env={**os.environ}, check=True, capture_output=True)
    assert len(json.loads((tmp_path / "losses.json").read_text())) == 2
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644
    MistralForCausalLM.from_pretrained(tmp_path)
