"""lm-eval's tasks on local data, offline: our numbers are its own, item by item."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite import lm_eval_tasks
from evalsuite.bench import Bench
from evalsuite.errors import EvaluationError
from evalsuite.lm_eval_tasks import evaluate_lm_eval
from evalsuite.records import Decoding, EvaluationSpec, LmEvalTasks
from evalsuite.results import read_task

ROWS = [
    {"question": f"Add {n} and {n + 1}.", "answer": str(2 * n + 1), "choices": [str(n), "7", "x"],
     "gold": n % 3} for n in range(8)
]  # fmt: skip
HEAD = (
    "dataset_path: json\ndataset_kwargs:\n  data_files: {test: rows.jsonl, train: shots.jsonl}\n"
    "test_split: test\nfewshot_split: train\ntraining_split: train\n"
    'doc_to_text: "Question: {{question}}\\nAnswer:"\n'
)
TASKS = {
    "choose": "output_type: multiple_choice\ndoc_to_choice: choices\ndoc_to_target: gold\n"
    "metric_list: [{metric: acc}, {metric: acc_norm}, {metric: mcc}]\nmetadata: {version: 3}\n",
    "write": "output_type: generate_until\ndoc_to_target: answer\n"
    'generation_kwargs: {until: ["\\n"], max_gen_toks: 6, do_sample: false}\n'
    "metric_list:\n  - metric: exact_match\n    regexes_to_ignore: [x]\n    ignore_case: true\n"
    "filter_list:\n  - name: strict\n    filter:\n      - {function: take_first}\n"
    "  - name: digits\n    filter:\n"
    '      - {function: regex, regex_pattern: "([0-9]+)"}\n      - {function: take_first}\n',
    "likely": "output_type: loglikelihood\ndoc_to_target: ' {{answer}}'\n"
    "metric_list: [{metric: perplexity}, {metric: acc}]\n",
    "coded": "output_type: generate_until\ndoc_to_target: answer\n"
    "generation_kwargs: {max_gen_toks: 4, do_sample: false}\n"
    "process_results: !function scoring.length\n"
    "metric_list: [{metric: length, aggregation: mean, higher_is_better: false}]\n",
    "whole": "output_type: multiple_choice\ndoc_to_choice: choices\ndoc_to_target: gold\n"
    "metric_list: [{metric: mcc}]\n",
}


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(tiny_model_folder)).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of tasks with their data, as a recipe's ``include_path``."""
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name, rows in (("rows", ROWS), ("shots", ROWS[:2] + ROWS[4:])):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tasks / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    for name, text in TASKS.items():
        (tasks / f"{name}.yaml").write_text(f"task: {name}\n{HEAD}{text}", encoding="utf-8")
    (tasks / "scoring.py").write_text(
        "def length(doc, results):\n    return {'length': len(results[0]) / 8}\n", encoding="utf-8"
    )
    return tasks


@pytest.fixture
def bench(model: Any, tiny_model_folder: Path, tmp_path: Path) -> Bench:
    from transformers import AutoTokenizer

    spec = EvaluationSpec(
        loss=(), generation=(), samples=(), sample_decoding=Decoding(max_new_tokens=1),
        stop_token_ids=(2,), pad_token_id=0, seed=0, batch_tokens=512,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_model_folder))
    out = tmp_path / "out"
    out.mkdir()
    return Bench(
        model=model, tokenizer=tokenizer, partitions={}, spec=spec, folder=out, on_progress=None
    )


def harness(bench: Bench, folder: Path, names: list[str], **arguments: Any) -> dict[str, Any]:
    """The harness run by itself, as its own documentation shows."""
    import contextlib

    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with contextlib.chdir(folder):
        results: dict[str, Any] = simple_evaluate(
            model=HFLM(pretrained=bench.model, tokenizer=bench.tokenizer, batch_size=1),
            tasks=names,
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            **arguments,
        )
    return results


