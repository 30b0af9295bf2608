"""A tiny base model and tiny data, made on the spot; and a cache of the tests' own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

# Before torch is imported: two tests run side by side on two cores, and a second thread each
# makes both slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never touch the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["PROOFBOX_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mistral of two layers with random weights, and a byte-level tokenizer."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    folder = tmp_path_factory.mktemp("tiny-model")
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    MistralForCausalLM(config).save_pretrained(str(folder))
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture
def tiny_rows(tmp_path: Path) -> Path:
    """60 rows in Alpaca columns with tests, as JSON Lines."""
    path = tmp_path / "rows.jsonl"
    rows = [
        {
            "instruction": f"Add {n} to x.",
            "input": "",
            "output": f"def f(x):\n    return x + {n}",
            "tests": f"assert f(1) == {n + 1}",
        }
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_model_folder: Path, tiny_rows: Path) -> dict[str, Any]:
    """A recipe that runs in seconds; change what a test is about and `write_recipe`."""
    return {
        "version": 1,
        "name": "tiny",
        "dataset": {
            "source": tiny_rows.name,
            "columns": {"tests": "tests"},
            "partition": {"by": "position", "train": 0.6, "validation": 0.2, "test": 0.2},
        },
        "model": {"base": str(tiny_model_folder), "dtype": "float32"},
        "lora": {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]},
        "training": {
            "max_steps": 12,
            "batch_size": 4,
            "learning_rate": 0.01,
            "log_every": 2,
            "validate_every": 6,
            "checkpoint_every": 3,
            "neftune_alpha": 5,
        },
        "evaluation": {
            "loss": ["test"],
            "generation": [
                {
                    "name": "answers",
                    "data": "test",
                    "limit": 6,
                    "decoding": {"max_new_tokens": 8},
                    "metrics": ["exact_match", "chrf"],
                }
            ],
            "samples": ["Add 1 to x."],
        },
        "gates": [{"metric": "test.loss", "claim": "superior"}],
        "hardware": {"device": "cpu", "threads": 1},
    }


@pytest.fixture
def write_recipe(tmp_path: Path) -> Any:
    """Write a recipe beside its data and return its path."""

    def write(recipe: dict[str, Any], name: str = "recipe.json") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(recipe), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real public data beside the checkout; the test is skipped where it is not there."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public data for benchmarks is not on this machine")
    return folder
