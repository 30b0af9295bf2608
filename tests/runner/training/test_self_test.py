"""The self-test passes on what is right, and each of its checks sees the error planted for it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file

from evalsuite.packed_attention import packed_inputs
from runner.base_model.loaded_model import LoadedModel, load_model, quiet_libraries
from runner.base_model.model_source import find_model
from runner.recipe import Recipe
from runner.training import gradient_checks, self_check, self_test, step_engine, train_adapter
from runner.training.adapter_files import WEIGHTS, save_adapter
from runner.training.lora import attach_adapter
from runner.training.self_test import SelfTest
from runner.training.step_engine import StepEngine
from runner.training.trainer import StepTrainer
from runner.training.training_rows import IGNORED

FIRST = 10  # id of the trained token; others are below it
Tested = Callable[..., SelfTest]


@pytest.fixture(scope="module")
def rows() -> Dataset:
    generator = torch.Generator().manual_seed(1)
    examples = []
    for number in range(40):
        length = int(torch.randint(8, 60, (1,), generator=generator))
        ids = torch.randint(3, 9, (length,), generator=generator).tolist()
        if number == 39:
            ids[2] = FIRST
        learned = int(torch.randint(1, length - 4, (1,), generator=generator))
        examples.append({"input_ids": ids, "labels": [IGNORED] * learned + ids[learned:]})
    return Dataset.from_list(examples)


@pytest.fixture(scope="module", autouse=True)
def less_garbage() -> Iterator[None]:
    """Accelerate collects garbage in every training: most of a tiny one's time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def tested(tmp_path: Path, tiny_recipe: dict[str, Any], rows: Dataset) -> Tested:
    """Test the tiny recipe, with changed blocks."""

    def run(**changes: dict[str, Any]) -> SelfTest:
        document = {**tiny_recipe}
        for block, values in changes.items():
            document[block] = {**document[block], **values}
        recipe = Recipe.model_validate(document)
        quiet_libraries()
        source = find_model(recipe.model.base, None, folder=Path("/"))

        def load() -> LoadedModel:
            return load_model(recipe, source, device="cpu")

        return self_test.self_test(recipe, load, rows, tmp_path)

    return run


def failed(result: SelfTest) -> list[str]:
    return [check.name for check in result.failed]


def test_a_training_that_is_right_passes(tested: Tested) -> None:
    result = tested()  # with dropout and noise, as the recipe has them
    assert failed(result) == []
    assert [check.name for check in result.checks] == [
        gradient_checks.CUT,
        gradient_checks.PADDED_LOSS,
        gradient_checks.PADDED_GRADIENTS,
        gradient_checks.LEARNING,
        self_test.RELOADED,
        self_test.CHANGES,
        self_test.CONTINUED,
    ]
    assert {check.outcome for check in result.checks} == {"pass"}
    assert (result.device, result.dtype) == ("cpu", "float32")
    assert len(set(result.lengths)) == len(result.lengths) == 4


