"""Multiple choice from rows to scores, equal to lm-evaluation-harness's on plain text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.bench import Bench
from evalsuite.errors import EvaluationError
from evalsuite.multiple_choice import (
    Choice,
    ScoredItem,
    evaluate_choices,
    read_items,
    score_items,
)
from evalsuite.records import ChoiceTask, Decoding, EvaluationSpec
from evalsuite.results import read_task
from runner.benchmarks.benchmark_data import choices_file
from tests.evalsuite.conftest import make_example
from tests.runner.benchmarks.made_benchmarks import Made, make, write_rows

ROWS = [
    {"q": "Which animal flies?", "a": "a dog", "b": "a bird", "c": "a fish, naïve", "gold": "B"},
    {"q": "What is 3 plus 4?", "a": "7", "b": "seventeen", "c": "42", "gold": "A"},
    {"q": "Who adds numbers?", "a": "nobody at all", "b": "x", "c": "the function", "gold": "C"},
    {"q": "Which is a turn?", "a": "user", "b": "assistant", "c": "7", "gold": "A"},
]
BLOCK: dict[str, Any] = {
    "name": "mc",
    "kind": "multiple_choice",
    "dataset": {"source": "mc.jsonl", "columns": {"instruction": "q", "input": None}},
    "chat": "none",
    "prompt": "Question: {{ instruction }}\nAnswer:",
    "delimiter": " ",
    "choices": {"columns": ["a", "b", "c"], "gold": "gold", "gold_is": "letter"},
}


@pytest.fixture(scope="module")
def model() -> Any:
    """Random weights, large enough that choices differ."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(1)
    config = MistralConfig(
        vocab_size=600, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
        initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def bench(made: Made, model: Any, folder: Path) -> Bench:
    spec = EvaluationSpec(
        loss=(), generation=(), samples=(), sample_decoding=Decoding(max_new_tokens=1),
        stop_token_ids=(2,), pad_token_id=3, seed=0, batch_tokens=512,
    )  # fmt: skip
    return Bench(
        model=model, tokenizer=made.tokenizer, partitions={"mc": made.data.path("mc")}, spec=spec,
        folder=folder, on_progress=None,
    )  # fmt: skip


def task(made: Made) -> ChoiceTask:
    found = made.benchmarks[0]
    path = choices_file(made.folder / "cache", found, made.data.sets["mc"])
    return ChoiceTask(name="mc", data="mc", choices=path, benchmark=found.digest)


# Both begin a token at the space before a choice. Where a tokenizer joins it to the prompt's last
# token, the harness scores fewer tokens than a model that answers the prompt would write.
@pytest.mark.parametrize("kind", ["bytes", "nfc"])
def test_log_likelihoods_are_the_harness_s_own(tmp_path: Path, model: Any, kind: str) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    write_rows(tmp_path / "mc.jsonl", ROWS)
    made = make(tmp_path, BLOCK, kind=kind)
    scene = bench(made, model, tmp_path)
    items, left_out = read_items(scene.examples("mc"), task(made).choices)
    ours = [x for item in score_items(scene, "mc", items) for x in item.log_likelihoods]
    pairs = [(f"Question: {row['q']}\nAnswer:", f" {row[key]}") for row in ROWS for key in "abc"]
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in pairs
    ]
    harness = HFLM(pretrained=model, tokenizer=made.tokenizer, batch_size=1)
    theirs = [total for total, _ in harness.loglikelihood(requests, disable_tqdm=True)]
    assert left_out == 0
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_accuracies_are_those_of_the_harness_s_task(tmp_path: Path, model: Any) -> None:
    pytest.importorskip("lm_eval")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    write_rows(tmp_path / "mc.jsonl", ROWS)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    letters = [{**row, "gold": "ABC".index(row["gold"])} for row in ROWS]
    write_rows(tasks / "rows.jsonl", letters)
    (tasks / "mc.yaml").write_text(
        f"task: mc\ndataset_path: json\ndataset_kwargs:\n  data_files: {{test: {tasks}/rows.jsonl}}"
        "\ntest_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "Question: {{q}}\\nAnswer:"\ndoc_to_choice: "{{[a, b, c]}}"\n'
        "doc_to_target: gold\nmetric_list: [{metric: acc}, {metric: acc_bytes}]\n"
    )
    made = make(tmp_path, BLOCK)
    summary = evaluate_choices(bench(made, model, tmp_path), task(made))
    results = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=made.tokenizer, batch_size=2),
        tasks=["mc"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
    )["results"]["mc"]
    assert summary["figures"]["accuracy"] == results["acc,none"]
    assert summary["figures"]["accuracy_per_byte"] == results["acc_bytes,none"]
    assert 0 < results["acc,none"] + results["acc_bytes,none"] < 2  # else nothing is compared


