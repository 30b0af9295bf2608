"""The live model that ``proofbox eval`` judges: an adapter on its base, or a whole model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runner.base_model.loaded_model import LoadedModel, load_tokenizer, load_weights
from runner.base_model.model_source import ModelSource, local_model
from runner.errors import DataError, MachineError
from runner.plan import Plan
from runner.recipe import Quantization, Recipe
from runner.training.adapter_probe import probe_logits

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

_NAME = "default"
_TELL = 3  # names of tensors that a message lists


def load_outside_adapter(loaded: LoadedModel, folder: Path, rows: list[torch.Tensor]) -> PeftModel:
    """The adapter in ``folder`` on the base model, with every one of its tensors in its place.

    Args:
        loaded: The base model; it is changed.
        folder: The adapter, as PEFT saves it.
        rows: Token ids, each [tokens], on which the adapter must change a logit.

    Raises:
        MachineError: PEFT cannot read it, or it does not fit the base model.
        DataError: a tensor has no place in the model, or a place got no tensor, or the adapter
            changes nothing.
    """
    before = probe_logits(loaded.model, rows)
    adapted = _placed(loaded, folder)
    after = probe_logits(adapted, rows)
    if all(bool((a == b).all()) for a, b in zip(after, before, strict=True)):
        raise DataError(
            f"{folder}: the adapter changes nothing: with it the base model gives exactly its own "
            "logits. It will not be judged."
        )
    return adapted


def _placed(loaded: LoadedModel, folder: Path) -> PeftModel:
    from peft import PeftModel
    from safetensors import SafetensorError

    try:
        model = PeftModel.from_pretrained(loaded.model, str(folder), is_trainable=False)
        # Again, because only this says which tensors found no place.
        result = model.load_adapter(str(folder), _NAME, is_trainable=False)
    except (ValueError, KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise MachineError(
            f"{folder}: the adapter cannot be put on the recipe's base model: "
            f"{type(error).__name__}: {_first_lines(error)}"
        ) from None
    _require_every_tensor(folder, result.missing_keys, result.unexpected_keys)
    adapted: PeftModel = model.eval()
    return adapted


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _require_every_tensor(folder: Path, missing: list[str], unexpected: list[str]) -> None:
    for names, what in (
        (unexpected, "tensors of the adapter have no place in the recipe's base model"),
        (missing, "places of the adapter's configuration got no tensor"),
    ):
        if names:
            raise DataError(
                f"{folder}: {len(names)} {what}: {', '.join(sorted(names)[:_TELL])}. It was "
                "trained on another base model, or saved in part. It will not be judged."
            )


def example_rows(path: Path, *, rows: int, tokens: int) -> list[torch.Tensor]:
    """Token ids of the first rows of a prepared partition, each [at most tokens]."""
    import pyarrow.parquet as pq
    import torch

    batch = next(pq.ParquetFile(path).iter_batches(batch_size=rows, columns=["input_ids"]))
    return [torch.tensor(ids[:tokens], dtype=torch.long) for ids in batch["input_ids"].to_pylist()]


def load_whole_model(plan: Plan) -> LoadedModel:
    """The model that is judged itself, with the tokenizer of the recipe's base model.

    Raises:
        DataError: the model's own tokenizer is another one: its losses per token would not compare.
    """
    if plan.target is None:
        raise ValueError("only a plan with a target judges a whole model")
    source = local_model(plan.target.target.name, plan.target.place, what="TARGET")
    tokenizer = load_tokenizer(plan.recipe, plan.model)
    _require_same_tokenizer(plan, source, tokenizer.get_vocab())
    recipe = _recipe_to_load(plan.recipe, source)
    return load_weights(recipe, source, tokenizer, device=plan.device)


def _recipe_to_load(recipe: Recipe, source: ModelSource) -> Recipe:
    """The recipe with the quantization of the judged checkpoint, which is its own."""
    if source.quantization == recipe.quantization.method:
        return recipe
    if source.quantization is not None:
        raise MachineError(
            f"{source.name}: quantized with {source.quantization}, which the recipe's block "
            "`quantization` does not say how to load"
        )
    return recipe.model_copy(update={"quantization": Quantization(method="none")})


def _require_same_tokenizer(plan: Plan, source: ModelSource, vocabulary: dict[str, int]) -> None:
    if not any(Path(source.place).glob("tokenizer*")):
        return
    own = load_tokenizer(plan.recipe, source).get_vocab()
    other = [token for token, index in vocabulary.items() if own.get(token) != index]
    if other:
        raise DataError(
            f"{source.name}: its tokenizer is not that of the recipe's base model "
            f"{plan.recipe.model.base!r}: {len(other):,} tokens differ, such as {other[0]!r}. "
            "Losses per token would not compare. Judge it by a recipe with its own base model."
        )
