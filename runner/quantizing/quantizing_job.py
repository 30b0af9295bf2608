"""What is to be quantized, and what came of it: the files between a run and its fresh process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.recipe import Quantization, Recipe
from runner.stored_json import read_json, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizingJob:
    """One full-precision base to be quantized. ``base`` is its folder; ``dtype`` torch's name."""

    recipe: Recipe
    base: str
    token_ids: tuple[tuple[int, ...], ...]
    dtype: str
    device: str
    threads: int

    @property
    def block(self) -> Quantization:
        """What is to be made."""
        return self.recipe.quantization

    def write(self, path: Path) -> None:
        """Store it for the process that does it."""
        values = {name: getattr(self, name) for name in QuantizingJob.__slots__}
        write_json(path, {**values, "recipe": self.recipe.model_dump(mode="json")})


def read_job(path: Path) -> QuantizingJob:
    """The job that ``QuantizingJob.write`` stored."""
    values = read_json(path)
    rows = tuple(map(tuple, values["token_ids"]))
    recipe = Recipe.model_validate(values["recipe"])
    return QuantizingJob(**{**values, "recipe": recipe, "token_ids": rows})


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedModule:
    """How well one linear layer was quantized.

    ``loss`` is gptqmodel's own: the error of the layer's output that GPTQ makes small (equation 1
    of arXiv 2210.17323), halved, by calibration token. ``weight_error`` is ‖W - Q‖ / ‖W‖
    (Frobenius). ``damp`` is the share of the Hessian's mean diagonal that was added in the end.
    """

    name: str
    loss: float
    weight_error: float
    damp: float
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadCheck:
    """The checkpoint read back, beside the weights that GPTQ decided on.

    ``difference`` is the largest relative distance of logits, of which ``allowed`` would have been
    too much; ``from_full_precision`` that of the full-precision base's logits.
    """

    rows: int
    difference: float
    allowed: float
    from_full_precision: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizingResult:
    """What the process says of the checkpoint that it made; the same for the same job."""

    modules: tuple[RoundedModule, ...]
    reload: ReloadCheck

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def result_from_json(values: dict[str, Any]) -> QuantizingResult:
    """The result back from ``as_json``."""
    modules = tuple(RoundedModule(**module) for module in values["modules"])
    return QuantizingResult(modules=modules, reload=ReloadCheck(**values["reload"]))
