"""What a plan depends on, what it decides, and what it forecasts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import memory_forecast
from runner.cli import guarded
from runner.commands.plan import plan as plan_command
from runner.plan import decisions_of, lock_of, make_plan

Recipe = dict[str, Any]
Write = Callable[..., Path]


def run_id(recipe: Recipe, write_recipe: Write) -> str:
    path = write_recipe(recipe)
    return make_plan(path, runs=path.parent / "runs").run_id


def changed(recipe: Recipe, block: str, **values: Any) -> Recipe:
    return {**recipe, block: {**recipe.get(block, {}), **values}}


def test_the_run_id_depends_on_what_is_learned(
    tiny_recipe: Recipe, write_recipe: Write, tiny_rows: Path
) -> None:
    first = run_id(tiny_recipe, write_recipe)
    others = [
        {**tiny_recipe, "seed": 7},
        changed(tiny_recipe, "lora", r=8),
        changed(tiny_recipe, "training", learning_rate=0.02),
        changed(tiny_recipe, "template", max_length=64),
        changed(tiny_recipe, "dataset", partition={"train": 0.8, "validation": 0.1, "test": 0.1}),
        changed(tiny_recipe, "model", pad_token="<s>"),
    ]
    ids = {first, *(run_id(other, write_recipe) for other in others)}
    assert len(ids) == 1 + len(others)
    with tiny_rows.open("a") as file:
        file.write(json.dumps({"instruction": "x", "input": "", "output": "y", "tests": ""}) + "\n")
    assert run_id(tiny_recipe, write_recipe) not in ids


def test_the_run_id_does_not_depend_on_how_it_is_judged_or_computed(
    tiny_recipe: Recipe, write_recipe: Write
) -> None:
    same = [
        tiny_recipe,
        {**tiny_recipe, "gates": []},
        {**tiny_recipe, "description": "another sentence"},
        changed(tiny_recipe, "evaluation", samples=["Another prompt."]),
        changed(tiny_recipe, "hardware", micro_batch_tokens=2048),
    ]
    assert len({run_id(recipe, write_recipe) for recipe in same}) == 1


def test_the_text_of_a_chat_template_counts_not_only_its_name(
    tiny_recipe: Recipe, write_recipe: Write, tmp_path: Path
) -> None:
    recipe = changed(tiny_recipe, "template", chat="chat.jinja")
    ids = set()
    for text in ("{{ messages }}", "{{ messages }} "):
        (tmp_path / "chat.jinja").write_text(text)
        ids.add(run_id(recipe, write_recipe))
    assert len(ids) == 2


def test_what_the_machine_decides_is_in_the_lock(
    tiny_recipe: Recipe, write_recipe: Write, tmp_path: Path
) -> None:
    recipe = changed(tiny_recipe, "training", optimizer="paged_adamw_32bit")
    recipe = changed(recipe, "model", dtype="auto")
    plan = make_plan(write_recipe(recipe), runs=tmp_path / "runs")
    assert decisions_of(plan) == [
        "model.dtype: auto is float32",
        "training.optimizer: adamw instead of paged_adamw_32bit (no CUDA device)",
    ]
    assert lock_of(plan)["decisions"] == decisions_of(plan)
    assert str(tmp_path) not in json.dumps({**lock_of(plan), "recipe": None})


def test_plan_says_what_will_be_run(
    tiny_recipe: Recipe, write_recipe: Write, tmp_path: Path, capsys: Any
) -> None:
    gate = {"metric": "answers.exact_match", "claim": "non_inferior", "margin": 0.02}
    path = write_recipe({**tiny_recipe, "gates": [gate]})
    code = guarded(lambda: plan_command(str(path), runs=tmp_path, device=None, format="text"))
    shown = capsys.readouterr().out
    assert code == 0
    assert "train             36 examples" in shown
    assert "12 steps of 4 examples, 1.33 passes over the data" in shown
    assert "896 parameters" in shown  # 2 layers, r = 4, on q (32 + 32) and v (32 + 16)
    assert "done before  nothing" in shown
    assert "too few examples for these gates" in shown
    assert "answers.exact_match non_inferior: " in shown


def test_plan_says_what_memory_training_takes(
    tiny_recipe: Recipe, write_recipe: Write, tmp_path: Path, capsys: Any
) -> None:
    path = write_recipe(tiny_recipe)
    assert guarded(lambda: plan_command(str(path), runs=tmp_path, device=None, format="text")) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"memory       about 0\.\d\d GB in training: 0\.\d\d program, 0\.00 wei", shown
    )
    assert "that are free" not in shown


def test_plan_says_what_to_lower_where_memory_does_not_suffice(
    tiny_recipe: Recipe,
    write_recipe: Write,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_forecast, "free_bytes", lambda _: 0)
    monkeypatch.setattr(memory_forecast, "memory_in_use", lambda: 300_000_000)
    path = write_recipe(changed(tiny_recipe, "hardware", micro_batch_tokens=10**6))
    assert guarded(lambda: plan_command(str(path), runs=tmp_path, device=None, format="json")) == 0
    memory = json.loads(capsys.readouterr().out)["forecast"]["memory"]
    assert (memory["free"], memory["recomputed_layers"]) == (300_000_000, 2)
    standing = sum(memory[part] for part in ("program", "weights", "adapter", "optimizer"))
    # A validation of 4,096 tokens, about a third of them learned: logits, and again as likelihoods.
    assert memory["validating"] == pytest.approx(4096 * 0.4 * 260 * 8, rel=0.3)
    most = max(memory["computing"], memory["validating"])
    assert memory["peak"] == standing + most > memory["free"]
    assert memory["advice"][0].startswith("hardware.micro_batch_tokens to ")
    assert guarded(lambda: plan_command(str(path), runs=tmp_path, device=None, format="text")) == 0
    shown = capsys.readouterr().out
    assert "more than the 0.30 GB that are free. Lower one of:" in shown
    assert "2 layers twice" in shown


def test_the_plan_as_json_is_the_lock_with_a_forecast(
    tiny_recipe: Recipe, write_recipe: Write, tmp_path: Path, capsys: Any
) -> None:
    path = write_recipe(tiny_recipe)
    assert guarded(lambda: plan_command(str(path), runs=tmp_path, device=None, format="json")) == 0
    document = json.loads(capsys.readouterr().out)
    forecast = document["forecast"]
    assert forecast["steps"] == 12
    assert forecast["adapter_parameters"] == 896
    assert forecast["generated_tokens_at_most"] == 2 * 6 * 8
    assert forecast["seconds"] > 0
    (lock,) = tmp_path.glob("tiny/*/lock.json")
    assert json.loads(lock.read_text())["run_id"] == document["run_id"]
    assert set(json.loads(lock.read_text())["partitions"]) == {"train", "validation", "test"}


def test_sets_beside_the_dataset_are_scored_too(
    tiny_recipe: Recipe, write_recipe: Write, tmp_path: Path, capsys: Any
) -> None:
    """By base and adapter; the set has the very rows of the dataset."""
    copy = {"name": "again", "data": {"source": "rows.jsonl", "columns": {"tests": "tests"}}}
    recipe = changed(tiny_recipe, "evaluation", loss=[], held_out=[copy])
    path = write_recipe({**recipe, "gates": []})
    assert guarded(lambda: plan_command(str(path), runs=tmp_path, device=None, format="json")) == 0
    document = json.loads(capsys.readouterr().out)
    (data,) = tmp_path.glob("tiny/*/data.json")
    partitions = json.loads(data.read_text())["partitions"].values()
    tokens = sum(partition["tokens"] for partition in partitions)
    assert document["forecast"]["evaluated_tokens"] == 2 * tokens


@pytest.mark.parametrize("variant", ["lora", "dora"])
def test_the_forecast_counts_parameters_as_peft_does(tiny_model_folder: Path, variant: str) -> None:
    from transformers import AutoModelForCausalLM

    from runner.recipe import Lora
    from runner.training.lora import attach_adapter, count_adapter_parameters, trainable_tensors

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    for targets in ("all-linear", ("q_proj", "down_proj"), r".*\.1\..*(q|o)_proj"):
        block = Lora.model_validate({"r": 3, "target_modules": targets, "variant": variant})
        expected = count_adapter_parameters(model, block)
        attached = attach_adapter(
            AutoModelForCausalLM.from_pretrained(tiny_model_folder), block, seed=1
        )
        assert sum(t.numel() for t in trainable_tensors(attached).values()) == expected