def average(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers#34191: the mean of the parts' means is not the mean of the whole."""
    right = StepEngine.gradients

    def averaged(
        engine: StepEngine,
        rows: Any,
        *,
        supervised: int,
        scale: float = 1.0,
        cut: Any = None,
        **_: Any,
    ) -> torch.Tensor:
        del supervised
        parts = cut or engine.cut([len(row.input_ids) for row in rows])
        total = torch.zeros(())
        for part in parts:
            own = [rows[place] for place in part]
            counted = sum(int((row.labels[1:] != IGNORED).sum()) for row in own)
            whole = [list(range(len(own)))]
            share = scale / len(parts)
            total += right(engine, own, supervised=counted, scale=share, cut=whole)
        return total / len(parts)

    monkeypatch.setattr(StepEngine, "gradients", averaged)


def let_examples_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """trl#805: the attention is told of one long example instead of several."""
    right = packed_inputs

    def of_one(lengths: Any, device: Any, *, longest: int | None = None) -> dict[str, Any]:
        told = right(lengths, device, longest=longest)
        edges = torch.tensor([0, sum(lengths)], dtype=torch.int32)
        return {**told, "cu_seq_lens_q": edges, "cu_seq_lens_k": edges}

    monkeypatch.setattr(step_engine, "packed_inputs", of_one)


def attached(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    """Plant an error in the adapted model, before anything of it is trained."""
    attach = attach_adapter

    def changed(*arguments: Any, **options: Any) -> Any:
        model = attach(*arguments, **options)
        change(model)
        return model

    monkeypatch.setattr(train_adapter, "attach_adapter", changed)


def saved(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None]) -> None:
    """Plant an error in the tensors of a saved adapter."""
    save = save_adapter

    def damaged(model: Any, target: Path, **options: Any) -> str:
        digest = save(model, target, **options)
        tensors = load_file(str(target / WEIGHTS))
        change(tensors)
        save_file(tensors, str(target / WEIGHTS))
        return digest

    monkeypatch.setattr(train_adapter, "save_adapter", damaged)


# Two errors to a test, where each is seen by a check of its own: a self-test takes a second or two.


def test_gradients_averaged_by_part_and_an_adapter_without_effect_are_seen(
    tested: Tested, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undo(tensors: dict[str, Any]) -> None:
        tensors.update({n: torch.zeros_like(t) for n, t in tensors.items() if "lora_B" in n})

    average(monkeypatch)
    saved(monkeypatch, undo)
    cut, reloaded, changes = tested().failed
    assert cut.name == gradient_checks.CUT
    assert float(cut.found) > self_check.GRADIENT_TOLERANCE["bfloat16"]
    assert "how much is computed at once" in cut.advice
    assert (reloaded.name, changes.name) == (self_test.RELOADED, self_test.CHANGES)
    assert "gives the base model's own logits" in changes.advice


def test_mixed_examples_and_a_lost_optimizer_state_are_seen(
    tested: Tested, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_examples_see_each_other(monkeypatch)
    monkeypatch.setattr(StepTrainer, "_load_optimizer_and_scheduler", lambda *_: None)
    result = tested()
    # Of packed examples together the gradients are others than apart, too.
    assert failed(result) == [
        gradient_checks.CUT,
        gradient_checks.PADDED_LOSS,
        gradient_checks.PADDED_GRADIENTS,
        self_test.CONTINUED,
    ]
    assert "Write hardware.attention: padded" in result.failed[1].advice
    assert result.failed[-1].allowed == "the same bytes"
    # A GPU, where bytes may differ, would see it too.
    assert float(result.failed[-1].found) > self_check.CONTINUED_TOLERANCE["bfloat16"]


def test_a_frozen_target_and_another_tensor_on_disk_are_seen(
    tested: Tested, monkeypatch: pytest.MonkeyPatch
) -> None:
    def freeze(model: Any) -> None:
        for name, parameter in model.named_parameters():
            if "layers.1.self_attn.v_proj.lora_" in name:
                parameter.requires_grad_(False)

    def change(tensors: dict[str, Any]) -> None:
        name = next(name for name in tensors if "lora_B" in name)
        tensors[name] = tensors[name] * 2

    attached(monkeypatch, freeze)
    saved(monkeypatch, change)
    frozen, reloaded = tested().failed
    assert (frozen.name, frozen.found) == (gradient_checks.LEARNING, "1 of 4")
    assert "No gradient: model.layers.1.self_attn.v_proj." in frozen.advice
    assert reloaded.name == self_test.RELOADED
    assert "not be what was trained" in reloaded.advice


TOKENS = {"trained_tokens": ["$", "(", "%"], "modules_to_save": ["lm_head"]}


def test_tokens_and_whole_modules_learn_and_a_model_that_is_not_packed_is_named(
    tested: Tested, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_checks, "why_not_packed", lambda *_: "it has sinks")
    result = tested(lora=TOKENS, hardware={"attention": "padded"})
    assert failed(result) == []
    learning = next(c for c in result.checks if c.name == gradient_checks.LEARNING)
    assert learning.found == "0 of 6"  # four projections, the head, the embedding
    skipped = [check for check in result.checks if check.outcome == "not applicable"]
    assert [check.name for check in skipped] == [
        gradient_checks.PADDED_LOSS,
        gradient_checks.PADDED_GRADIENTS,
    ]
    assert skipped[0].advice == "examples of this model are padded, not packed: it has sinks"


def test_a_trained_token_without_gradient_is_seen(
    tested: Tested, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silence(model: Any) -> None:
        mask = torch.tensor([[1.0], [0.0], [1.0]])
        for name, parameter in model.named_parameters():
            if "embed_tokens" in name and "trainable_tokens_delta" in name:
                parameter.register_hook(lambda gradient: gradient * mask)

    attached(monkeypatch, silence)
    (silent,) = tested(lora=TOKENS).failed
    assert silent.name == gradient_checks.LEARNING
    assert f"token {FIRST} in model.embed_tokens" in silent.advice


def test_a_difference_that_is_no_number_fails() -> None:
    one, nan = torch.ones(2), torch.tensor([1.0, float("nan")])
    assert self_check.largest_difference({"a": one, "b": nan}, {"a": one, "b": one}) == float("inf")
    assert self_check.largest_difference({"a": one}, {"a": one, "b": one}) == float("inf")
    assert self_check.within("x", float("nan"), 1.0, advice="").failed
