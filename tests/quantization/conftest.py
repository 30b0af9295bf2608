"""A tiny Mistral wide enough for groups of 128, and its GPTQ checkpoints, loaded as a run loads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.quantization.classical_gptq import IntegerLinear, Scheme, write_checkpoint

# Before gptqmodel is imported: on a few cores it crashes for want of a worker, and compiles a
# C++ extension for packing that nothing here needs.
os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
os.environ.setdefault("GPTQMODEL_DISABLE_PACK_EXT", "1")
os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")

NEEDS_GPTQ = "needs the extra gptq; `make test-quantization` installs it"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint on disk and the integers that it was made from."""

    folder: Path
    scheme: Scheme
    linears: dict[str, IntegerLinear]


@pytest.fixture(scope="session")
def wide_model_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Path:
    """A Mistral of two layers, 128 wide, whose linear modules are multiples of 128 where read."""
    import torch
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    folder = tmp_path_factory.mktemp("wide-model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.08,
    )
    MistralForCausalLM(config).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, wide_model_folder: Path
) -> Callable[..., Checkpoint]:
    """A checkpoint by a scheme, made once; do not change it."""
    made: dict[Any, Checkpoint] = {}

    def make(scheme: Scheme, **given: Any) -> Checkpoint:
        key = (scheme, tuple(sorted(given.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp("gptq") / "model"
            linears = write_checkpoint(wide_model_folder, folder, scheme, **given)
            made[key] = Checkpoint(folder=folder, scheme=scheme, linears=linears)
        return made[key]

    return make


@pytest.fixture
def own_checkpoint(checkpoint: Callable[..., Checkpoint], tmp_path: Path) -> Checkpoint:
    """A checkpoint by the default scheme, to be changed."""
    first = checkpoint(Scheme())
    folder = tmp_path / "own-checkpoint"
    shutil.copytree(first.folder, folder)
    return Checkpoint(folder=folder, scheme=first.scheme, linears=first.linears)
