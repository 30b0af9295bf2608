"""The model card: metadata that parses, the right numbers, and whose they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_run import TASK

from evalsuite.record_files import read_evidence
from reports.errors import ReportError
from reports.model_card import escaped, model_card

MakeRun = Callable[..., Path]


def split(card: str) -> tuple[dict[str, Any], str]:
    start, front, body = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front), body


@pytest.fixture(scope="module")
def final_folder(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("final") / "run"
    shutil.copytree(make_run(), folder)
    training = json.loads((folder / "training.json").read_text())
    (folder / "final").mkdir()
    (folder / "final" / "training.json").write_text(
        json.dumps(training | {"adapter_digest": "9" * 64, "steps": 357})
    )
    return folder


def test_front_matter(run_folder: Path) -> None:
    metadata, _ = split(model_card(run_folder, final=False))
    assert "base_model" not in metadata  # a folder: not the Hub's quickstart/model
    assert metadata["library_name"] == "peft"
    assert metadata["pipeline_tag"] == "text-generation"
    assert {"lora", "proofbox"} <= set(metadata["tags"])
    assert "datasets" not in metadata


def test_model_index_holds_the_adapters_own_figures(run_folder: Path) -> None:
    metadata, _ = split(model_card(run_folder, final=False))
    (entry,) = metadata["model-index"]
    evidence = read_evidence(run_folder / "evidence.json")
    listed = {
        (result["dataset"]["name"].rpartition("(")[2].rstrip(")"), m["type"]): m
        for result in entry["results"]
        for m in result["metrics"]
    }
    measured = [m for m in evidence.measurements if m.subject == "adapter"]
    assert len(listed) == len(measured)
    for m in measured:
        group, _, figure = m.metric.rpartition(".")
        assert listed[group, figure]["value"] == m.value
        assert listed[group, figure]["args"]["interval_95"] == [m.low, m.high]


def test_huggingface_hub_reads_every_figure_with_its_interval(run_folder: Path) -> None:
    from huggingface_hub import ModelCard

    card = model_card(run_folder, final=False)
    read = ModelCard(card)  # raises where the metadata is invalid
    results = read.data.eval_results
    evidence = read_evidence(run_folder / "evidence.json")
    measured = {m.metric: m for m in evidence.measurements if m.subject == "adapter"}
    assert results is not None
    assert {f"{r.dataset_config}.{r.metric_type}" for r in results} == set(measured)
    for result in results:
        m = measured[f"{result.dataset_config}.{result.metric_type}"]
        assert result.metric_value == m.value
        assert result.metric_args["interval_95"] == [m.low, m.high]
    # As the library writes it again, no group has been taken for another.
    written, _ = split(f"---\n{read.data.to_yaml()}\n---\n")
    groups = [r["dataset"]["config"] for r in written["model-index"][0]["results"]]
    assert len(groups) == len(set(groups)) == len({m.rpartition(".")[0] for m in measured})


def test_hub_data_and_revisions_are_named(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recipe = {"dataset": {"source": "iamtarun/python_code_instructions_18k_alpaca"}}
    shutil.copytree(make_run(recipe=recipe), folder)
    lock = json.loads((folder / "lock.json").read_text())
    lock["data"]["revision"] = "abc123"
    lock["model"] |= {"name": "mistralai/Mistral-7B-Instruct-v0.2", "revision": "def456"}
    (folder / "lock.json").write_text(json.dumps(lock))
    metadata, body = split(model_card(folder, final=False))
    assert metadata["datasets"] == ["iamtarun/python_code_instructions_18k_alpaca"]
    assert metadata["base_model"] == "mistralai/Mistral-7B-Instruct-v0.2"
    assert metadata["base_model_relation"] == "adapter"
    assert '("mistralai/Mistral-7B-Instruct-v0.2", revision="def456")' in body
    assert "local folder" not in body


def test_room_is_made_for_trained_tokens(make_run: MakeRun, run_folder: Path) -> None:
    """peft cannot put rows where the base model has none."""
    recipe = {"lora": {"trained_tokens": ["<|query|>"]}}
    _, body = split(model_card(make_run(recipe=recipe), final=False))
    assert "    base.resize_token_embeddings(rows)\nmodel = PeftModel" in body
    assert "resize_token_embeddings" not in split(model_card(run_folder, final=False))[1]


def test_base_model_by_absolute_path_is_named_without_it(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(make_run(), folder)
    lock = json.loads((folder / "lock.json").read_text())
    lock["model"]["name"] = "/home/alice/models/tiny"
    (folder / "lock.json").write_text(json.dumps(lock))
    card = model_card(folder, final=False)
    assert "A LoRA adapter for `tiny`" in card
    assert "alice" not in card


def test_body_tells_verdict_gates_intervals_data_and_loading(run_folder: Path) -> None:
    _, body = split(model_card(run_folder, final=False))
    assert "**Verdict: PASS (RELEASE).** All 3 gates pass." in body
    assert f"| PASS | `{TASK}.tests_passed floor at 0.5` |" in body
    assert "Brackets are 95% intervals" in body
    assert "PeftModel.from_pretrained(base" in body
    assert "train: 2,520 examples" in body
    assert "- 2 rows left out (unusable\\_row 1, too\\_long 1)." in body
    assert "Only the train partition was trained on" in body
    assert "| `lora.r` | 16 |" in body
    assert "Final fit" not in body


def test_code_of_the_card_is_python(run_folder: Path) -> None:
    _, body = split(model_card(run_folder, final=False))
    compile(body.partition("```python\n")[2].partition("```")[0], "card", "exec")


def test_final_card_claims_no_figure_as_its_own(final_folder: Path) -> None:
    metadata, body = split(model_card(final_folder, final=True))
    assert "model-index" not in metadata
    text = " ".join(body.replace("\n> ", " ").split())
    assert "refitted with the same hyper-parameters on train + validation + test" in text
    assert "this adapter itself was not evaluated" in text
    assert "belong to the gated run `4be1c07a92d3` it came from" in text
    assert "not to this adapter" in text
    assert f"Adapter digest `{'9' * 64}`" in text
    assert "357 optimizer steps" in text
    assert "Gated adapter" in text
    assert "Only the train partition was trained on" not in text


def test_final_card_needs_a_final_fit(run_folder: Path) -> None:
    with pytest.raises(ReportError, match="this file is missing"):
        model_card(run_folder, final=True)


def test_same_records_give_the_same_card(run_folder: Path) -> None:
    card = model_card(run_folder, final=False)
    assert card == model_card(run_folder, final=False)
    assert "alice" not in card
    assert str(run_folder.parent.parent) not in card


def test_hostile_description_is_inert(make_run: MakeRun) -> None:
    hostile = "# Title\n---\n<script>alert(1)</script> | [x](http://y) `code`"
    _, body = split(model_card(make_run(recipe={"description": hostile}), final=False))
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert "\n# Title" not in body


def test_escaped() -> None:
    assert escaped("a|b_c\n*d*") == "a\\|b\\_c \\*d\\*"


@pytest.mark.parametrize("final", [False, True])
def test_tables_have_as_many_cells_as_columns(final_folder: Path, final: bool) -> None:
    lines = model_card(final_folder, final=final).splitlines()
    widths = {}
    for before, line in pairwise(lines):
        if line.startswith("|"):
            cells = line.replace("\\|", "").count("|")
            if before.startswith("|"):
                assert cells == widths["now"], line
            widths["now"] = cells


def test_a_base_that_the_run_quantized_is_named_with_its_digest_and_how_to_make_it(
    run_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    lock = json.loads((folder / "lock.json").read_text())
    quantized = {
        "digest": "7" * 64, "quantization": {"method": "gptq", "bits": 4}, "examples": 128,
        "tokens": 14496, "calibration_digest": "8" * 64, "versions": {"gptqmodel": "7.6.0"},
    }  # fmt: skip
    (folder / "lock.json").write_text(json.dumps({**lock, "quantized": quantized}))
    _, body = split(model_card(folder, final=False))
    assert "made by: proofbox quantize recipe.yaml --out base-gptq" in body
    assert 'from_pretrained("base-gptq")' in body
    assert f"(digest `{lock['model']['digest']}`), quantized by the recipe to 4 bits" in body
    assert f"gptqmodel 7.6.0): digest `{'7' * 64}`" in body
    _, plain = split(model_card(run_folder, final=False))
    assert "quantize" not in plain
