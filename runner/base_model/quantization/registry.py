"""The registry of quantization methods: an entry for each, found by its name in a recipe."""

from __future__ import annotations

from importlib.util import find_spec
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from runner.base_model.quantization.method import Method, Storage
from runner.errors import MachineError, ProofboxError
from runner.recipe import Quantization

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# quantization.method -> "module:attribute" of its `Method`.
METHODS: dict[str, str] = {
    "none": "runner.base_model.quantization.full_precision:METHOD",
    "gptq": "runner.base_model.quantization.gptq:METHOD",
    "bitsandbytes": "runner.base_model.quantization.bitsandbytes:METHOD",
    "torchao": "runner.base_model.quantization.torchao:METHOD",
}


def method_named(name: str) -> Method:
    """The registry's entry; importing it imports none of the method's packages."""
    method: Method = resolve_name(METHODS[name])
    return method


def storage_of(method: str, bits: int | None) -> Storage | None:
    """How ``method`` stores weights in ``bits``, None where it does not."""
    return method_named(method).storages.get(bits or 0)


def loading_arguments(block: Quantization, device: str, dtype: str = "float32") -> dict[str, Any]:
    """Keyword arguments for ``from_pretrained`` on ``device``, to compute in ``dtype``.

    Raises:
        UsageError: the block names a kernel that does not run there.
    """
    arguments: dict[str, Any] = resolve_name(method_named(block.method).arguments)(
        block, device, dtype
    )
    return arguments


def settle_loaded(block: Quantization, model: PreTrainedModel) -> None:
    """Make a model that was just loaded by ``block`` fit to be evaluated and then trained on.

    Raises:
        MachineError: the installed version of the method's package cannot be made to.
    """
    settle = method_named(block.method).loaded
    if settle:
        resolve_name(settle)(model)


def require_packages(name: str) -> None:
    """Refuse a method whose packages are not installed.

    Raises:
        MachineError: it says what to install, and how.
    """
    method = method_named(name)
    missing = [package for package in method.packages if find_spec(package) is None]
    if missing:
        raise missing_extra(method.extra, missing)


def missing_extra(extra: str, missing: list[str]) -> ProofboxError:
    """The message for an optional dependency that is not installed."""
    return MachineError(
        f"{', '.join(missing)} not installed. This recipe needs the extra: "
        f"pip install 'proofbox[{extra}]'"
    )
