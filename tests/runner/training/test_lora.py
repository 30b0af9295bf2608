"""Adapters of every kind: counted before, trained, saved, read back, continued after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from runner.base_model.loaded_model import LoadedModel, load_model, model_skeleton, quiet_libraries
from runner.base_model.model_source import find_model
from runner.errors import DataError
from runner.progress import Progress
from runner.recipe import Recipe
from runner.run_folder import RunFolder
from runner.training.adapter_files import WEIGHTS
from runner.training.adapter_probe import check_reloaded, probe_logits, probe_of, probe_rows
from runner.training.lora import (
    attach_adapter,
    count_adapter_parameters,
    load_adapter,
    module_of,
    trainable_tensors,
)
from runner.training.train_adapter import TrainedAdapter, train_adapter

FLOAT32 = ("float32", "float32")
TOKENS = ("<|query|>", "<|result|>")
WHOLE_AND_TOKENS = {"modules_to_save": ["norm"], "trained_tokens": TOKENS}
KINDS: dict[str, dict[str, Any]] = {
    "patterns": {
        "variant": "rslora",
        "target_modules": "all-linear",
        "exclude_modules": ["down_proj", "layers.0.self_attn.q_proj"],
        "rank_pattern": {"o_proj": 2},
        "alpha_pattern": {r"layers\.1\..*": 3},
    },
    "tokens": {"trained_tokens": TOKENS},
    "whole embedding": {"modules_to_save": ["embed_tokens"], "trained_tokens": TOKENS},
    "whole head": {"modules_to_save": ["lm_head"]},
    "dora": {"variant": "dora", **WHOLE_AND_TOKENS},
    "pissa": {"variant": "pissa", "rank_pattern": {"v_proj": 2}, **WHOLE_AND_TOKENS},
}
Train = Callable[..., tuple[TrainedAdapter, RunFolder]]


class KilledError(Exception):
    """Stands for SIGKILL: nothing of ours catches it."""


@pytest.fixture(scope="module")
def rows() -> Dataset:
    """Rows of a few bytes and of the two tokens that recipes here add."""
    generator = torch.Generator().manual_seed(1)
    alphabet = torch.tensor([3, 4, 5, 6, 259, 260])
    examples = []
    for _ in range(24):
        length = int(torch.randint(8, 30, (1,), generator=generator))
        ids = alphabet[torch.randint(0, 6, (length,), generator=generator)].tolist()
        examples.append({"input_ids": ids, "labels": [-100] * 4 + ids[4:]})
    return Dataset.from_list(examples)


@pytest.fixture(scope="module")
def tied_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with one weight for embedding and head."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("tied-model")
    config = AutoConfig.from_pretrained(tiny_model_folder, tie_word_embeddings=True)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(str(folder))
    return folder


def recipe_with(document: dict[str, Any], lora: dict[str, Any], **blocks: Any) -> Recipe:
    changed = {**document, "lora": {**document["lora"], **lora}}
    for name, block in blocks.items():
        changed[name] = {**changed[name], **block}
    return Recipe.model_validate(changed)


def loaded(recipe: Recipe) -> LoadedModel:
    quiet_libraries()
    return load_model(recipe, find_model(recipe.model.base, None, folder=Path("/")), device="cpu")


@pytest.fixture
def train(tmp_path: Path, rows: Dataset) -> Train:
    """Train by a recipe into a folder of that name."""

    def run(recipe: Recipe, name: str = "run", progress: Progress | None = None) -> Any:
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(exist_ok=True)
        known = rows if recipe.lora.trained_tokens else without_new_tokens(rows)
        progress = progress or Progress()
        return train_adapter(recipe, loaded(recipe), known, folder, progress=progress), folder

    return run


def without_new_tokens(rows: Dataset) -> Dataset:
    return rows.map(
        lambda row: {name: [min(i, 258) for i in row[name]] for name in ("input_ids", "labels")}
    )


def killed_after(step: int) -> Progress:
    class StoppingBar:
        def __enter__(self) -> Any:
            def advance(done: int, *_: Any, **__: Any) -> None:
                if done == step:
                    raise KilledError

            return advance

        def __exit__(self, *_: object) -> None:
            return None

    progress = Progress()
    progress.bar = lambda *_, **__: StoppingBar()  # type: ignore[method-assign,assignment]
    return progress


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_counted_saved_and_read_back(
    train: Train, tiny_recipe: dict[str, Any], tied_model_folder: Path, kind: str, tied: bool
) -> None:
    model = {"base": str(tied_model_folder)} if tied else {}
    recipe = recipe_with(tiny_recipe, KINDS[kind], model=model, training={"max_steps": 6})
    source = find_model(recipe.model.base, None, folder=Path("/"))
    expected = count_adapter_parameters(model_skeleton(recipe, source), recipe.lora)
    record, folder = train(recipe)
    assert record.trainable_parameters == expected
    fresh = loaded(recipe)
    ids = probe_rows(folder.probe)
    base = probe_logits(fresh.model, ids)
    adapter = probe_logits(load_adapter(fresh.model, folder.adapter), ids)
    assert check_reloaded(base, adapter, folder.probe, FLOAT32) <= 1e-5


@pytest.mark.parametrize("kind", ["tokens", "whole embedding", "pissa"])
def test_a_killed_training_ends_with_the_same_bytes(
    train: Train, tiny_recipe: dict[str, Any], kind: str
) -> None:
    recipe = recipe_with(tiny_recipe, KINDS[kind], training={"max_steps": 8})
    straight, _ = train(recipe, "straight")
    with pytest.raises(KilledError):
        train(recipe, "broken", killed_after(7))
    continued, _ = train(recipe, "broken")
    assert continued.resumed_from == (6,)
    assert continued.adapter_digest == straight.adapter_digest


def test_pissa_keeps_all_that_is_no_matrix(train: Train, tiny_recipe: dict[str, Any]) -> None:
    """PEFT's own conversion of PiSSA leaves out everything but the two matrices."""
    _, folder = train(recipe_with(tiny_recipe, KINDS["pissa"], training={"max_steps": 6}))
    tensors = load_file(str(folder.adapter / WEIGHTS))
    kept = [name for name in tensors if "lora_" not in name]
    assert [name.removeprefix("base_model.model.") for name in sorted(kept)] == [
        "lm_head.token_adapter.trainable_tokens_delta",
        "model.embed_tokens.token_adapter.trainable_tokens_delta",
        "model.norm.weight",
    ]
    config = json.loads((folder.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["rank_pattern"]) == (8, {"v_proj": 4})


def test_patterns_give_ranks_and_scales(tiny_recipe: dict[str, Any]) -> None:
    recipe = recipe_with(tiny_recipe, {**KINDS["patterns"], "variant": "lora"})
    model: Any = attach_adapter(loaded(recipe).model, recipe.lora, seed=1)
    layers = model.base_model.model.model.layers
    first, second = layers[0].self_attn, layers[1].self_attn
    assert not hasattr(first.q_proj, "lora_A") and not hasattr(layers[1].mlp.down_proj, "lora_A")
    assert (first.o_proj.r["default"], second.q_proj.r["default"]) == (2, 4)
    assert first.o_proj.scaling["default"] == 8 / 2
    assert second.q_proj.scaling["default"] == 3 / 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_whole_modules_learn_in_float32_and_are_judged_as_saved(
    train: Train, tiny_recipe: dict[str, Any], dtype: str
) -> None:
    """At this rate a bfloat16 weight would not move in one step: its spacing is 2^-8 of it."""
    lora = {"modules_to_save": ["norm", "lm_head"], "trained_tokens": TOKENS}
    recipe = recipe_with(
        tiny_recipe,
        lora,
        model={"dtype": dtype},
        training={"max_steps": 6, "learning_rate": 1e-3, "schedule": "constant"},
    )
    before = loaded(recipe).model.model.norm.weight
    record, folder = train(recipe)
    assert record.dtype == dtype
    saved = load_file(str(folder.adapter / WEIGHTS))["base_model.model.model.norm.weight"]
    assert saved.dtype == before.dtype
    assert (saved - before).abs().float().mean() > 1e-3
    fresh = loaded(recipe)
    ids = probe_rows(folder.probe)
    base = probe_logits(fresh.model, ids)
    adapter = probe_logits(load_adapter(fresh.model, folder.adapter), ids)
    assert check_reloaded(base, adapter, folder.probe, (dtype, dtype)) == 0.0


def test_a_token_that_is_in_no_row_stops_before_training(
    train: Train, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe = recipe_with(tiny_recipe, {"trained_tokens": [*TOKENS, "<|never|>"]})
    with pytest.raises(DataError, match=r"no row of the train partition has '<\|never\|>', as"):
        train(recipe)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_record_says_which_tokens_are_new(train: Train, tiny_recipe: dict[str, Any]) -> None:
    tokens = {"trained_tokens": ["!", *TOKENS], "special_tokens": TOKENS[1:]}
    record, _ = train(recipe_with(tiny_recipe, tokens, training={"max_steps": 5}))
    assert record.decisions[:3] == (
        "lora.trained_tokens: '!' is a token of the vocabulary, with id 3",
        "lora.trained_tokens: '<|query|>' is new, with id 259",
        "lora.trained_tokens: '<|result|>' is new and special, with id 260",
    )


def test_only_the_rows_of_trained_tokens_change(train: Train, tiny_recipe: dict[str, Any]) -> None:
    recipe = recipe_with(tiny_recipe, {"trained_tokens": TOKENS}, training={"max_steps": 5})
    base: Any = loaded(recipe).model
    _, folder = train(recipe)
    adapted: Any = load_adapter(loaded(recipe).model, folder.adapter).get_base_model()
    for end in ("get_input_embeddings", "get_output_embeddings"):
        before, after = getattr(base, end)().weight, getattr(adapted, end)().weight
        changed = (before != after).any(dim=1).nonzero()[:, 0].tolist()
        assert changed == [259, 260]


@pytest.mark.parametrize("name", ["embed_tokens", "lm_head"])
def test_a_tied_head_stays_the_embedding(
    tiny_recipe: dict[str, Any], tied_model_folder: Path, name: str
) -> None:
    """PEFT by itself would train a copy of the one and leave the other behind."""
    model = {"base": str(tied_model_folder)}
    recipe = recipe_with(tiny_recipe, {"modules_to_save": [name]}, model=model)
    adapted: Any = attach_adapter(loaded(recipe).model, recipe.lora, seed=1).get_base_model()
    embedding, head = adapted.get_input_embeddings(), adapted.get_output_embeddings()
    assert head.weight is embedding.weight
    assert head.weight.requires_grad


def test_a_checkpoint_holds_the_adapter_alone(
    train: Train, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    """PEFT would put whole embeddings beside it where tokens were added."""
    recipe = recipe_with(tiny_recipe, KINDS["tokens"], training={"max_steps": 8})
    with pytest.raises(KilledError):
        train(recipe, "broken", killed_after(7))
    stored = load_file(str(tmp_path / "broken" / "checkpoints" / "checkpoint-6" / WEIGHTS))
    rows = [name for name in stored if "lora_" not in name]
    assert [tuple(stored[name].shape) for name in rows] == [(2, 32), (2, 32)]


def test_the_proof_of_the_adapter_shows_every_trained_token(tiny_recipe: dict[str, Any]) -> None:
    rows = Dataset.from_dict({"input_ids": [[3, 4, 5]] * 20 + [[3] * 200 + [259], [4, 259]]})
    model = loaded(recipe_with(tiny_recipe, {"trained_tokens": TOKENS})).model
    shown = probe_of(model, rows, token_ids=(259, 260))
    ids = [shown[f"ids.{i}"].tolist() for i in range(len(shown) // 2)]
    assert ids == [[3, 4, 5]] * 4 + [[4, 259]]


def test_a_tensor_belongs_to_a_module_of_the_base_model(tiny_recipe: dict[str, Any]) -> None:
    recipe = recipe_with(tiny_recipe, KINDS["dora"])
    model = attach_adapter(loaded(recipe).model, recipe.lora, seed=1, token_ids=(259, 260))
    found = set(map(module_of, trainable_tensors(model)))
    attention = {f"model.layers.{n}.self_attn.{p}_proj" for n in (0, 1) for p in "qv"}
    assert found == {*attention, "model.norm", "model.embed_tokens", "lm_head"}
