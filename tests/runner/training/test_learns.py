"""What learns nothing stops the training, and the message names it."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from datasets import Dataset
from transformers import TrainerControl, TrainerState, TrainingArguments

from runner.errors import DataError
from runner.recipe import Lora
from runner.training.learns import LEARNS_BY_STEP, EveryTensorLearns
from runner.training.lora import attach_adapter
from runner.training.step_schedule import StepSchedule
from runner.training.token_rows import SEARCHED_STEPS, check_tokens_occur, first_steps

ARGUMENTS = cast(TrainingArguments, None)  # the callback reads none
TOKEN_IDS = (7, 8)
PLAIN = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def base(tiny_model_folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_folder)


def adapted(base: Any, **given: Any) -> Any:
    block = Lora.model_validate({"r": 2, "target_modules": ["q_proj", "v_proj"], **given})
    ids = TOKEN_IDS[: len(block.trained_tokens)]
    return attach_adapter(copy.deepcopy(base), block, seed=1, token_ids=ids)


def follow(
    model: Any,
    watch: EveryTensorLearns,
    batches: list[tuple[int, ...]],
    *,
    after: int = 0,
) -> None:
    """Train by plain gradient descent, a row of ids a step, as the trainer calls a callback."""
    state, control = TrainerState(global_step=after, max_steps=100), TrainerControl()
    watch.on_train_begin(ARGUMENTS, state, control)
    for ids in batches:
        model.zero_grad()
        row = torch.tensor([ids])
        model(input_ids=row, labels=row).loss.backward()
        watch.on_pre_optimizer_step(ARGUMENTS, state, control)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.1 * parameter.grad)
        state.global_step += 1


@pytest.mark.parametrize(
    "given",
    [
        {"variant": "dora"},
        {"modules_to_save": ["norm", "embed_tokens"]},
        {"trained_tokens": ["<x>", "<y>"]},
    ],
)
def test_what_learns_is_let_pass(base: Any, given: dict[str, Any]) -> None:
    model = adapted(base, **given)
    watch = EveryTensorLearns(model, token_ids=TOKEN_IDS, first_steps={7: 2})
    follow(model, watch, [PLAIN, (1, 7, 2), *[PLAIN] * 5])
    assert not watch.without
    assert not any(watch.rows.values())


def test_a_module_that_is_not_used_is_named(base: Any) -> None:
    model = adapted(base)
    attention = model.get_base_model().model.layers[1].self_attn
    attention.v_proj.forward = attention.v_proj.base_layer.forward  # as if it were not there
    message = r"^2 of 8 adapter tensors got no gradient in the first 5 steps, those of model\.layer"
    with pytest.raises(DataError, match=message + r"s\.1\.self_attn\.v_proj: they learn nothing"):
        follow(model, EveryTensorLearns(model), [PLAIN] * LEARNS_BY_STEP)


def test_a_short_run_is_checked_at_its_end(base: Any) -> None:
    model = adapted(base, target_modules=["q_proj", "v_proj"])
    watch = EveryTensorLearns(model)
    state: Any = SimpleNamespace(global_step=1, max_steps=3)
    watch.on_pre_optimizer_step(None, state, None)  # type: ignore[arg-type]
    state.global_step = 2
    with pytest.raises(DataError, match="no gradient"):
        watch.on_pre_optimizer_step(None, state, None)  # type: ignore[arg-type]


def test_steps_that_float16_left_out_do_not_count(base: Any) -> None:
    model = adapted(base, target_modules=["q_proj", "v_proj"])
    watch = EveryTensorLearns(model, skipped=lambda: 3)
    for step in range(7):
        state: Any = SimpleNamespace(global_step=step, max_steps=100)
        watch.on_pre_optimizer_step(None, state, None)  # type: ignore[arg-type]
    state.global_step = 7
    with pytest.raises(DataError, match="no gradient"):
        watch.on_pre_optimizer_step(None, state, None)  # type: ignore[arg-type]


def test_a_whole_module_that_is_not_used_is_named(base: Any) -> None:
    model = adapted(base, modules_to_save=["norm"])
    norm = model.get_base_model().model.norm
    norm.forward = norm.original_module.forward
    with pytest.raises(DataError, match=r"1 of 9 .* those of model\.norm: they learn nothing"):
        follow(model, EveryTensorLearns(model), [PLAIN] * LEARNS_BY_STEP)


def test_a_token_whose_row_is_not_used_is_named(base: Any) -> None:
    """One row of the tensor learns, the other does not: the tensor as a whole has a gradient."""
    model = adapted(base, trained_tokens=["<x>", "<y>"])
    layer = model.get_base_model().model.embed_tokens.token_adapter
    mask = torch.tensor([[1.0], [0.0]])
    layer.trainable_tokens_delta["default"].register_hook(lambda gradient: gradient * mask)
    watch = EveryTensorLearns(model, token_ids=TOKEN_IDS, first_steps={7: 1, 8: 3})
    message = r"with ids \[8\] got no gradient in the first 5 steps.*of model\.embed_tokens learn"
    with pytest.raises(DataError, match=message):
        follow(model, watch, [(7, 1, 2), PLAIN, (1, 8, 2), PLAIN, PLAIN])


def test_a_token_that_comes_late_is_waited_for(base: Any) -> None:
    model = adapted(base, trained_tokens=["<x>"])
    watch = EveryTensorLearns(model, token_ids=(7,), first_steps={7: 8})
    follow(model, watch, [PLAIN] * 7)
    with pytest.raises(DataError, match=r"ids \[7\] got no gradient in the first 8 steps"):
        follow(model, watch, [PLAIN], after=7)


def test_a_continued_run_does_not_wait_for_what_came_before(base: Any) -> None:
    model = adapted(base, trained_tokens=["<x>"])
    watch = EveryTensorLearns(model, token_ids=(7,), first_steps={7: 2})
    follow(model, watch, [PLAIN] * 4, after=3)
    with pytest.raises(DataError, match=r"ids \[7\]"):
        follow(model, EveryTensorLearns(model, token_ids=(7,), first_steps={7: 2}), [PLAIN] * 5)


def rows_of(*rows: list[int], learned_from: int = 1) -> Dataset:
    labels = [[-100] * learned_from + row[learned_from:] for row in rows]
    return Dataset.from_dict({"input_ids": list(rows), "labels": labels})


def test_a_token_counts_from_where_it_matters() -> None:
    """The last token of a row predicts nothing; one before a prompt's end still does."""
    rows = rows_of([1, 2, 3, 7], [1, 8, 3, 4], [7, 2, 3, 4], learned_from=3)
    schedule = StepSchedule(((0,), (1, 0), (2,)))
    assert first_steps(rows, schedule, (7, 8, 9)) == {8: 2, 7: 3}
    late = StepSchedule(((0,),) * SEARCHED_STEPS + ((2,),))
    assert first_steps(rows, late, (7,)) == {}


def test_tokens_that_are_in_no_row_are_refused() -> None:
    rows = rows_of([1, 2, 3, 7], [1, 8, 3, 4])
    check_tokens_occur(rows, {"<x>": 7, "<y>": 8})
    check_tokens_occur(rows, {})
    with pytest.raises(DataError, match=r"no row of the train partition has '<z>', as"):
        check_tokens_occur(rows, {"<x>": 7, "<z>": 9})
    with pytest.raises(DataError, match="'<x>'"):
        check_tokens_occur(rows.select([1]), {"<x>": 7})
