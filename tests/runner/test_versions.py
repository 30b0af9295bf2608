"""Which code and packages a result depends on."""

from __future__ import annotations

from importlib.metadata import requires
from pathlib import Path

import pytest

from runner.versions import MEASURING, TRACKED, code_digest, installed_versions

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "module",
    [
        "evalsuite/metrics/rouge.py",
        "runner/base_model/loaded_model.py",
        "runner/commands/evaluate_subject.py",
        "runner/commands/metric_specs.py",
        "runner/commands/answering_engine.py",
        "runner/target_model.py",
        "runner/training/lora.py",
    ],
)
def test_what_decides_how_a_recipe_is_measured_is_in_the_digest(module: str) -> None:
    """Else a stored evaluation of the base would answer for what other code measures."""
    assert (ROOT / module).is_file()
    assert any(module == place or module.startswith(f"{place}/") for place in MEASURING)
    assert len(code_digest(MEASURING)) == 64


@pytest.mark.parametrize("library", ["rouge-score", "nltk", "sacrebleu", "jsonschema", "evaluate"])
def test_the_libraries_of_the_metrics_are_recorded(library: str) -> None:
    assert library in TRACKED
    assert library in installed_versions()


def test_the_stemmer_of_rouge_is_that_of_nltk() -> None:
    assert any(need.startswith("nltk") for need in requires("rouge-score") or [])
