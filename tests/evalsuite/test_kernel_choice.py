"""The kernel of the attention: chosen by what is installed, what it takes, and how fast it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from evalsuite.attention_kernels import (
    Heads,
    attend_by_example,
    flash_kernel,
    installed_kernels,
    packed_kernel,
)
from evalsuite.kernel_choice import LayerAttention, choose_kernel, seconds_of

GPU = torch.device("cuda")
EDGES = torch.tensor([0, 5, 6, 17, 40], dtype=torch.int32)


def layer(**changes: Any) -> LayerAttention:
    given: dict[str, Any] = {
        "heads": Heads(),
        "queries": 4,
        "keys": 2,
        "width": 8,
        "value_width": 8,
        "dtype": torch.bfloat16,
    }
    return LayerAttention(**{**given, **changes})


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    deterministic: bool = False,
) -> torch.Tensor:
    """As flash-attn 2.8 documents its function: a window counts the tokens before one."""
    del cu_seqlens_k, max_seqlen_q, max_seqlen_k, deterministic
    assert causal
    place = torch.arange(len(q))
    example = torch.bucketize(place, cu_seqlens_q[1:].long(), right=True)
    back = place[:, None] - place[None, :]
    seen = (example[:, None] == example[None, :]) & (back >= 0)
    if window_size[0] >= 0:
        seen &= back <= window_size[0]
    k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v))
    logits = torch.einsum("thd,shd->hts", q, k) * (softmax_scale or q.shape[2] ** -0.5)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    return torch.einsum("hts,shd->thd", logits.masked_fill(~seen, -torch.inf).softmax(-1), v)


@pytest.fixture
def flash_attn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in for the package: it computes the same on a CPU."""
    module: Any = ModuleType("flash_attn")
    module.flash_attn_varlen_func = flash_attn_varlen_func
    module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("flash_attn", None)
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    flash_kernel.cache_clear()
    yield module
    flash_kernel.cache_clear()


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds that kernels are measured to take."""
    times: dict[str, float] = {}

    def measured(kernel: str, layer: LayerAttention, **_: Any) -> float:
        del layer
        return times[kernel]

    monkeypatch.setattr("evalsuite.kernel_choice.seconds_of", measured)
    return times


@pytest.mark.parametrize(
    "heads",
    [
        Heads(),
        Heads(scaling=0.7),
        Heads(window=3),
        Heads(softcap=0.5),
        Heads(scaling=2.0, window=6, softcap=1.5),
    ],
)
def test_flash_attn_is_given_what_examples_by_themselves_are(flash_attn: Any, heads: Heads) -> None:
    del flash_attn
    torch.manual_seed(1)
    query, key, value = (torch.randn(1, h, 40, 8, requires_grad=True) for h in (4, 2, 2))
    expected = attend_by_example(query, key, value, EDGES, heads)
    kernel = packed_kernel("flash_attn")
    assert kernel is not None
    rows = (part[0].transpose(0, 1) for part in (query, key, value))
    found = kernel(*rows, EDGES, 23, heads)[None]
    torch.testing.assert_close(found, expected)
    parts = (query, key, value)
    for mine, right in zip(
        torch.autograd.grad(found.cos().sum(), parts),
        torch.autograd.grad(expected.cos().sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(mine, right)


def test_repeatable_kernels_are_asked_for_where_they_must_be(flash_attn: Any) -> None:
    asked = []

    def noted(*rows: Any, deterministic: bool = False, **given: Any) -> torch.Tensor:
        asked.append(deterministic)
        return flash_attn_varlen_func(*rows, **given)

    flash_attn.flash_attn_varlen_func = noted
    parts = (torch.ones(40, 2, 8),) * 3
    kernel = flash_kernel("flash_attn")
    kernel(*parts, EDGES, 23, Heads())
    torch.use_deterministic_algorithms(True)
    try:
        kernel(*parts, EDGES, 23, Heads())
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [False, True]


def test_what_is_installed_is_seen(flash_attn: Any) -> None:
    del flash_attn
    assert installed_kernels() == ("flash_attn",)


def test_a_kernel_is_timed_forward_and_backward(
    flash_attn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del flash_attn
    monkeypatch.setattr("evalsuite.kernel_choice._TRIED_TOKENS", 200)
    took = seconds_of(
        "flash_attn", layer(dtype=torch.float32), longest=64, device=torch.device("cpu")
    )
    assert 0 < took < 60


def test_on_a_cpu_each_example_is_by_itself() -> None:
    assert choose_kernel([layer()], longest=9, device=torch.device("cpu")).kernel == "by_example"


@pytest.mark.parametrize("changes", [{"dtype": torch.float32}, {"width": 12, "value_width": 12}])
def test_heads_that_no_kernel_takes(changes: dict[str, Any]) -> None:
    found = choose_kernel([layer(), layer(**changes)], longest=9, device=GPU)
    assert found.kernel == "by_example"
    assert "256 values in float16 or bfloat16" in found.reason


def test_pytorch_alone_needs_no_measurement(seconds: dict[str, float]) -> None:
    found = choose_kernel([layer()], longest=9, device=GPU)  # `seconds` knows no kernel
    assert (found.kernel, found.reason) == ("varlen", "PyTorch's own kernel")
    assert seconds == {}


@pytest.mark.parametrize(
    ("theirs", "kernel", "reason"),
    [
        (0.5, "flash_attn", "flash_attn, 2.00 times as fast as PyTorch's"),
        (0.97, "varlen", "PyTorch's own kernel"),
        (1.5, "varlen", "PyTorch's own kernel"),
    ],
)
def test_another_kernel_must_be_clearly_faster(
    flash_attn: Any, seconds: dict[str, float], theirs: float, kernel: str, reason: str
) -> None:
    del flash_attn
    seconds.update({"varlen": 1.0, "flash_attn": theirs})
    found = choose_kernel([layer()], longest=9, device=GPU)
    assert (found.kernel, found.reason) == (kernel, reason)
    unmeasured = choose_kernel([layer()], longest=9, device=GPU, measure=False)
    assert unmeasured.kernel == "varlen"


def test_capped_logits_need_flash_attn(
    flash_attn: Any, seconds: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    del flash_attn
    capped = [layer(), layer(heads=Heads(softcap=50.0))]
    seconds["flash_attn"] = 1.0
    assert choose_kernel(capped, longest=9, device=GPU).kernel == "flash_attn"
    monkeypatch.setattr("evalsuite.kernel_choice.installed_kernels", tuple)
    found = choose_kernel(capped, longest=9, device=GPU)
    assert found.kernel == "by_example"
    assert "flash-attn caps logits and is not installed" in found.reason


def test_a_kernel_that_does_not_run_is_named(
    flash_attn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a wheel for another PyTorch fails."""
    del flash_attn

    def measured(kernel: str, *_: Any, **__: Any) -> float:
        if kernel == "flash_attn":
            raise ImportError("undefined symbol: _ZN3c10\nmore")
        return 1.0

    monkeypatch.setattr("evalsuite.kernel_choice.seconds_of", measured)
    found = choose_kernel([layer()], longest=9, device=GPU)
    assert found.kernel == "varlen"
    assert "does not run here (undefined symbol: _ZN3c10)" in found.reason
