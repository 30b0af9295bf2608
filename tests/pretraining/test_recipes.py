"""The quickstart's recipes say the same but for what their names tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.recipe_reading.recipe_file import read_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Every leaf by its path."""
    if isinstance(value, dict):
        return {k: v for name in value for k, v in flat(value[name], f"{key}.{name}").items()}
    return {key: value}


def differences(first: str, second: str) -> set[str]:
    """The paths at which two recipes differ."""
    one, other = (flat(read_recipe(RECIPES / name).model_dump()) for name in (first, second))
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_the_json_twin_is_the_same_recipe() -> None:
    assert differences("quickstart.yaml", "quickstart-json.json") == {".name", ".description"}


def test_the_quantized_twin_differs_in_the_base_s_weights_alone() -> None:
    assert differences("quickstart.yaml", "quickstart-gptq.yaml") == {
        ".name",
        ".description",
        ".quantization.method",
        ".quantization.bits",
        ".quantization.group_size",
    }


def test_the_second_recipe_differs_in_one_hyper_parameter() -> None:
    assert differences("quickstart.yaml", "quickstart-attention.yaml") == {
        ".name",
        ".description",
        ".lora.target_modules",
    }
