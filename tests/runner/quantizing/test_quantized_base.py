"""Which base a run goes on with: made once, found again by content, and never another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner import stages
from runner.base_model.model_source import local_model
from runner.errors import DataError
from runner.plan import Plan, lock_of, make_plan, write_lock
from runner.progress import Progress
from runner.quantizing import quantized_base as stage
from runner.quantizing.quantized_base import (
    cached_quantized_plan,
    needs_quantizing,
    quantized_folder,
    quantized_plan,
    recorded_quantized_plan,
    with_recorded_base,
)
from runner.quantizing.quantized_cache import CHECKPOINT, RECORD
from runner.recipe import Quantization
from runner.stored_json import read_json
from tests.runner.quantizing.fake_quantizing import fake_quantize

Make = Callable[..., Plan]
GPTQ = {"method": "gptq", "bits": 4, "group_size": 32, "calibration": {"examples": 9}}


@pytest.fixture
def make(
    tmp_path: Path,
    tiny_recipe: dict[str, Any],
    write_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    """A plan whose base is to be quantized, in a cache of the test's own."""
    monkeypatch.setenv("PROOFBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stage, "_quantize", fake_quantize)

    def plan(**blocks: Any) -> Plan:
        quantization = {**GPTQ, **blocks.pop("quantization", {})}
        recipe = {**tiny_recipe, "quantization": quantization, **blocks}
        return make_plan(write_recipe(recipe), runs=tmp_path / "runs")

    return plan


def prepared(plan: Plan) -> Any:
    data = stages.prepared(plan, Progress())
    write_lock(plan, data.memberships)
    return data


def test_a_full_precision_base_is_replaced_for_all_that_follows(make: Make) -> None:
    plan = make()
    data = prepared(plan)
    after = recorded_quantized_plan(plan, data, Progress())
    assert (plan.model.quantization, after.model.quantization) == (None, "gptq")
    assert after.model.name == plan.model.name
    assert after.run_id == plan.run_id
    assert Path(after.model.place).parent.parent == quantized_folder()
    assert with_recorded_base(plan) == after


def test_the_lock_names_the_base_and_how_it_was_made(make: Make) -> None:
    plan = make()
    data = prepared(plan)
    after = recorded_quantized_plan(plan, data, Progress())
    lock = read_json(plan.folder.lock)
    assert lock["model"] == lock_of(plan)["model"]
    made = lock["quantized"]
    assert made["digest"] == after.model.digest
    assert made["base_digest"] == plan.model.digest
    assert (made["examples"], made["modules"], len(made["calibration_digest"])) == (9, 2, 64)
    assert made["quantization"] == {
        "method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True, "damp": 0.05,
    }  # fmt: skip
    modules = read_json(plan.folder.quantized)["result"]["modules"]
    assert [module["weight_error"] for module in modules] == [0.1, 0.2]
    assert str(plan.folder.path.parent) not in json.dumps([lock, modules])


def test_it_is_made_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make()
    data = prepared(plan)
    assert cached_quantized_plan(plan, data, Progress()) is None
    first = quantized_plan(plan, data, Progress())
    monkeypatch.setattr(stage, "_quantize", lambda *_: pytest.fail("quantized again"))
    # Another recipe: what it trains and which kernel computes makes no other base.
    other = make(name="other", lora={"r": 2}, quantization={"kernel": "torch"})
    assert quantized_plan(other, prepared(other), Progress()).model == first.model
    found = cached_quantized_plan(plan, data, Progress())
    assert found is not None
    assert found.model == first.model


@pytest.mark.parametrize(
    "blocks",
    [
        {"quantization": {"group_size": 64}},
        {"quantization": {"sym": False}},
        {"quantization": {"desc_act": True}},
        {"quantization": {"bits": 8}},
        {"quantization": {"damp": 0.1}},
        {"quantization": {"calibration": {"examples": 8}}},
        {"quantization": {"calibration": {"examples": 9, "max_length": 20}}},
        {"seed": 7},
    ],
    ids=str,
)
def test_another_base_is_made_for(blocks: dict[str, Any], make: Make) -> None:
    plan, other = make(), make(**blocks)
    for each in (plan, other):
        quantized_plan(each, prepared(each), Progress())
    assert len([path for path in quantized_folder().iterdir() if path.is_dir()]) == 2


def test_a_damaged_base_is_made_anew(make: Make) -> None:
    plan = make()
    data = prepared(plan)
    first = quantized_plan(plan, data, Progress())
    (Path(first.model.place) / "config.json").write_text("{}")
    assert cached_quantized_plan(plan, data, Progress()) is None
    assert quantized_plan(plan, data, Progress()).model == first.model
    (Path(first.model.place).parent / RECORD).unlink()
    assert quantized_plan(plan, data, Progress()).model == first.model


def test_a_fresh_process_refuses_a_base_that_is_gone_or_changed(make: Make) -> None:
    plan = make()
    after = recorded_quantized_plan(plan, prepared(plan), Progress())
    place = Path(after.model.place)
    config = place / "generation_config.json"
    config.write_text("{}")
    with pytest.raises(DataError, match="its files changed"):
        with_recorded_base(plan)
    place.rename(place.with_name("elsewhere"))
    with pytest.raises(DataError, match="gone from the cache"):
        with_recorded_base(plan)


def test_an_adapter_stays_on_the_base_that_it_was_trained_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache was emptied and another device rounds in another way."""
    plan = make()
    data = prepared(plan)
    recorded_quantized_plan(plan, data, Progress())
    (entry,) = [path for path in quantized_folder().iterdir() if path.is_dir()]
    entry.rename(entry.with_name(".aside"))

    def otherwise(scratch: Path, checkpoint: Path, given: Plan) -> None:
        fake_quantize(scratch, checkpoint, given)
        (checkpoint / "generation_config.json").write_text('{"other": 1}')

    monkeypatch.setattr(stage, "_quantize", otherwise)
    plan.folder.training.write_text("{}")
    with pytest.raises(DataError, match=r"not the one that this run was trained on.*--restart"):
        recorded_quantized_plan(plan, data, Progress())
    plan.folder.training.unlink()
    after = recorded_quantized_plan(plan, data, Progress())
    assert read_json(plan.folder.quantized)["digest"] == after.model.digest


def test_only_a_full_precision_base_is_quantized_and_only_with_gptq(make: Make) -> None:
    plan = make()
    gptq = replace(plan.model, quantization="gptq")
    blocks = [Quantization(), Quantization(method="gptq", bits=4)]
    assert [needs_quantizing(block, plan.model) for block in blocks] == [False, True]
    assert [needs_quantizing(block, gptq) for block in blocks] == [False, False]
    plain = replace(plan, model=gptq)
    assert quantized_plan(plain, prepared(plan), Progress()) is plain
    assert with_recorded_base(plain) is plain


def test_the_checkpoint_is_a_folder_like_any_other_model(make: Make) -> None:
    plan = make()
    after = quantized_plan(plan, prepared(plan), Progress())
    assert Path(after.model.place).name == CHECKPOINT
    again = local_model("named otherwise", Path(after.model.place))
    assert again.digest == after.model.digest
