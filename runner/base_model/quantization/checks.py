"""A recipe's block ``quantization`` against the base model and the machine, before any weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.base_model.model_source import ModelSource
from runner.base_model.quantization.method import Storage
from runner.base_model.quantization.registry import (
    METHODS,
    method_named,
    require_packages,
    storage_of,
)
from runner.errors import UsageError
from runner.recipe import Quantization

# Values of quant_method in a checkpoint that are known and not trained on -> why.
_UNTESTED = "no kernel of it was tested with gradients here"
_INFERENCE = "transformers does not train on it"
REFUSED: dict[str, str] = {
    "awq": _UNTESTED,
    "compressed-tensors": _UNTESTED,
    "fp8": _UNTESTED,
    "fbgemm_fp8": _INFERENCE,
    "mxfp4": _INFERENCE,
    "auto-round": _INFERENCE,
    "hqq": _UNTESTED,
    "quanto": "merging into such weights drops an adapter without an error",
}
# Formats of a GPTQ checkpoint whose kernels give gradients; others, such as marlin's, are layouts
# for one inference kernel.
GPTQ_FORMATS = ("gptq", "gptq_v2")
_OWN = ("group_size", "desc_act", "sym")
_QUANTIZING = ("damp", "calibration")


def check_quantization(
    block: Quantization, source: ModelSource, *, device: str | None = None, dtype: str | None = None
) -> None:
    """Refuse what cannot be loaded or trained, before anything is loaded.

    Args:
        block: The recipe's.
        source: The base model. Where it is not quantized, ``gptq`` quantizes it first.
        device: ``cpu`` or ``cuda``; None where only the checkpoint is looked at.
        dtype: Of the computation, such as ``float32``; None as above.

    Raises:
        UsageError: the recipe contradicts the checkpoint's configuration, or asks for what its
            method cannot do here.
        MachineError: the method's packages are not installed.
    """
    if source.quantization is not None:
        _check_method(block, source)
    storage = storage_of(block.method, block.bits)
    if storage is None or storage.untrainable:
        raise UsageError(f"quantization.bits: {block.bits}: {why_not(block.method, block.bits)}")
    if device is not None:
        _check_machine(block, storage, device, dtype)
    require_packages(block.method)
    if source.quantization is not None:
        _check_settings(block, source)


def why_not(method: str, bits: int | None) -> str:
    """Why ``method`` cannot train on weights of ``bits``, and on which it can, as sentences."""
    storage = storage_of(method, bits)
    reason = f"{method} has no such weights" if storage is None else storage.untrainable
    able = listed([str(each) for each in method_named(method).trainable_bits], "or")
    return f"{reason}. Write {able}."


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names as people list them: `a, b and c`."""
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end


def _check_method(block: Quantization, source: ModelSource) -> None:
    found = source.quantization
    if found == block.method:
        return
    if found not in METHODS:
        reason = REFUSED.get(str(found), "it is not one of proofbox's methods")
        raise UsageError(
            f"model.base: {source.name} is quantized with {found}, which proofbox does not train "
            f"on: {reason}. Give a GPTQ checkpoint of that model with `quantization: {{method: "
            "gptq, …}`, or its full-precision weights with any method."
        )
    bits = "" if source.quantization_bits is None else f", bits: {source.quantization_bits}"
    raise UsageError(
        f"quantization.method: {block.method}, but {source.name} is quantized with {found}. Write "
        f"`quantization: {{method: {found}{bits}}}`, or give the full-precision base model."
    )


def _check_machine(block: Quantization, storage: Storage, device: str, dtype: str | None) -> None:
    dtypes = {str(name): values for name, values in storage.dtypes.items()}
    what = f"quantization.method: {block.method}"
    if device not in dtypes:
        raise UsageError(f"{what} with bits: {block.bits} does not run on {device}.")
    if dtype is not None and dtype not in dtypes[device]:
        raise UsageError(
            f"{what} does not compute in {dtype} on {device}. Write model.dtype: "
            f"{listed(dtypes[device], 'or')}."
        )


def _check_settings(block: Quantization, source: ModelSource) -> None:
    """What the recipe says of a checkpoint that is quantized already must be so."""
    if source.quantization_bits not in (None, block.bits):
        raise UsageError(
            f"quantization.bits: {block.bits}, but {source.name} is quantized to "
            f"{source.quantization_bits} bits. Write {source.quantization_bits}."
        )
    if block.method != "gptq":
        return
    settings = source.quantization_settings
    _check_format(settings, source.name)
    written = block.model_fields_set
    for key in _OWN:
        own, value = settings.get(key), getattr(block, key)
        if key in written and own not in (None, value):
            raise UsageError(
                f"quantization.{key}: {_shown(value)}, but {source.name} is quantized with {key}: "
                f"{_shown(own)}. Write {_shown(own)}, or leave it out."
            )
    for key in _QUANTIZING:
        if key in written and getattr(block, key) is not None:
            raise UsageError(
                f"quantization.{key}: {source.name} is quantized already, so this has no effect. "
                "Remove it, or give the full-precision base model."
            )


def _check_format(settings: Mapping[str, Any], name: str) -> None:
    form = settings.get("checkpoint_format") or settings.get("format") or "gptq"
    if settings.get("is_marlin_format"):
        form = "marlin"
    if str(form).lower() not in GPTQ_FORMATS:
        raise UsageError(
            f"model.base: {name} is a GPTQ checkpoint in the format {form}, a layout for one "
            f"inference kernel, which gives no gradients. Give it in {' or '.join(GPTQ_FORMATS)}."
        )


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
