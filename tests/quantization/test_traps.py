"""Traps of GPTQ in today's libraries (T1 to T6): each is laid here, and we do not fall in."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evalsuite.generation.merged_adapter import merged_adapter, why_not_merged
from runner.base_model.loaded_model import LoadedModel, load_tokenizer
from runner.base_model.model_source import local_model
from runner.errors import DataError, MachineError, RecipeError
from runner.recipe import Lora
from runner.recipe_reading.recipe_file import read_recipe
from runner.training.lora import adapted_modules, attach_adapter, trainable_tensors
from tests.quantization.classical_gptq import LINEAR, Scheme
from tests.quantization.conftest import NEEDS_GPTQ, Checkpoint
from tests.quantization.loading import (
    IDS,
    expected_logits,
    gptq_recipe,
    loaded,
    logits,
    relative_error,
)
from tests.quantization.training import LORA, recipe_for, trained

SAME = 1e-5  # of the largest logit


def evaluated(model: Any) -> Any:
    """What an evaluation does to a model before it is trained: losses and generated answers."""
    ids = torch.tensor([IDS])
    model.eval()
    with torch.no_grad():
        model(ids)
    model.generate(ids[:, :5], max_new_tokens=3, do_sample=False, pad_token_id=0)
    return model


def by_default(folder: Path, scheme: Scheme) -> LoadedModel:
    """The checkpoint as transformers loads it when no kernel is named."""
    from transformers import AutoModelForCausalLM, GPTQConfig

    recipe = gptq_recipe(folder, scheme)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32,
        quantization_config=GPTQConfig(bits=scheme.bits, backend="auto"),
    )  # fmt: skip
    tokenizer = load_tokenizer(recipe, local_model("made", folder))
    return LoadedModel(model=model, tokenizer=tokenizer, device="cpu", dtype=torch.float32)


def silent(model: Any, targets: Any = "all-linear") -> list[str]:
    """Trainable tensors without a gradient, where every one of them should have one."""
    adapted = attach_adapter(copy.deepcopy(model), Lora(r=4, target_modules=targets), seed=1)
    tensors = trainable_tensors(adapted)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if ".lora_B." in name:
                tensor.normal_(std=0.1)  # while it is zero, A has no gradient
    ids = torch.tensor([IDS])
    adapted.train()
    adapted(input_ids=ids, labels=ids).loss.backward()
    return [
        name for name, tensor in tensors.items() if tensor.grad is None or not tensor.grad.any()
    ]


# T1: evaluation before training packs weights for inference, and gradients vanish


@pytest.mark.parametrize("scheme", [Scheme(), Scheme(desc_act=True, sym=False), Scheme(bits=8)])
def test_t1_every_matrix_learns_after_an_evaluation(
    checkpoint: Callable[..., Checkpoint], scheme: Scheme, tmp_path: Path
) -> None:
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    folder = checkpoint(scheme).folder
    base = loaded(folder, scheme)
    evaluated(base.model)
    assert silent(base.model) == []
    record, _ = trained(recipe_for(folder, scheme), base, tmp_path / "run")
    assert record.steps == 6


PART = ("q_proj", "v_proj", "down_proj")  # those of down_proj learn in any case


@pytest.fixture
def packed_base(checkpoint: Callable[..., Checkpoint]) -> tuple[Path, Scheme, LoadedModel]:
    """A base that an evaluation packed for inference, where the default kernel does so here."""
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    scheme = Scheme(group_size=128)
    folder = checkpoint(scheme).folder
    base = by_default(folder, scheme)
    evaluated(base.model)
    if not silent(base.model, PART):
        kernel = type(base.model.model.layers[0].self_attn.q_proj).__name__
        pytest.skip(f"the trap is not there: {kernel} gives every gradient after an evaluation")
    return folder, scheme, base


@pytest.mark.parametrize("targets", [PART, "all-linear"])
def test_t1_a_base_that_was_packed_for_inference_is_refused(
    packed_base: tuple[Path, Scheme, LoadedModel], targets: Any, tmp_path: Path
) -> None:
    """With adapters on all linear modules every tensor has a gradient, and it is a wrong one."""
    folder, scheme, base = packed_base
    assert (targets == "all-linear") == (not silent(base.model, targets))
    recipe = recipe_for(folder, scheme, lora={**LORA, "target_modules": targets})
    with pytest.raises(MachineError, match=r"pass no gradient on: Torch\w+ is for inference only"):
        trained(recipe, base, tmp_path / "run")


def test_t1_the_training_stops_even_where_that_is_not_seen(
    packed_base: tuple[Path, Scheme, LoadedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scheme, base = packed_base
    monkeypatch.setattr("runner.training.train_adapter.check_passage", lambda _: None)
    recipe = recipe_for(folder, scheme, lora={**LORA, "target_modules": PART})
    with pytest.raises(DataError, match=r"adapter tensors got no gradient in the first 5 steps"):
        trained(recipe, base, tmp_path / "run")


# T2, T3: a loaded checkpoint, saved again


@pytest.mark.parametrize("scheme", [Scheme(), Scheme(sym=False, desc_act=True), Scheme(bits=8),
                                    Scheme(format="gptq_v2")])  # fmt: skip
def test_t2_and_t3_a_checkpoint_that_is_saved_again_is_the_same_model(
    checkpoint: Callable[..., Checkpoint], scheme: Scheme, tmp_path: Path
) -> None:
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(scheme)
    base = loaded(made.folder, scheme)
    before = logits(evaluated(base.model))  # T3: after a forward pass
    base.model.save_pretrained(tmp_path / "again")
    base.tokenizer.save_pretrained(tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["quantization_config"]["checkpoint_format"] == "gptq_v2"
    again = logits(loaded(tmp_path / "again", scheme).model)
    assert relative_error(again, before) < SAME
    assert relative_error(again, expected_logits(made.folder, made.linears)) < SAME


def test_t2_the_label_that_transformers_would_write_is_seen(
    checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    """The planted error: tensors of format gptq_v2 under the label gptq."""
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(Scheme())
    base = loaded(made.folder, made.scheme)
    before = logits(base.model)
    base.model.config.quantization_config.format = "gptq"
    base.model.save_pretrained(tmp_path / "again")
    base.tokenizer.save_pretrained(tmp_path / "again")
    assert relative_error(logits(loaded(tmp_path / "again", made.scheme).model), before) > 0.01


# T5: all-linear


def test_t5_all_linear_means_every_gptq_layer_and_not_the_head(
    checkpoint: Callable[..., Checkpoint],
) -> None:
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(Scheme())
    block = Lora(r=4, target_modules="all-linear")
    adapted = attach_adapter(loaded(made.folder, made.scheme).model, block, seed=1)
    assert adapted_modules(adapted) == sorted(made.linears)
    assert {name.rpartition(".")[2] for name in adapted_modules(adapted)} == set(LINEAR)


# T6: merging


def test_t6_answers_are_generated_with_the_adapter_beside_the_quantized_base(
    checkpoint: Callable[..., Checkpoint],
) -> None:
    pytest.importorskip("gptqmodel", reason=NEEDS_GPTQ)
    made = checkpoint(Scheme())
    base = loaded(made.folder, made.scheme).model
    before = logits(base)
    adapted = attach_adapter(base, Lora(r=4, target_modules="all-linear"), seed=1)
    with torch.no_grad():
        for name, tensor in trainable_tensors(adapted).items():
            if ".lora_B." in name:
                tensor.normal_(std=0.1)
    adapted.eval()
    beside = logits(adapted)
    assert why_not_merged(adapted) == "the base model's weights are quantized"
    with merged_adapter(adapted) as reason:
        assert reason == "the base model's weights are quantized"
        assert relative_error(logits(adapted), beside) == 0.0
    assert relative_error(beside, before) > 0.01


def test_t6_a_merged_release_is_refused_with_what_to_do_instead(
    tiny_recipe: dict[str, Any], write_recipe: Any
) -> None:
    path = write_recipe({**tiny_recipe, "release": {"contents": "merged"}})
    with pytest.raises(RecipeError) as refused:
        read_recipe(path)
    message = str(refused.value)
    assert "release.contents" in message
    assert "a quantized base cannot be merged into" in message
    assert "proofbox eval MERGED --recipe" in message
