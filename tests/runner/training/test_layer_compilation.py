"""Layers compiled one by one: the same numbers, one program for all lengths, no silent failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.testing import CompileCounterWithBackend

from evalsuite.packed_attention import Heads, Kernel, _registered, attending, packed_inputs
from runner.errors import UsageError
from runner.training.layer_compilation import Compilation, compile_layers, matrix_speed

LENGTHS = ([61, 2, 35], [19, 40], [100, 3], [5, 5, 5, 9], [30, 31])
LONGEST = 100


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch's kernel for examples end to end runs on a GPU alone: here a mask does the same."""

    def attend(query: Any, key: Any, value: Any, edges: Any, longest: int, heads: Heads) -> Any:
        place = torch.arange(query.shape[0])
        example = (place[:, None] >= edges[None, :]).sum(dim=1)
        back = place[:, None] - place[None, :]
        seen = (example[:, None] == example[None, :]) & (back >= 0)
        seen &= back < (heads.window or longest)
        found = torch.nn.functional.scaled_dot_product_attention(
            query.transpose(0, 1)[None],
            key.transpose(0, 1)[None],
            value.transpose(0, 1)[None],
            attn_mask=seen,
            scale=heads.scaling,
            enable_gqa=True,
        )
        return found[0].transpose(0, 1)

    monkeypatch.setattr("evalsuite.packed_attention.packed_kernel", lambda _: attend)
    _registered.cache_clear()
    yield
    _registered.cache_clear()


def adapted(*, layers: int = 12, name: str = "Mistral", **changes: Any) -> Any:
    import transformers
    from peft import LoraConfig, get_peft_model

    given = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
    }
    torch.manual_seed(5)
    config = getattr(transformers, f"{name}Config")(**{**given, **changes})
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return get_peft_model(model, lora).train()


def step(model: Any, lengths: list[int], kernel: Kernel | None = None) -> dict[str, torch.Tensor]:
    """Loss and gradients of made-up examples; without a kernel all of them are one."""
    model.zero_grad()
    tokens = torch.arange(sum(lengths), device=model.device).remainder(97)[None]
    inputs = packed_inputs(lengths, model.device, longest=LONGEST) if kernel else {}
    with attending(model, kernel) if kernel else nullcontext():
        loss = model(input_ids=tokens, use_cache=False, **inputs).logits.float().logsumexp(-1).sum()
        loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found}


def assert_alike(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4, msg=name)


def compiled(model: Any, backend: Any) -> Compilation:
    return compile_layers(model, True, device="cpu", steps=1, tokens_per_step=1.0, backend=backend)


@pytest.mark.usefixtures("kernel")
@pytest.mark.slow
@pytest.mark.parametrize("checkpointed", [False, True])
def test_changing_lengths_need_no_other_program_and_change_no_number(checkpointed: bool) -> None:
    """Lengths and numbers of examples of every kind."""
    model = adapted(layers=3, sliding_window=20)
    expected = [step(model, lengths, "varlen") for lengths in LENGTHS]
    if checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
    programs = CompileCounterWithBackend("aot_eager")
    compilation = compiled(model, programs)
    assert compilation.compiled
    assert len(compilation.layers) == 3
    broken = dict(torch._dynamo.utils.counters["graph_break"])
    for lengths, right in zip(LENGTHS, expected, strict=True):
        assert_alike(step(model, lengths, "varlen"), right)
    assert programs.frame_count <= 3
    assert dict(torch._dynamo.utils.counters["graph_break"]) == broken


