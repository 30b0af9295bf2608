"""Attention of examples end to end, and compiled layers, on a CUDA device; `make test-gpu`."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from evalsuite.attention_kernels import attend_by_example, installed_kernels, packed_kernel
from evalsuite.packed_attention import Heads, Kernel, attending, look_at_attention, packed_inputs
from runner.training.attention_choice import choose_attention
from runner.training.layer_compilation import compile_layers, matrix_speed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
LENGTHS = ([61, 2, 35], [19, 40], [128], [5, 5, 5, 9], [100, 31])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "heads", [Heads(), Heads(scaling=0.3), Heads(window=1), Heads(window=17), Heads(window=60)]
)
@pytest.mark.parametrize("kernel", ["varlen", *installed_kernels()])
def test_a_kernel_gives_what_each_example_does_by_itself(
    kernel: Kernel, heads: Heads, dtype: torch.dtype
) -> None:
    """Output and gradients, with four queries' heads to a key's and a window or none."""
    torch.manual_seed(1)
    lengths = LENGTHS[0]
    edges = torch.tensor([0, *lengths]).cumsum(0).int().cuda()
    parts = [
        torch.randn(1, number, sum(lengths), 64, device="cuda", dtype=dtype).requires_grad_()
        for number in (8, 2, 2)
    ]
    exact = [part.detach().float().requires_grad_() for part in parts]
    expected = attend_by_example(exact[0], exact[1], exact[2], edges, heads)
    function = packed_kernel(kernel)
    assert function is not None
    query, key, value = (part[0].transpose(0, 1) for part in parts)
    found = function(query, key, value, edges, 128, heads)[None]
    assert (found.float() - expected).norm() / expected.norm() < 1e-2
    for mine, right in zip(
        torch.autograd.grad(found.float().cos().sum(), parts),
        torch.autograd.grad(expected.cos().sum(), exact),
        strict=True,
    ):
        # Where a token sees itself alone, queries and keys have no gradient but for rounding.
        assert (mine.float() - right).norm() < 2e-2 * right.norm() + 1e-3


def adapted(*, layers: int = 12, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(5)
    config = MistralConfig(
        **{
            "vocab_size": 97,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "pad_token_id": 0,
            **changes,
        }
    )
    model = MistralForCausalLM(config).to("cuda", dtype)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return get_peft_model(model, lora).train()


def step(model: Any, lengths: list[int], kernel: Kernel | None) -> dict[str, torch.Tensor]:
    """Loss and gradients of made-up examples; padded without a kernel."""
    model.zero_grad()
    rows = [torch.arange(length, device="cuda") % 97 for length in lengths]
    if kernel is None:
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], True)
        inputs: dict[str, Any] = {"attention_mask": mask}
    else:
        tokens = torch.cat(rows)[None]
        mask = torch.ones_like(tokens)
        inputs = packed_inputs(lengths, model.device, longest=128)
    with attending(model, kernel) if kernel else nullcontext():
        logits = model(input_ids=tokens, use_cache=False, **inputs).logits.float()
        loss = logits[mask.bool()].logsumexp(-1).sum() / sum(lengths)
        loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Gradients are compared by their direction and length: single values are noisy in bfloat16."""
    assert found.keys() == expected.keys()
    for name, right in expected.items():
        error = (found[name].float() - right.float()).norm() / right.float().norm()
        assert error < 5e-2, name


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_packed_rows_learn_what_padded_ones_do(window: int | None, checkpointed: bool) -> None:
    model = adapted(layers=2, sliding_window=window)
    expected = [step(model, lengths, None) for lengths in LENGTHS]
    if checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
    for lengths, right in zip(LENGTHS, expected, strict=True):
        assert_near(step(model, lengths, "auto"), right)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_compiled_layers_learn_the_same_with_two_programs(checkpointed: bool) -> None:
    torch._dynamo.reset()
    model = adapted(layers=3)
    expected = [step(model, lengths, "varlen") for lengths in LENGTHS]
    if checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
    programs = CompileCounterWithBackend("inductor")
    compile_layers(model, True, device="cuda", steps=1, tokens_per_step=1.0, backend=programs)
    broken = dict(torch._dynamo.utils.counters["graph_break"])
    for lengths, right in zip(LENGTHS, expected, strict=True):
        assert_near(step(model, lengths, "varlen"), right)
    assert programs.frame_count <= 3
    assert dict(torch._dynamo.utils.counters["graph_break"]) == broken


@pytest.mark.parametrize(
    ("dtype", "layout", "kernels"),
    [
        (torch.bfloat16, "packed", {"varlen", *installed_kernels()}),
        (torch.float16, "packed", {"varlen", *installed_kernels()}),
        (torch.float32, "padded", {"auto"}),
    ],
)
def test_the_choice_on_a_gpu(dtype: torch.dtype, layout: str, kernels: set[str]) -> None:
    model = adapted(layers=1, dtype=dtype)
    assert look_at_attention(model, 100)[0].dtype == dtype
    found = choose_attention("auto", model, longest=100, device="cuda")
    assert found.layout == layout
    assert found.kernel in kernels
    print(found.reason, f"{matrix_speed(torch.device('cuda'), torch.bfloat16) / 1e12:.0f} TFLOP/s")
