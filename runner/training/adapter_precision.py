"""The adapter's own type, which TRL would make bfloat16 on a base quantized by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runner.errors import DefectError

# By these TRL 1.16 (`trainer/sft_trainer.py`) knows such a base, after the paper on QLoRA.
_FLAGS = ("is_loaded_in_4bit", "is_loaded_in_8bit")
_SHOWN = 3


@contextmanager
def adapter_precision(model: Any) -> Iterator[None]:  # noqa: ANN401 - an adapted model
    """Keep the types of what ``model`` learns while TRL's trainer is made of it.

    In bfloat16 an optimizer's step is lost where it is less than 1/256 of a value: most are.

    Raises:
        DefectError: a type changed all the same.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = {flag: getattr(inner, flag) for flag in _FLAGS if hasattr(inner, flag)}
    before = _types(model)
    for flag in hidden:
        setattr(inner, flag, False)
    try:
        yield
    finally:
        for flag, value in hidden.items():
            setattr(inner, flag, value)
    changed = [name for name, dtype in _types(model).items() if before.get(name) != dtype]
    if changed:
        raise DefectError(
            f"the trainer changed the type of what is learned: {', '.join(changed[:_SHOWN])}. This "
            "is a defect of proofbox with this version of TRL. Please report it with this message "
            "and the output of `proofbox --version`."
        )


def _types(model: Any) -> dict[str, Any]:  # noqa: ANN401 - an adapted model
    return {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