def test_scores_are_stored_by_item_with_what_was_chosen(tmp_path: Path, model: Any) -> None:
    from pyarrow import parquet

    write_rows(tmp_path / "mc.jsonl", ROWS)
    made = make(tmp_path, BLOCK)
    evaluate_choices(bench(made, model, tmp_path), task(made))
    stored = read_task(tmp_path / "mc.parquet")
    rows = parquet.read_table(tmp_path / "mc.parquet").to_pylist()
    assert [figure.kind for figure in stored.figures.values()] == ["binary", "binary"]
    assert stored.conditions["benchmark"] == made.benchmarks[0].digest
    assert len(set(stored.example_ids)) == len(ROWS)
    for row, given in zip(rows, ROWS, strict=True):
        likelihoods = np.array(row["log_likelihoods"])
        texts = [given[key] for key in "abc"]
        assert row["choices"] == texts
        assert row["reference"] == given[given["gold"].lower()]
        assert row["answer"] == texts[int(likelihoods.argmax())]
        assert row["accuracy"] == (row["answer"] == row["reference"])
        per_byte = likelihoods / [len(text.encode()) for text in texts]
        assert row["accuracy_per_byte"] == (texts[int(per_byte.argmax())] == row["reference"])


@pytest.mark.parametrize(
    ("texts", "likelihoods", "chosen", "per_byte"),
    [
        (("aaaa", "b"), (-4.0, -1.5), 1, 0),
        (("äöü", "abcd"), (-3.0, -2.4), 1, 0),  # 6 bytes, though 3 characters
        (("aa", "bb"), (-2.0, -2.0), 0, 0),
    ],
)
def test_likeliest_raw_and_per_byte(
    texts: tuple[str, ...], likelihoods: tuple[float, ...], chosen: int, per_byte: int
) -> None:
    example = make_example(0, [1, 5, 6, 7], 2)
    choices = tuple(
        Choice(item=0, item_id="i", gold=not place, text=text, example=example)
        for place, text in enumerate(texts)
    )
    item = ScoredItem(choices=choices, log_likelihoods=likelihoods)
    assert (item.chosen, item.chosen_per_byte, item.gold) == (chosen, per_byte, 0)


def test_the_stop_token_does_not_count(tmp_path: Path, model: Any) -> None:
    """Recomputed here from the model's own logits: the choice's tokens alone."""
    import torch

    write_rows(tmp_path / "mc.jsonl", ROWS[:1])
    made = make(tmp_path, BLOCK)
    scene = bench(made, model, tmp_path)
    items, _ = read_items(scene.examples("mc"), task(made).choices)
    (scored,) = score_items(scene, "mc", items)
    for choice, found in zip(scored.choices, scored.log_likelihoods, strict=True):
        prompt = choice.example.prompt_ids
        answer = choice.example.input_ids[len(prompt) : -1]
        assert choice.example.input_ids[-1] == 2
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
        wanted = sum(logits[len(prompt) - 1 + at, token] for at, token in enumerate(answer))
        assert found == pytest.approx(float(wanted), rel=1e-5)


