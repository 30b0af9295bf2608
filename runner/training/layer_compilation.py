"""A model's layers, compiled one by one: one program for all of them, whatever the lengths."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

import torch

from runner.errors import UsageError
from runner.training.model_operations import count_operations

Computed = TypeVar("Computed")
# One H200, a model of 7 billion parameters, parts of 16,000 tokens: compiled layers took at least
# this share less time, and the first step so many seconds more (docs/decisions/0019).
SAVED, COMPILE_SECONDS = 0.1, 60.0
# What uncompiled layers reach of the device's matrix products, at best.
_EAGER_SHARE = 0.6
# Programs of one function: layers that slide or do not, that get a gradient or do not, an example
# alone. PyTorch's own limit is 8, after which it says nothing and compiles no more.
_PROGRAMS = 64


class Compilation:
    """The compiled layers of a model, or none, and the ``reason``, as a sentence.

    They are compiled where they learn: in evaluation, or without gradients, they run as they are.
    """

    def __init__(self, layers: Sequence[torch.nn.Module] = (), reason: str = "") -> None:
        """``layers`` are those that have been given a compiled call."""
        self.layers = tuple(layers)
        self.reason = reason

    @property
    def compiled(self) -> bool:
        """Whether the layers are."""
        return bool(self.layers)

    def computed(
        self,
        compute: Callable[[], Computed],
        *,
        forget: Callable[[], None],
        announce: Callable[[str], None],
    ) -> Computed:
        """What ``compute`` returns; where the compiler fails in it, once more without compiling.

        The compiler works when a layer is first run, or first differentiated, so it fails there.

        Args:
            compute: A step's forward and backward passes.
            forget: Sets the gradients back to what they were before.
            announce: Told why nothing is compiled any more.
        """
        try:
            return compute()
        except _compiler_errors() as error:
            if not self.compiled:
                raise
            reason = f"compiling failed ({_first_line(error)})"
        # Outside of the handler: the error would keep the failed step's tensors alive.
        self._give_up()
        self.reason = f"layers: not compiled, {reason}"
        announce(f"  {reason}: the step is repeated, and the layers run as they are from here on.")
        forget()
        return compute()

    def _give_up(self) -> None:
        for layer in self.layers:
            layer._compiled_call_impl = None
        self.layers = ()


def compile_layers(
    model: torch.nn.Module,
    wanted: str | bool,
    *,
    device: str,
    steps: int,
    tokens_per_step: float,
    against: str | None = None,
    backend: str | Callable[..., Any] = "inductor",
) -> Compilation:
    """Have the layers of ``model`` compiled when they first run, if the recipe or the sum says so.

    Left to this machine, they are compiled on a GPU where that saves more than it takes: the run's
    floating-point operations, at the speed of matrix products measured here, tell its seconds.

    Args:
        model: The base model, or what wraps it; its adapter must be attached.
        wanted: ``hardware.compile`` of the recipe.
        device: "cpu" or "cuda".
        steps: Optimizer steps that are still to be made.
        tokens_per_step: On this device, on average.
        against: What else stands against compiling, unless the recipe insists.
        backend: Of torch.compile.

    Raises:
        UsageError: the recipe insists, and the model has no layers that are known as such.
    """
    layers = _layers(model)
    if wanted == "auto":
        reason, pays = _judge(model, device, steps * tokens_per_step, against)
        if not layers:
            reason, pays = "this model's layers are not known", False
    else:
        reason, pays = "as the recipe says", bool(wanted)
    if not pays:
        return Compilation((), f"layers: not compiled, {reason}")
    if not layers:
        raise UsageError(
            f"hardware.compile: the layers of {type(model).__name__} are not known, so they cannot "
            "be compiled one by one. Write false, or auto."
        )
    torch._dynamo.config.recompile_limit = max(
        _PROGRAMS,
        torch._dynamo.config.recompile_limit,
    )
    for layer in layers:
        _compile(layer, backend)
    return Compilation(layers, f"layers: compiled one by one, {reason}")


def _layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]


def _compile(layer: torch.nn.Module, backend: str | Callable[..., Any]) -> None:
    """As ``Module.compile`` does it, for calls in which the layer learns.

    Every size is dynamic from the start, so that other lengths need no other program.
    """
    plain = layer._call_impl
    compiled = torch.compile(plain, dynamic=True, backend=backend)

    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the layer's own
        learns = layer.training and torch.is_grad_enabled()
        return (compiled if learns else plain)(*args, **kwargs)

    layer._compiled_call_impl = call


def _judge(
    model: torch.nn.Module, device: str, tokens: float, against: str | None
) -> tuple[str, bool]:
    """Whether compiling pays, and why."""
    if device != "cuda":
        return "on a CPU it takes longer than it saves", False
    if against is not None:
        return against, False
    dtype = next(weight.dtype for weight in model.parameters() if weight.is_floating_point())
    speed = matrix_speed(torch.device(device), dtype)
    seconds = _operations(model) * tokens / (_EAGER_SHARE * speed)
    told = f"about {seconds:,.0f} s of computing at {speed / 1e12:,.0f} TFLOP/s"
    pays = seconds * SAVED > COMPILE_SECONDS
    return f"{told}, and it pays from {COMPILE_SECONDS / SAVED:,.0f} s", pays


def _operations(model: torch.nn.Module) -> float:
    """Floating-point operations for a token, gradients of activations included."""
    counted = count_operations(model)
    if counted is not None:
        return counted.token
    return 4.0 * sum(parameter.numel() for parameter in model.parameters())


def matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product; takes a few milliseconds."""
    size, repeats = (4096, 20) if device.type == "cuda" else (256, 3)
    left = torch.ones((size, size), device=device, dtype=dtype)
    out = torch.empty_like(left)
    torch.mm(left, left, out=out)
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(left, left, out=out)
    _wait(device)
    return repeats * 2 * size**3 / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _compiler_errors() -> tuple[type[Exception], ...]:
    """What the compiler fails with: tracing, making code for this device, compiling that."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor import exc as inductor

    known = [
        TorchDynamoException,
        inductor.OperatorIssue,
        inductor.CppCompileError,
        inductor.InvalidCxxCompiler,
    ]
    if find_spec("triton") is not None:
        from triton.errors import TritonError  # type: ignore[import-not-found]  # CUDA's

        known.append(TritonError)
    return tuple(known)


def _first_line(error: BaseException) -> str:
    """The cause's own words: the compiler wraps it."""
    cause = getattr(error, "inner_exception", error)
    lines = str(cause).strip().splitlines() or ["no reason given"]
    return f"{type(cause).__name__}: {lines[0]}"
