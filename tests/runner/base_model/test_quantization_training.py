"""Each method that rounds while it loads: evaluated, trained, saved, reloaded, judged on a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.base_model.loaded_model import LoadedModel, load_model, model_skeleton
from runner.base_model.model_source import find_model
from runner.base_model.quantization import METHODS, method_named
from runner.base_model.quantization.stored_bytes import stored_bytes
from runner.cli import guarded
from runner.commands.run import run
from runner.errors import ExitCode
from runner.recipe import Recipe
from runner.training.lora import adapted_modules, attach_adapter, trainable_tensors

Document = dict[str, Any]

ROUNDING = [
    (name, bits)
    for name in METHODS
    for bits in method_named(name).trainable_bits
    if name not in ("none", "gptq")
]


def need(method: str) -> None:
    for package in method_named(method).packages:
        pytest.importorskip(package, reason=f"needs the extra {method}; `make test-quantization`")


def loaded_by(document: Document, **changes: Any) -> LoadedModel:
    recipe = Recipe.model_validate({**document, **changes})
    source = find_model(recipe.model.base, None, folder=Path("/"))
    return load_model(recipe, source, device="cpu")


def block(method: str, bits: int) -> Document:
    return {"quantization": {"method": method, "bits": bits}}


@pytest.mark.parametrize(("method", "bits"), ROUNDING)
def test_a_run_ends_with_a_verdict(
    method: str,
    bits: int,
    tiny_recipe: Document,
    write_recipe: Callable[[Document], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The base is evaluated first, by generating too; the adapter in a fresh process, reloaded."""
    need(method)
    tiny_recipe |= block(method, bits)
    tiny_recipe["lora"]["target_modules"] = "all-linear"
    path = write_recipe(tiny_recipe)
    code = guarded(lambda: run(str(path), runs=tmp_path / "runs", device=None, restart=False))
    told = capsys.readouterr()
    assert code == ExitCode.PASS, told.err
    (verdict,) = tmp_path.glob("runs/tiny/*/verdict.json")
    assert json.loads(verdict.read_text())["verdict"] == "PASS"
    training = json.loads((verdict.parent / "training.json").read_text())
    assert len(training["target_modules"]) == 14  # seven linear modules in each of two layers


@pytest.mark.parametrize(("method", "bits"), ROUNDING)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_tensor_gets_a_gradient_after_an_evaluation(
    method: str, bits: int, dtype: str, tiny_recipe: Document
) -> None:
    need(method)
    loaded = loaded_by(
        tiny_recipe, model={**tiny_recipe["model"], "dtype": dtype}, **block(method, bits)
    )
    assert silent_after_an_evaluation(loaded, tiny_recipe) == []


@pytest.mark.parametrize(
    ("method", "bits", "variant"),
    [
        (method, bits, variant)
        for method, bits in ROUNDING
        for variant in method_named(method).storages[bits].variants
        if variant != "lora"
    ],
)
def test_every_variant_that_is_allowed_learns(
    method: str, bits: int, variant: str, tiny_recipe: Document
) -> None:
    need(method)
    tiny_recipe["lora"]["variant"] = variant
    loaded = loaded_by(tiny_recipe, **block(method, bits))
    assert silent_after_an_evaluation(loaded, tiny_recipe) == []


@pytest.mark.parametrize(("method", "bits"), ROUNDING)
def test_an_example_s_logits_do_not_depend_on_its_batch(
    method: str, bits: int, tiny_recipe: Document
) -> None:
    """LLM.int8 looks for columns with outliers in the whole batch; so the embeddings have some."""
    need(method)
    model: Any = loaded_by(tiny_recipe, **block(method, bits)).model
    ids = torch.arange(3, 35).view(2, 16)
    with torch.no_grad():
        for module in model.modules():
            if "RMSNorm" in type(module).__name__:
                module.weight.mul_(4)
        together, alone = model(input_ids=ids).logits[0], model(input_ids=ids[:1]).logits[0]
        model.train()
        trained = model(input_ids=ids).logits[0]
    assert float((together - alone).abs().max()) < 1e-4 * float(alone.abs().max())
    assert float((together - trained).abs().max()) < 1e-4 * float(alone.abs().max())


def test_nf4_that_was_packed_for_inference_is_what_is_prevented(
    tiny_recipe: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted error: bitsandbytes may repack, as it does by itself."""
    need("bitsandbytes")
    import bitsandbytes

    if not bitsandbytes.functional.has_avx512bf16():
        pytest.skip("bitsandbytes repacks on processors with AVX-512 in bfloat16 alone")
    monkeypatch.setattr("runner.base_model.quantization.bitsandbytes.never_pack", lambda _: None)
    loaded = loaded_by(tiny_recipe, **block("bitsandbytes", 4))
    try:
        silent = silent_after_an_evaluation(loaded, tiny_recipe)
    except RuntimeError as error:  # its backward pass reads the packed weights as plain ones
        silent = [str(error)]
    assert silent


@pytest.mark.parametrize(("method", "bits"), [way for way in ROUNDING if way[0] == "bitsandbytes"])
def test_the_forecast_of_memory_is_what_it_takes(
    method: str, bits: int, tiny_recipe: Document
) -> None:
    need(method)
    recipe = Recipe.model_validate({**tiny_recipe, **block(method, bits)})
    source = find_model(recipe.model.base, None, folder=Path("/"))
    taken = load_model(recipe, source, device="cpu").model.get_memory_footprint()
    skeleton = model_skeleton(recipe, source)
    forecast = stored_bytes(recipe.quantization, source, skeleton, torch.float32)
    assert forecast == pytest.approx(taken, rel=0.02)


def silent_after_an_evaluation(loaded: LoadedModel, document: Document) -> list[str]:
    """Adapter tensors without gradient, where the base model was evaluated before."""
    ids = torch.arange(3, 35).view(2, 16)
    with torch.no_grad():
        loaded.model(input_ids=ids)
        loaded.model.generate(input_ids=ids, max_new_tokens=2, do_sample=False)
    lora = Recipe.model_validate(document).lora.model_copy(update={"target_modules": "all-linear"})
    adapted = attach_adapter(loaded.model, lora, seed=0)
    assert len(adapted_modules(adapted)) == 14
    tensors = trainable_tensors(adapted)
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            torch.nn.init.normal_(tensor, std=0.02)
    adapted.train()
    adapted(input_ids=ids, labels=ids).loss.backward()
    return [
        name for name, tensor in tensors.items() if tensor.grad is None or not tensor.grad.any()
    ]
