"""Tokens that a recipe trains: in the vocabulary of base and adapter alike, with the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from runner.base_model.loaded_model import (
    LoadedModel,
    load_model,
    load_tokenizer,
    model_skeleton,
    quiet_libraries,
)
from runner.base_model.model_source import find_model
from runner.base_model.trained_tokens import add_tokens, make_room, needed_rows, token_ids
from runner.data.labels.special_tokens import special_tokens
from runner.data.preparation import partition_dataset
from runner.errors import DataError, MachineError, UsageError
from runner.plan import make_plan
from runner.progress import Progress
from runner.recipe import Recipe
from runner.stages import inputs_of, prepared

TOKENS = ("<|query|>", "!", "two words")


def recipe_of(document: dict[str, Any], *tokens: str) -> Recipe:
    return Recipe.model_validate({**document, "lora": {"trained_tokens": tokens}})


def load(recipe: Recipe) -> LoadedModel:
    quiet_libraries()
    return load_model(recipe, find_model(recipe.model.base, None, folder=Path("/")), device="cpu")


def test_new_tokens_are_whole_and_ordinary(tiny_recipe: dict[str, Any]) -> None:
    recipe = recipe_of(tiny_recipe, *TOKENS)
    tokenizer = load_tokenizer(recipe, find_model(recipe.model.base, None, folder=Path("/")))
    assert token_ids(tokenizer, TOKENS) == [259, 3, 260]
    text = "a<|query|>b two words!"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [i for i in ids if i > 258] == [259, 260]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_special_tokens_are_the_templates_alone(tiny_recipe: dict[str, Any]) -> None:
    lora = {"trained_tokens": TOKENS, "special_tokens": TOKENS[:1]}
    recipe = Recipe.model_validate({**tiny_recipe, "lora": lora})
    source = find_model(recipe.model.base, None, folder=Path("/"))
    tokenizer = load_tokenizer(recipe, source)
    assert token_ids(tokenizer, TOKENS) == [259, 3, 260]
    assert list(special_tokens(tokenizer)) == ["<unk>", "<s>", "</s>", "<|query|>"]
    ids = tokenizer("a<|query|>b two words", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab two words"
    wrong = Recipe.model_validate({**tiny_recipe, "lora": {**lora, "special_tokens": ["!"]}})
    with pytest.raises(UsageError, match="'!' is an ordinary token of the vocabulary"):
        load_tokenizer(wrong, source)


def test_every_load_gives_the_same_new_rows(tiny_recipe: dict[str, Any]) -> None:
    plain = load(recipe_of(tiny_recipe)).model
    torch.manual_seed(1)
    first: Any = load(recipe_of(tiny_recipe, *TOKENS)).model
    torch.manual_seed(2)
    second: Any = load(recipe_of(tiny_recipe, *TOKENS)).model
    for end in ("get_input_embeddings", "get_output_embeddings"):
        before: torch.Tensor = getattr(plain, end)().weight
        after: torch.Tensor = getattr(first, end)().weight
        assert after.shape == (261, 32)
        assert torch.equal(after, getattr(second, end)().weight)
        assert torch.equal(after[:259], before)
        assert torch.allclose(after[259:], before.mean(0).expand(2, -1), atol=1e-7)
    assert first.config.vocab_size == 261
    assert first.lm_head.out_features == 261


def test_a_skeleton_has_the_new_rows_too(tiny_recipe: dict[str, Any]) -> None:
    recipe = recipe_of(tiny_recipe, *TOKENS)
    skeleton: Any = model_skeleton(recipe, find_model(recipe.model.base, None, folder=Path("/")))
    assert skeleton.model.embed_tokens.weight.shape == (261, 32)
    assert skeleton.lm_head.weight.shape == (261, 32)


def test_spare_rows_are_used_first(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    """Many checkpoints embed more than their tokenizer has: their rows stay what they are."""
    plain = load(recipe_of(tiny_recipe))
    plain.model.resize_token_embeddings(272)
    plain.model.save_pretrained(str(tmp_path / "roomy"))
    plain.tokenizer.save_pretrained(str(tmp_path / "roomy"))
    roomy = {**tiny_recipe, "model": {"base": str(tmp_path / "roomy")}}
    loaded: Any = load(recipe_of(roomy, *TOKENS)).model
    assert torch.equal(loaded.lm_head.weight, plain.model.get_output_embeddings().weight)


def test_a_tokenizer_of_another_model_is_still_refused(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    plain = load(recipe_of(tiny_recipe))
    plain.model.save_pretrained(str(tmp_path / "wrong"))
    plain.tokenizer.add_tokens(["<|other|>"])
    plain.tokenizer.save_pretrained(str(tmp_path / "wrong"))
    wrong = {**tiny_recipe, "model": {"base": str(tmp_path / "wrong")}}
    with pytest.raises(MachineError, match="has 262 tokens but the model embeds 259"):
        load(recipe_of(wrong, *TOKENS))
    with pytest.raises(MachineError, match="has 260 tokens but the model embeds 259"):
        load(recipe_of(wrong))
    assert load(recipe_of(wrong, "<|other|>")).model.config.vocab_size == 260


def test_data_and_base_are_prepared_with_the_new_tokens(
    tiny_recipe: dict[str, Any], write_recipe: Any, tmp_path: Path
) -> None:
    """A base model with more tokens is another one: its evaluation is not taken from the cache."""
    inputs = []
    for tokens in ((), ("return",)):
        tiny_recipe["lora"]["trained_tokens"] = tokens
        plan = make_plan(write_recipe(tiny_recipe), runs=tmp_path / "runs")
        data = prepared(plan, Progress())
        inputs.append(inputs_of(plan, data, "base"))
        ids = {i for row in partition_dataset(data, "train")["input_ids"] for i in row}
        assert (259 in ids) == bool(tokens)
    assert inputs[0] != inputs[1]
    tiny_recipe["lora"]["trained_tokens"] = ["return", "<|never|>"]
    plan = make_plan(write_recipe(tiny_recipe), runs=tmp_path / "runs")
    with pytest.raises(DataError, match=r"no row of the train partition has '<\|never\|>'"):
        prepared(plan, Progress())


def test_a_token_alone_makes_the_base_another_one(
    tiny_recipe: dict[str, Any], write_recipe: Any, tmp_path: Path
) -> None:
    """Also where the evaluated rows do not hold it: it takes part in every probability."""
    plan = make_plan(write_recipe(tiny_recipe), runs=tmp_path / "runs")
    data = prepared(plan, Progress())
    tiny_recipe["lora"]["trained_tokens"] = ["<|new|>"]
    other = make_plan(write_recipe(tiny_recipe), runs=tmp_path / "runs")
    assert inputs_of(plan, data, "base") != inputs_of(other, data, "base")


def test_rows_are_needed_for_trained_tokens_alone(tiny_recipe: dict[str, Any]) -> None:
    tokenizer = load(recipe_of(tiny_recipe)).tokenizer
    assert needed_rows(tokenizer, TOKENS[1:2], 259) == 259
    add_tokens(tokenizer, TOKENS)
    assert needed_rows(tokenizer, TOKENS, 259) == 261
    assert needed_rows(tokenizer, TOKENS, 300) == 300
    assert needed_rows(tokenizer, TOKENS[:1], 259) == 259


def test_a_head_with_a_bias_gets_no_more_rows(tiny_recipe: dict[str, Any]) -> None:
    loaded = load(recipe_of(tiny_recipe))
    head: Any = loaded.model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(259))
    add_tokens(loaded.tokenizer, TOKENS)
    with pytest.raises(UsageError, match="output head has a bias or is quantized"):
        make_room(loaded.model, loaded.tokenizer, TOKENS)
