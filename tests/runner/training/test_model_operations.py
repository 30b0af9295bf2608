"""Operations of a model by hand, and what PyTorch itself counts while it trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    FalconMambaConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
)

from runner.training.model_operations import attended, count_operations
from runner.training.peak_speed import device_peak, peak_operations

TINY: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def model(kind: Any = LlamaConfig, **changes: Any) -> Any:
    return AutoModelForCausalLM.from_config(
        kind(**{**TINY, **changes}), attn_implementation="eager"
    )


def adapted(bare: Any, **options: Any) -> Any:
    options.setdefault("target_modules", "all-linear")
    return get_peft_model(bare, LoraConfig(r=4, **options))


LAYER = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64  # q, k and v, o, gate and up and down
LORA = 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))  # r · (in + out) of the same seven


def test_every_weight_counts_twice_forward_and_twice_backward() -> None:
    found = count_operations(adapted(model()))
    assert found is not None
    assert found.token == 2 * (4 * LAYER + 6 * LORA)
    assert found.supervised == 4 * 32 * 50
    assert found.pair == 12 * 4 * 8
    assert found.windows == {None: 2}


def test_weights_that_are_trained_themselves_count_once_more() -> None:
    wrapped = adapted(model(), target_modules=["q_proj"], modules_to_save=["lm_head", "v_proj"])
    found = count_operations(wrapped)
    assert found is not None
    assert found.supervised == 6 * 32 * 50
    assert found.token == 2 * (4 * LAYER + 2 * 32 * 16 + 6 * 4 * (32 + 32))


def test_pytorch_counts_nearly_as_many() -> None:
    """The difference: the gradient of the first layer's input, which nobody needs."""
    wrapped = adapted(model(num_hidden_layers=4))
    ids = torch.randint(3, 50, (1, 64))
    with FlopCounterMode(display=False) as counter:
        wrapped(input_ids=ids, labels=ids).loss.backward()
    found = count_operations(wrapped)
    assert found is not None
    ours = found.token * 64 + found.supervised * 64 + found.pair * 4 * 64 * 64
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.05)


@pytest.mark.parametrize(
    ("bare", "windows"),
    [
        (lambda: model(MistralConfig, sliding_window=16), {16: 2}),
        (lambda: model(MistralConfig, sliding_window=None), {None: 2}),
        (lambda: model(Qwen2Config, sliding_window=16, use_sliding_window=False), {None: 2}),
        (
            lambda: model(
                Gemma3TextConfig,
                sliding_window=8,
                layer_types=["sliding_attention", "full_attention"],
            ),
            {8: 1, None: 1},
        ),
    ],
)
def test_layers_see_as_far_as_their_windows(bare: Any, windows: dict[int | None, int]) -> None:
    found = count_operations(bare())
    assert found is not None
    assert found.windows == windows


def test_gpt2_has_linear_modules_of_its_own() -> None:
    bare = AutoModelForCausalLM.from_config(
        GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=4, bos_token_id=0, eos_token_id=0)
    )
    bare.requires_grad_(requires_grad=False)
    found = count_operations(bare)
    assert found is not None
    assert found.token == 4 * (32 * 96 + 32 * 32 + 2 * 32 * 128)


def test_what_is_not_understood_is_not_guessed() -> None:
    assert count_operations(model(MixtralConfig, num_local_experts=2)) is None
    mamba = FalconMambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1)
    assert count_operations(AutoModelForCausalLM.from_config(mamba)) is None


def test_pairs_are_those_that_the_mask_allows() -> None:
    for length in range(1, 12):
        for window in (None, 1, 4, 11, 20):
            seen = [min(place + 1, window or length) for place in range(length)]
            assert attended(length, window) == sum(seen)


@pytest.mark.parametrize(
    ("name", "dtype", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989.4e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA H200", "float16", 989.4e12),
        ("NVIDIA H200 NVL", "bfloat16", 835.5e12),
        ("NVIDIA A100-SXM4-40GB", "bfloat16", 312e12),
        ("NVIDIA A100 80GB PCIe", "bfloat16", 312e12),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bfloat16", None),
        ("Tesla T4", "float16", 65e12),
        ("Tesla T4", "bfloat16", None),
        ("NVIDIA H100 80GB HBM3", "float32", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bfloat16", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bfloat16", None),
        ("NVIDIA A10G", "bfloat16", None),
        ("Some GPU of next year", "bfloat16", None),
    ],
)
def test_peaks_are_published_or_unknown(name: str, dtype: str, peak: float | None) -> None:
    assert peak_operations(name, dtype) == peak


def test_a_cpu_has_no_known_peak() -> None:
    assert device_peak("cpu", "float32") is None
