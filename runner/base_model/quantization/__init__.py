"""Quantization methods: a registry of what each can and needs, checks against it, and loading."""

from runner.base_model.quantization.checks import check_quantization
from runner.base_model.quantization.gptq import trainable_kernel
from runner.base_model.quantization.method import Method, Storage
from runner.base_model.quantization.registry import (
    METHODS,
    loading_arguments,
    method_named,
    missing_extra,
    require_packages,
    settle_loaded,
    storage_of,
)

__all__ = [
    "METHODS",
    "Method",
    "Storage",
    "check_quantization",
    "loading_arguments",
    "method_named",
    "missing_extra",
    "require_packages",
    "settle_loaded",
    "storage_of",
    "trainable_kernel",
]
