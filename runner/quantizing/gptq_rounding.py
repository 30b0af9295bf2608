"""GPTQ itself: gptqmodel's API, told everything that it would decide alone, and listened to.

``round_weights`` runs in a process of its own (``runner/commands/quantize_base.py``): gptqmodel
reads its environment when it is imported, keeps threads of its own and writes log files into the
working folder.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import DefectError, MachineError
from runner.quantizing.quantizing_job import QuantizingJob, RoundedModule

if TYPE_CHECKING:
    import torch

# Tokens that pass through a layer at once while Hessians are summed up.
BATCH_TOKENS = 4_096
# Told (layers done, layers in all).
OnLayer = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedBase:
    """What GPTQ decided on: ``weights`` by module, on the CPU, [out x in], before packing."""

    weights: dict[str, torch.Tensor]
    modules: tuple[RoundedModule, ...]


def round_weights(job: QuantizingJob, folder: Path, on_layer: OnLayer) -> RoundedBase:
    """Quantize the base of ``job`` and save it as gptqmodel does into ``folder``.

    Raises:
        MachineError: gptqmodel does not know the architecture.
        DefectError: gptqmodel did something else than was asked, such as plain rounding of a layer
            that no calibration token reached.
    """
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(job.threads)
    model = _loaded(job)
    layers = int(model.model.config.get_text_config().num_hidden_layers)
    model.layer_callback = _LayerCallback(layers, on_layer)
    with _recorded_weights() as (weights, errors):
        model.quantize(
            [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in job.token_ids],
            batch_size=max(1, BATCH_TOKENS // max(map(len, job.token_ids))),
            calibration_sort=None,
            backend="gptq_torch",
        )
    modules = _rounded_modules(model.quant_log, errors, tokens=sum(map(len, job.token_ids)))
    _store_in_base_dtype(model.model, job)
    model.save(str(folder))
    return RoundedBase(weights=weights, modules=modules)


def _loaded(job: QuantizingJob) -> Any:  # noqa: ANN401 - gptqmodel has no types
    """The full-precision base as gptqmodel quantizes it.

    ``fallback``: without it gptqmodel rounds layers plainly where calibration fails, and goes on.
    ``format``: auto-gptq's own, which all loaders read.
    """
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig

    block = job.block
    settings = QuantizeConfig(
        bits=block.bits,
        group_size=block.group_size,
        desc_act=block.desc_act,
        sym=block.sym,
        damp_percent=block.damp,
        format="gptq",
        fallback=None,
        offload_to_disk=False,
        device=job.device,
    )
    try:
        return GPTQModel.load(
            job.base,
            settings,
            dtype=getattr(torch, job.dtype),
            trust_remote_code=job.recipe.model.trust_remote_code,
        )
    except (TypeError, ValueError) as error:
        raise MachineError(f"model.base: gptqmodel cannot quantize it: {error}") from error


class _LayerCallback:
    """What gptqmodel calls twice a layer: after it is quantized, and after it is packed."""

    def __init__(self, layers: int, on_layer: OnLayer) -> None:
        self.layers = layers
        self.on_layer = on_layer

    def layer_complete(self, *, layer_idx: int, submodule_finalized: bool) -> None:
        if not submodule_finalized:
            self.on_layer(layer_idx + 1, self.layers)


@contextmanager
def _recorded_weights() -> Iterator[tuple[dict[str, torch.Tensor], dict[str, float]]]:
    """Keep each module's rounded weights, and ‖W - Q‖ / ‖W‖, before they are packed.

    gptqmodel hands them nowhere out, and packing is what the check after saving is about.
    """
    from gptqmodel.looper.gptq_processor import GPTQProcessor

    weights: dict[str, torch.Tensor] = {}
    errors: dict[str, float] = {}
    process = GPTQProcessor.process

    @functools.wraps(process)
    def recorded(self: Any, module: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as it is
        before = module.weight.data
        process(self, module, *args, **options)
        rounded = module.weight.data
        distance = (before.float() - rounded.float()).norm() / before.float().norm()
        errors[module.full_name] = float(distance)
        weights[module.full_name] = rounded.detach().cpu().clone()

    GPTQProcessor.process = recorded
    try:
        yield weights, errors
    finally:
        GPTQProcessor.process = process


def _rounded_modules(
    log: list[dict[str, Any]], errors: dict[str, float], *, tokens: int
) -> tuple[RoundedModule, ...]:
    """What gptqmodel logged as numbers, in the order of the model's layers."""
    logged = {(int(entry["layer"]), str(entry["module"])): entry for entry in log}
    modules = []
    for name in sorted(errors, key=_layer_of):
        layer, module = _layer_of(name)
        modules.append(_rounded_module(name, logged[layer, module], errors[name]))
    strange = [m.name for m in modules if m.tokens != tokens]
    if strange:
        raise DefectError(
            f"gptqmodel calibrated {', '.join(strange)} with other tokens than the {tokens:,} that "
            "it was given: rows were left out, cut or padded."
        )
    return tuple(modules)


def _rounded_module(name: str, entry: dict[str, Any], weight_error: float) -> RoundedModule:
    try:
        loss = float(entry["loss"])
    except ValueError:
        raise DefectError(
            f"gptqmodel rounded {name} without calibration: {entry['loss']}"
        ) from None
    return RoundedModule(
        name=name,
        loss=loss,
        weight_error=weight_error,
        damp=float(entry["damp"]),
        tokens=int(entry["samples"]),
    )


def _layer_of(name: str) -> tuple[int, str]:
    """``model.layers.3.mlp.up_proj`` is module ``mlp.up_proj`` of layer 3."""
    parts = name.split(".")
    place = next(i for i, part in enumerate(parts) if part.isdecimal())
    return int(parts[place]), ".".join(parts[place + 1 :])


def _store_in_base_dtype(model: torch.nn.Module, job: QuantizingJob) -> None:
    """Weights that are not quantized are stored as the base has them, whatever was computed in.

    Raises:
        DefectError: a value would change.
    """
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(
        job.base, trust_remote_code=job.recipe.model.trust_remote_code
    )
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else getattr(torch, job.dtype)
    for name, parameter in model.named_parameters():
        cast = parameter.data.to(stored)
        if not torch.equal(cast.to(parameter.dtype), parameter.data):
            raise DefectError(f"{name} was changed while other weights were quantized")
        parameter.data = cast
    model.config.dtype = stored