def test_our_numbers_are_the_harness_s_own(bench: Bench, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    names = ["choose", "write", "likely", "coded"]
    block = LmEvalTasks(tasks=tuple(names), include_path=folder, num_fewshot=2, batch_size=4)
    summary = evaluate_lm_eval(bench, block)["tasks"]
    own = harness(bench, folder, names, num_fewshot=2, bootstrap_iters=0)
    for name in names:
        stored = read_task(bench.folder / f"{name}.parquet")
        assert len(stored.example_ids) == len(ROWS)
        assert summary[name]["figures"].keys() == stored.figures.keys()
        for figure, scores in stored.scores.items():
            metric, _, filtered = figure.partition("-")
            wanted = own["results"][name][f"{metric},{filtered or 'none'}"]
            assert scores.mean() == pytest.approx(wanted, abs=1e-12), figure
        for key, value in summary[name]["lm_eval"].items():
            assert own["results"][name][key] == pytest.approx(value, rel=1e-6), key
    kinds = {n: read_task(bench.folder / f"{n}.parquet").figures for n in names}
    assert {f: v.kind for f, v in kinds["write"].items()} == {
        "exact_match-strict": "binary", "exact_match-digits": "binary"
    }  # fmt: skip
    assert set(kinds["choose"]) == {"acc", "acc_norm"}  # the correlation is of all items
    assert set(kinds["likely"]) == {"acc"}
    assert (kinds["coded"]["length"].kind, kinds["coded"]["length"].higher_is_better) == (
        "mean", False
    )  # fmt: skip


def test_intervals_and_pairs_come_from_the_items(bench: Bench, folder: Path) -> None:
    """One row of the harness's accuracy is an item of ours: its standard error agrees."""
    pytest.importorskip("lm_eval")
    from evalsuite.observations import observations
    from evalsuite.stored_results import StoredResults

    evaluate_lm_eval(bench, LmEvalTasks(tasks=("coded",), include_path=folder))
    own = harness(bench, folder, ["coded"])["results"]["coded"]
    scored = read_task(bench.folder / "coded.parquet")
    (seen,) = observations(StoredResults(losses={}, tasks={"coded": scored}))
    error = np.std(seen.values, ddof=1) / np.sqrt(len(seen.values))
    assert seen.metric == "coded.length"
    assert error == pytest.approx(own["length_stderr,none"])


def test_conditions_tell_other_prompts_apart(bench: Bench, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    block = LmEvalTasks(tasks=("choose",), include_path=folder)

    def conditions(changed: LmEvalTasks) -> dict[str, Any]:
        evaluate_lm_eval(bench, changed)
        return dict(read_task(bench.folder / "choose.parquet").conditions)

    first = conditions(block)
    assert first["task_version"] == 3
    assert conditions(replace(block, batch_size=3)) == first
    assert conditions(replace(block, num_fewshot=1))["task_hash"] != first["task_hash"]
    assert conditions(replace(block, limit=3)) != first
    path = folder / "rows.jsonl"
    path.write_text(path.read_text().replace("Add 3", "Sum 3"), encoding="utf-8")
    assert conditions(block)["task_hash"] != first["task_hash"]
    task = folder / "choose.yaml"
    task.write_text(task.read_text().replace("acc_norm", "acc_bytes"), encoding="utf-8")
    assert conditions(block)["config_digest"] != first["config_digest"]


def test_prompts_are_rendered_by_the_recipe_s_chat_template(bench: Bench, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    from pyarrow import parquet

    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    block = LmEvalTasks(
        tasks=("choose",), include_path=folder, apply_chat_template=True, chat_template=template,
        system="Be brief.",
    )  # fmt: skip
    before = bench.tokenizer.chat_template
    evaluate_lm_eval(bench, block)
    table = parquet.read_table(bench.folder / "choose.parquet")
    assert table["prompt"][0].as_py() == "<system>Be brief.<user>Question: Add 0 and 1.\nAnswer:"
    assert table["question"][0].as_py() == "Question: Add 0 and 1.\nAnswer:"
    assert bench.tokenizer.chat_template == before


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        (("chose",), r"no task 'chose'.*Did you mean choose"),
        (("whole",), "none of its metrics scores single items"),
        (("broken",), "lm-eval task broken: "),
        (("elsewhere",), "lies outside of evaluation.lm_eval.include_path"),
    ],
)
def test_what_cannot_be_run_is_told(
    bench: Bench, folder: Path, tasks: tuple[str, ...], told: str
) -> None:
    pytest.importorskip("lm_eval")
    head = f"{HEAD}{TASKS['choose']}"
    broken = head.replace("rows.jsonl", "missing.jsonl")
    (folder / "broken.yaml").write_text(f"task: broken\n{broken}", encoding="utf-8")
    (folder.parent / "far.jsonl").write_bytes((folder / "rows.jsonl").read_bytes())
    far = head.replace("rows.jsonl", "../far.jsonl")
    (folder / "elsewhere.yaml").write_text(f"task: elsewhere\n{far}", encoding="utf-8")
    with pytest.raises(EvaluationError, match=told):
        evaluate_lm_eval(bench, LmEvalTasks(tasks=tasks, include_path=folder))


def test_without_the_extra_it_says_what_to_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval_tasks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EvaluationError, match=r"pip install 'proofbox\[lm-eval\]'"):
        evaluate_lm_eval(bench, LmEvalTasks(tasks=("arc_easy",)))