@pytest.mark.usefixtures("kernel")
def test_bounds_that_change_with_the_lengths_do_need_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Planted: sizes fixed when they are first seen. Then every step has programs of its own."""
    plain = torch.compile

    def static(*args: Any, dynamic: bool, **kwargs: Any) -> Any:
        assert dynamic
        return plain(*args, dynamic=False, **kwargs)

    monkeypatch.setattr(torch, "compile", static)
    model, programs = adapted(layers=1), CompileCounterWithBackend("eager")
    compiled(model, programs)
    for lengths in LENGTHS:
        step(model, lengths, "varlen")
    assert programs.frame_count > 3


@pytest.mark.slow
@pytest.mark.usefixtures("kernel")
def test_layers_of_two_kinds_are_two_programs() -> None:
    model = adapted(name="Gemma2", head_dim=8, sliding_window=20, attn_logit_softcapping=None)
    programs = CompileCounterWithBackend("eager")
    compiled(model, programs)
    for lengths in LENGTHS:
        step(model, lengths, "varlen")
    assert programs.frame_count <= 5


@pytest.mark.slow
def test_examples_by_themselves_are_left_out_of_the_programs() -> None:
    """They would need a program for every number of examples."""
    model = adapted(layers=1)
    expected = [step(model, lengths, "by_example") for lengths in LENGTHS]
    programs = CompileCounterWithBackend("eager")
    compiled(model, programs)
    counts = []
    for lengths, right in zip(LENGTHS, expected, strict=True):
        assert_alike(step(model, lengths, "by_example"), right)
        counts.append(programs.frame_count)
    assert counts[-1] == counts[1]


def test_pytorchs_own_kernel_is_part_of_the_programs() -> None:
    """On a device without values: what a GPU would compute is traced, not computed.

    12 layers are two programs: one for layers whose input gets a gradient, and the first's.
    """
    with torch.device("meta"):
        model = adapted(sliding_window=20, hidden_size=64).bfloat16()
    programs = CompileCounterWithBackend("eager")
    compiled(model, programs)
    broken = dict(torch._dynamo.utils.counters["graph_break"])
    for lengths in (*LENGTHS, [30], [LONGEST]):
        step(model, lengths, "varlen")
    assert programs.frame_count == 2
    assert dict(torch._dynamo.utils.counters["graph_break"]) == broken


def test_nothing_is_compiled_where_nothing_is_learned() -> None:
    model, programs = adapted(layers=1), CompileCounterWithBackend("eager")
    compiled(model, programs)
    tokens = torch.arange(9)[None]
    with torch.no_grad():
        model(input_ids=tokens)
    model.eval()(input_ids=tokens)
    assert programs.frame_count == 0
    model.train()(input_ids=tokens)
    assert programs.frame_count > 0


@pytest.mark.parametrize("fails_in", ["forward", "backward"])
def test_a_compiler_that_fails_is_announced_and_the_step_repeated(fails_in: str) -> None:
    from functorch.compile import nop
    from torch._dynamo.backends.common import aot_autograd
    from torch._inductor.exc import InductorError

    def broken(*_: Any) -> Any:
        raise InductorError(RuntimeError("no C++ compiler"), None)

    parts = {"fw_compiler": nop, "bw_compiler": nop}
    parts["fw_compiler" if fails_in == "forward" else "bw_compiler"] = broken
    model, announced = adapted(layers=1), []
    expected = step(model, [5, 7])
    compilation = compiled(model, aot_autograd(**parts))
    found = compilation.computed(
        lambda: step(model, [5, 7]), forget=model.zero_grad, announce=announced.append
    )
    assert_alike(found, expected)
    assert not compilation.compiled
    assert len(announced) == 1
    assert "no C++ compiler" in announced[0] + compilation.reason
    assert "the layers run as they are" in announced[0]
    step(model, [3, 9])  # nothing is compiled any more


def test_other_errors_are_not_the_compilers() -> None:
    compilation = compiled(adapted(layers=2), "eager")

    def fails() -> None:
        raise RuntimeError("CUDA error")

    with pytest.raises(RuntimeError, match="CUDA error"):
        compilation.computed(fails, forget=lambda: None, announce=lambda _: None)
    assert compilation.compiled


def test_without_compiled_layers_the_compilers_errors_are_another_s() -> None:
    def fails() -> None:
        raise BackendCompilerFailed(lambda: None, RuntimeError("of something else"), None)

    with pytest.raises(BackendCompilerFailed):
        Compilation((), "").computed(fails, forget=lambda: None, announce=lambda _: None)


@pytest.mark.parametrize(
    ("device", "steps", "against", "compiles", "reason"),
    [
        ("cpu", 10**9, None, False, "on a CPU it takes longer than it saves"),
        ("cuda", 10, None, False, "and it pays from 600 s"),
        ("cuda", 10**9, None, True, "s of computing at 100 TFLOP/s, and it pays from 600 s"),
        ("cuda", 10**9, "weights are sharded", False, "weights are sharded"),
    ],
)
def test_left_to_the_machine_it_must_pay(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    steps: int,
    against: str | None,
    compiles: bool,
    reason: str,
) -> None:
    monkeypatch.setattr("runner.training.layer_compilation.matrix_speed", lambda *_: 100e12)
    model = adapted(layers=2)
    found = compile_layers(
        model, "auto", device=device, steps=steps, tokens_per_step=4000.0, against=against
    )
    assert found.compiled is compiles
    assert reason in found.reason


def test_the_recipe_has_the_last_word() -> None:
    assert not compile_layers(
        adapted(layers=1), False, device="cuda", steps=10**9, tokens_per_step=1e9
    ).compiled
    insisted = compile_layers(
        adapted(layers=1), True, device="cpu", steps=1, tokens_per_step=1.0, against="no"
    )
    assert insisted.compiled
    assert insisted.reason == "layers: compiled one by one, as the recipe says"


def test_a_model_without_known_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.training.layer_compilation._layers", lambda _: [])
    monkeypatch.setattr("runner.training.layer_compilation.matrix_speed", lambda *_: 1e6)
    found = compile_layers(
        adapted(layers=1), "auto", device="cuda", steps=10**9, tokens_per_step=1e6
    )
    assert "layers are not known" in found.reason
    with pytest.raises(UsageError, match=r"hardware\.compile"):
        compile_layers(adapted(layers=1), True, device="cuda", steps=1, tokens_per_step=1.0)


def test_the_speed_of_matrix_products_is_measured() -> None:
    assert 1e7 < matrix_speed(torch.device("cpu"), torch.float32) < 1e15
