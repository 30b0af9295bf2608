"""What gptqmodel logs is read as numbers, and plain rounding is not taken for GPTQ."""

from __future__ import annotations

from typing import Any

import pytest

from runner.errors import DefectError
from runner.quantizing.gptq_rounding import _rounded_modules

ERRORS = {"model.layers.10.mlp.up_proj": 0.2, "model.layers.2.self_attn.q_proj": 0.1}


def log(**changed: Any) -> list[dict[str, Any]]:
    entry = {"loss": "0.0001581581", "samples": "99", "damp": "0.05000", "time": "0.039"}
    return [
        {**entry, "layer": 10, "module": "mlp.up_proj", **changed},
        {**entry, "layer": 2, "module": "self_attn.q_proj"},
    ]


def test_modules_are_in_the_order_of_layers() -> None:
    first, second = _rounded_modules(log(), ERRORS, tokens=99)
    assert (first.name, first.weight_error) == ("model.layers.2.self_attn.q_proj", 0.1)
    assert (second.name, second.loss, second.damp) == (
        "model.layers.10.mlp.up_proj", 0.0001581581, 0.05,
    )  # fmt: skip


def test_a_layer_that_was_rounded_without_calibration_is_a_defect() -> None:
    with pytest.raises(DefectError, match=r"layers\.10\.mlp\.up_proj without calibration: rtn"):
        _rounded_modules(log(loss="rtn fallback"), ERRORS, tokens=99)


def test_rows_that_were_left_out_are_a_defect() -> None:
    with pytest.raises(DefectError, match=r"layers\.10.*other tokens than the 99"):
        _rounded_modules(log(samples="88"), ERRORS, tokens=99)
