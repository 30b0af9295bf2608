"""Modules that are trained whole (``lora.modules_to_save``): in float32, whatever the base is in.

In half precision a step of the optimizer is often smaller than the spacing of the weights, and is
lost without a sign; mixed precision with float16 cannot scale such gradients at all. LoRA's own
matrices PEFT keeps in float32; these modules it copies as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

_NARROW = "proofbox_narrow"  # where a widened module keeps the type and hooks that it goes back to


def widen_whole_modules(model: PeftModel) -> None:
    """Train whole modules in float32 inside a half-precision model, which sees its own type."""
    import torch

    # All types first: tied modules share a weight, which is widened once.
    found = [(module, next(module.parameters()).dtype) for module in _whole_modules(model)]
    for module, narrow in found:
        if narrow not in (torch.float16, torch.bfloat16):
            continue
        module.float()
        hooks = (
            module.register_forward_pre_hook(_widen_inputs, with_kwargs=True),
            module.register_forward_hook(_narrow_output(narrow)),
        )
        setattr(module, _NARROW, (narrow, hooks))


def narrow_whole_modules(model: PeftModel) -> None:
    """Round what ``widen_whole_modules`` widened to the base model's type, as it will be judged."""
    for module in _whole_modules(model):
        if not hasattr(module, _NARROW):
            continue
        narrow, hooks = getattr(module, _NARROW)
        for hook in hooks:
            hook.remove()
        delattr(module, _NARROW)
        module.to(narrow)


def _whole_modules(model: PeftModel) -> Iterator[torch.nn.Module]:
    from peft.utils.other import ModulesToSaveWrapper

    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            yield from module.modules_to_save.values()


def _widen_inputs(module: torch.nn.Module, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - torch's own
    del module
    return tuple(map(_wide, args)), {name: _wide(value) for name, value in kwargs.items()}


def _wide(value: Any) -> Any:  # noqa: ANN401 - any argument of a module
    import torch

    narrow = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.float() if narrow else value


def _narrow_output(narrow: torch.dtype) -> Any:  # noqa: ANN401 - torch's own signature
    import torch

    def hook(_: torch.nn.Module, __: Any, output: Any) -> Any:  # noqa: ANN401
        return output.to(narrow) if isinstance(output, torch.Tensor) else output

    return hook