def test_a_question_without_one_of_its_choices_is_left_out(tmp_path: Path, model: Any) -> None:
    long = {**ROWS[0], "c": "very " * 100}
    write_rows(tmp_path / "mc.jsonl", [long, *ROWS[1:]])
    made = make(tmp_path, {**BLOCK, "max_length": 80, "too_long": "drop"})
    summary = evaluate_choices(bench(made, model, tmp_path), task(made))
    assert (summary["examples"], summary["left_out"]) == (len(ROWS) - 1, 1)
    with pytest.raises(EvaluationError, match="no question has all its choices"):
        read_items([], task(made).choices)


def test_two_benchmarks_that_differ_in_what_is_right_do_not_share_their_choices(
    tmp_path: Path,
) -> None:
    write_rows(tmp_path / "mc.jsonl", [{**row, "other": "B"} for row in ROWS])
    other = {**BLOCK, "choices": {**BLOCK["choices"], "gold": "other"}}
    first, second = make(tmp_path, BLOCK), make(tmp_path, other)
    assert first.data.sets["mc"].key == second.data.sets["mc"].key
    assert task(first).choices != task(second).choices


@pytest.mark.parametrize(
    ("choices", "row", "gold"),
    [
        ({"column": "c", "gold": "g"}, {"c": ["x", "y"], "g": 1}, 1),
        ({"column": "c", "gold": "g", "first_index": 1}, {"c": ["x", "y"], "g": "1"}, 0),
        ({"column": "c", "gold": "g", "gold_is": "text"}, {"c": ["x", "y"], "g": "y"}, 1),
        ({"texts": ["no", "yes"], "gold": "g", "gold_is": "letter"}, {"g": " b"}, 1),
    ],
)
def test_where_choices_and_the_right_one_stand(
    tmp_path: Path, choices: dict[str, Any], row: dict[str, Any], gold: int
) -> None:
    from pyarrow import parquet

    write_rows(tmp_path / "mc.jsonl", [{"q": "Which?", **row}])
    made = make(tmp_path, {**BLOCK, "choices": choices})
    table = parquet.read_table(task(made).choices).to_pylist()
    assert [place for place, one in enumerate(table) if one["gold"]] == [gold]


@pytest.mark.parametrize(
    ("choices", "row", "told"),
    [
        ({"column": "c", "gold": "g"}, {"c": ["x", "y"], "g": 2}, "holds 2, which is no index"),
        (
            {"column": "c", "gold": "g"},
            {"c": ["x", "y"], "g": True},
            "holds True, which is no index",
        ),
        (
            {"column": "c", "gold": "g", "gold_is": "letter"},
            {"c": ["x", "y"], "g": "C"},
            "no letter",
        ),
        ({"column": "c", "gold": "g"}, {"c": ["x"], "g": 0}, "has 1 choices"),
        ({"column": "c", "gold": "g"}, {"c": ["x", 3], "g": 0}, "choice 1 is a number, not a text"),
        ({"column": "c", "gold": "g"}, {"c": "x", "g": 0}, "holds a text, not a list of choices"),
    ],
)
def test_rows_without_a_right_choice_are_refused(
    tmp_path: Path, choices: dict[str, Any], row: dict[str, Any], told: str
) -> None:
    from runner.errors import DataError

    write_rows(tmp_path / "mc.jsonl", [{"q": "Which?", **row}])
    with pytest.raises(DataError, match=r"benchmark mc: .*mc\.jsonl:1") as raised:
        make(tmp_path, {**BLOCK, "choices": choices})
    assert told in str(raised.value)


def test_the_prompt_may_list_the_choices(tmp_path: Path) -> None:
    write_rows(tmp_path / "mc.jsonl", [{"q": "Which?", "c": ["x", "y"], "g": 0}])
    prompt = "{{ q }}{% for one in c %}\n{{ 'AB'[loop.index0] }}. {{ one }}{% endfor %}\nAnswer:"
    choices = {"texts": ["A", "B"], "gold": "g"}
    made = make(tmp_path, {**BLOCK, "prompt": prompt, "choices": {**choices, "column": None}})
    assert json.dumps(made.prompts("mc")[0]) == json.dumps("Which?\nA. x\nB. y\nAnswer:")
