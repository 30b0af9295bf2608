"""From rows to files: what is made, what is left out, and what a user is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.data.labels.label_contract import RULES, TEXTS
from runner.data.leaks.leak_report import LEAKED_FILE, PAIRS_FILE
from runner.data.preparation import prepare_data, processes_of, prompt_token_ids
from runner.data.prepared_data import PROBLEMS_FILE, prepared_data_from_json
from runner.data.reading import row_store
from runner.data.reading.sources import resolve_source
from runner.errors import DataError
from tests.runner.data.preparing import (
    POSITION,
    members,
    message_of,
    outcome,
    prepare,
    problems,
    rows,
    table,
    write,
)
from tests.runner.tiny_data import make_recipe, make_tokenizer

COLUMNS = {
    "example_id": "string",
    "row": "int64",
    "input_ids": "list<element: int32>",
    "labels": "list<element: int32>",
    "prompt_ids": "list<element: int32>",
    "prompt": "string",
    "answer": "string",
    "supervised_bytes": "int64",
    "tests": "string",
    "slice": "string",
    "cluster": "string",
    "question": "string",
}
PREVIEW = "`proofbox preview RECIPE --violations` shows"


def with_violations(**policies: str) -> Any:
    return make_recipe(dataset={**POSITION, "violations": policies})


# What is made


def test_a_partition_has_the_columns_that_the_eval_suite_reads(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    recipe = make_recipe(
        dataset={**POSITION, "columns": {"tests": "tests"}}, template={"system": "Be short."}
    )
    data = prepare(tmp_path, recipe, tokenizer=make_tokenizer("chatml"))
    test = table(data, "test")
    assert {field.name: str(field.type) for field in test.schema} == COLUMNS
    first = test.to_pylist()[0]
    assert first["row"] == 45
    assert first["prompt"] == (
        "<|im_start|>system\nBe short.<|im_end|>\n"
        "<|im_start|>user\nAdd 45 to x.\n\nx = 45<|im_end|>\n<|im_start|>assistant\n"
    )
    assert first["question"] == "Add 45 to x.\n\nx = 45"
    assert first["answer"] == "def f(x):\n    return x + 45"
    assert first["tests"] == "assert f(1) == 46"
    assert first["supervised_bytes"] == len("def f(x):\n    return x + 45<|im_end|>")
    assert first["input_ids"][: len(first["prompt_ids"])] == first["prompt_ids"]
    supervised = [label for label in first["labels"] if label >= 0]
    assert make_tokenizer("chatml").decode(supervised) == first["answer"] + "<|im_end|>"


def test_without_tests_the_column_is_empty(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    assert set(table(prepare(tmp_path), "train")["tests"].to_pylist()) == {""}


@pytest.mark.parametrize("value", [None, 3, "left out"])
def test_a_row_without_tests_is_a_fault_where_they_are_asked_for(
    tmp_path: Path, value: object
) -> None:
    data = rows(50)
    if value == "left out":
        del data[9]["tests"]
    else:
        data[9]["tests"] = value
    write(tmp_path, data)
    message = message_of(tmp_path, make_recipe(dataset={"columns": {"tests": "tests"}}))
    assert "'tests'" in message
    assert "rows.jsonl:10" in message


def test_tests_may_lie_beside_plain_text(tmp_path: Path) -> None:
    write(tmp_path, [{"text": f"x = {n}\n", "check": f"assert x == {n}"} for n in range(50)])
    recipe = make_recipe(
        dataset={**POSITION, "format": "text", "columns": {"tests": "check"}},
        template={"chat": "none", "loss_on": "all"},
    )
    data = prepare(tmp_path, recipe)
    assert table(data, "test")["tests"].to_pylist()[0] == "assert x == 45"


def test_the_eval_suite_can_read_a_partition(tmp_path: Path) -> None:
    from evalsuite.examples import read_examples

    write(tmp_path, rows(50))
    data = prepare(tmp_path, make_recipe(dataset=POSITION))
    examples = read_examples(data.path("validation"))
    assert [example.row for example in examples] == [40, 41, 42, 43, 44]


def test_counts_are_those_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, rows(200))
    data = prepare(tmp_path, make_recipe(dataset={"partition": {"by": "random"}}))
    assert data.source_rows == data.rows_kept == 200
    assert data.dropped == data.truncated == 0
    assert {name: part.rows for name, part in data.partitions.items()} == {
        "train": 160,
        "validation": 20,
        "test": 20,
    }
    shares = []
    for name, part in data.partitions.items():
        examples = table(data, name).to_pylist()
        assert part.tokens == sum(len(row["input_ids"]) for row in examples)
        assert part.supervised_tokens == sum(x >= 0 for row in examples for x in row["labels"])
        assert part.longest == max(len(row["input_ids"]) for row in examples)
        assert sum(part.lengths.counts) == part.rows
        assert len(part.lengths.edges) == len(part.lengths.counts) + 1
        shares += [sum(x >= 0 for x in r["labels"]) / len(r["labels"]) for r in examples]
    for low, high, count in zip(
        data.shares.edges, data.shares.edges[1:], data.shares.counts, strict=False
    ):
        assert count == sum(low / 100 <= share < high / 100 for share in shares)


def test_every_rule_was_checked_on_every_row(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    data = prepare(tmp_path)
    assert {o.rule for o in data.rules} == {*RULES, *TEXTS, "too_long"}
    assert {(o.violations, o.dropped, o.rows_checked) for o in data.rules} == {(0, 0, 50)}
    assert {o.first_rows for o in data.rules} == {()}
    assert problems(data) == []


def test_the_listings_lie_beside_the_partitions(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    data = prepare(tmp_path)
    assert {path.name for path in Path(data.folder).iterdir()} == {
        "prepared.json",
        PROBLEMS_FILE,
        PAIRS_FILE,
        LEAKED_FILE,
        *(f"{name}.parquet" for name in ("train", "validation", "test")),
    }


def test_the_test_partition_shares_no_row_with_the_trainers(tmp_path: Path) -> None:
    write(tmp_path, rows(300))
    found = {name: set(numbers) for name, numbers in members(prepare(tmp_path)).items()}
    assert not found["test"] & (found["train"] | found["validation"])
    assert set.union(*found.values()) == set(range(300))


def test_identical_rows_have_ids_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, [*rows(20), *rows(20), *rows(20)])
    data = prepare(tmp_path)
    ids = [i for name in data.partitions for i in table(data, name)["example_id"].to_pylist()]
    assert len(set(ids)) == len(ids) == 60
    assert len({i.split("-")[0] for i in ids}) == 20


def test_an_id_is_that_of_what_the_row_says(tmp_path: Path) -> None:
    """Whatever its place, its columns' names, and what else lies beside them."""
    partition = {"by": "position", "train": 1, "validation": 0, "test": 0}
    write(tmp_path, rows(20))
    first = prepare(tmp_path, make_recipe(dataset={"partition": partition}))
    other = [{"q": r["instruction"], "c": r["input"], "a": r["output"]} for r in rows(20)[::-1]]
    write(tmp_path, other, "other.jsonl")
    columns = {"instruction": "q", "input": "c", "output": "a"}
    recipe = make_recipe("other.jsonl", dataset={"partition": partition, "columns": columns})
    second = prepare(tmp_path, recipe)
    ids = [table(data, "train")["example_id"].to_pylist() for data in (first, second)]
    assert ids[0] == ids[1][::-1]


def test_by_hash_appending_rows_moves_none_and_keeps_ids(tmp_path: Path) -> None:
    write(tmp_path, rows(200))
    before = prepare(tmp_path)
    write(tmp_path, rows(210))
    after = prepare(tmp_path)
    for name in before.partitions:
        old = table(before, name)["example_id"].to_pylist()
        new = table(after, name)["example_id"].to_pylist()
        assert new[: len(old)] == old


def test_batches_of_any_size_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows(100)
    data[8]["output"] = " "
    data[9]["output"] += "</s>"
    data[60] = {**data[0], "output": "something else"}
    write(tmp_path, data)
    recipe = make_recipe(
        dataset={
            "columns": {"tests": "tests"},
            "violations": {"empty_answer": "drop", "special_token_in_text": "escape"},
        }
    )
    first = prepare(tmp_path, recipe)
    monkeypatch.setattr(row_store, "BATCH", 7)
    again = prepare(tmp_path, recipe, cache_folder=tmp_path / "another cache")
    assert without_file_digests(again.as_json()) == without_file_digests(first.as_json())
    for name in first.partitions:
        assert table(again, name).equals(table(first, name))
    for name in (PROBLEMS_FILE, PAIRS_FILE, LEAKED_FILE):
        one, other = (Path(made.folder, name).read_bytes() for made in (first, again))
        assert one == other


def without_file_digests(values: dict[str, Any]) -> dict[str, Any]:
    """Row groups, and with them a file's bytes, are as the batches were; its rows are not."""
    for part in values["partitions"].values():
        del part["sha256"]
    return values


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "BATCH", 20)
    write(tmp_path, rows(50))
    told: list[tuple[str, int, int]] = []
    prepare(tmp_path, on_progress=lambda *progress: told.append(progress))
    assert told == [
        ("reading rows", 20, 0),
        ("reading rows", 40, 0),
        ("preparing rows", 20, 50),
        ("preparing rows", 40, 50),
        ("preparing rows", 50, 50),
        ("looking for leaks", 50, 50),
    ]


def test_the_example_is_the_first_train_row(tmp_path: Path) -> None:
    data = rows(50)
    data[0]["output"] += "</s>"
    write(tmp_path, data)
    made = prepare(tmp_path, with_violations(special_token_in_text="drop"))
    text = "".join(token.text for token in made.example)
    assert text == "<s>[INST] Add 1 to x. [/INST] def f(x):\n    return x + 1</s>"
    supervised = "".join(token.text for token in made.example if token.supervised)
    assert supervised == " def f(x):\n    return x + 1</s>"


def test_messages_of_several_turns_are_prepared(tmp_path: Path) -> None:
    def turns(n: int) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": f"One and {n}?"},
            {"role": "assistant", "content": "1"},
            {"role": "user", "content": f"Two and {n}?"},
            {"role": "assistant", "content": "2"},
        ]

    write(tmp_path, [{"messages": turns(n), "id": n} for n in range(40)])
    recipe = make_recipe(
        dataset=POSITION,
        template={"chat": "chatml", "loss_on": "assistant_turns", "system": "Count."},
    )
    data = prepare(tmp_path, recipe)
    row = table(data, "test").to_pylist()[0]
    tokenizer = make_tokenizer("chatml")
    supervised = [i for i in row["labels"] if i >= 0]
    assert tokenizer.decode(supervised) == "1<|im_end|>2<|im_end|>"
    assert row["prompt"].startswith("<|im_start|>system\nCount.<|im_end|>\n")
    assert row["question"] == "One and 36?\n1\nTwo and 36?"
    assert row["answer"] == "2"
    assert data.stop_token == "<|im_end|>"
    assert (data.format, data.format_detected) == ("messages", True)
    assert any("generation stops at either" in note for note in data.notes)


def test_the_record_survives_json(tmp_path: Path) -> None:
    data = rows(50)
    data[3]["output"] = ""
    data[45]["instruction"], data[45]["input"] = data[1]["instruction"], ""
    write(tmp_path, data)
    made = prepare(tmp_path, make_recipe(dataset=POSITION))
    assert made.leaks.counts
    assert outcome(made, "empty_answer").first_rows == (3,)
    stored = json.loads(json.dumps(made.as_json()))
    assert prepared_data_from_json(stored, Path(made.folder)) == made
    assert str(tmp_path) not in json.dumps(stored)


def test_a_sample_is_asked_as_the_rows_are(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    recipe = make_recipe(template={"user": "{{ instruction }} Inputs: {{ input }}"})
    data = prepare(tmp_path, recipe)
    tokenizer = make_tokenizer("mistral")
    ids = prompt_token_ids(tokenizer, recipe, data, "Say hello.")
    assert tokenizer.decode(ids) == "<s>[INST] Say hello. Inputs:  [/INST]"
    with pytest.raises(DataError, match=r"evaluation\.samples: 'a </s>': the user's text holds"):
        prompt_token_ids(tokenizer, recipe, data, "a </s>")


def test_a_sample_that_is_in_train_is_found_as_the_rows_ask_it(tmp_path: Path) -> None:
    data = [{**row, "input": ""} for row in rows(50)]
    write(tmp_path, data)
    template = {"user": "Task:\n{{ instruction }}", "system": "Be short."}
    recipe = make_recipe(
        dataset=POSITION, template=template, evaluation={"samples": ["Say hello.", "Add 3 to x."]}
    )
    made = prepare(tmp_path, recipe, tokenizer=make_tokenizer("chatml"))
    pairs = pq.ParquetFile(Path(made.folder) / PAIRS_FILE).read().to_pylist()
    (pair,) = (p for p in pairs if p["kind"] == "exact" and p["second_partition"] == "samples")
    assert (pair["first_row"], pair["second_row"], pair["by"]) == (3, 1, "prompt")
    assert pair["first_text"] == pair["second_text"] == "Task:\nAdd 3 to x."


def test_a_sample_on_which_a_template_raises_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    user = "{% if 'hello' in instruction %}{{ 1 // 0 }}{% endif %}{{ instruction }}"
    recipe = make_recipe(template={"user": user}, evaluation={"samples": ["Say hello."]})
    assert message_of(tmp_path, recipe).startswith("evaluation.samples: 'Say hello.': ")


def test_rows_that_ask_the_same_of_other_passages_are_no_leaks(tmp_path: Path) -> None:
    """The passage is in the system message; row 45 has row 1's, too."""
    data = [
        {
            "messages": [
                {"role": "system", "content": f"Passage {1 if n == 45 else n}."},
                {"role": "user", "content": "What is said in the passage above?"},
                {"role": "assistant", "content": f"It is number {n}."},
            ]
        }
        for n in range(50)
    ]
    write(tmp_path, data)
    recipe = make_recipe(dataset={**POSITION, "format": "messages"})
    made = prepare(tmp_path, recipe, tokenizer=make_tokenizer("chatml"))
    assert (made.leaks.dropped, made.leaks.listed) == (1, 1)
    assert 1 not in members(made)["train"]


def test_an_unknown_partition_names_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    whole = make_recipe(dataset={"partition": {"train": 1, "validation": 0, "test": 0}})
    data = prepare(tmp_path, whole)
    with pytest.raises(DataError, match=r"no partition 'test': .* makes train"):
        data.path("test")


def test_as_many_processes_as_threads_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes_of(make_recipe(hardware={"threads": 3})) == 3
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 4, 5, 6}, raising=False)
    assert processes_of(make_recipe()) == 4
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 10)
    assert processes_of(make_recipe()) == 10


# Policies


def test_a_rule_whose_policy_is_drop_leaves_rows_out(tmp_path: Path) -> None:
    data = rows(50)
    data[5]["output"] += "</s>"
    data[46]["instruction"] += "<s>"
    write(tmp_path, data)
    made = prepare(tmp_path, with_violations(special_token_in_text="drop"))
    found = outcome(made, "special_token_in_text")
    assert (found.policy, found.violations, found.dropped) == ("drop", 2, 2)
    assert found.first_rows == (5, 46)
    assert (made.source_rows, made.rows_kept, made.dropped) == (50, 48, 2)
    # A row that is left out moves no other: by position, row 45 is a test row all the same.
    numbers = members(made)
    assert numbers["train"] == [n for n in range(40) if n != 5]
    assert numbers["test"] == [45, 47, 48, 49]
    listed = [(p["row"], p["place"], p["partition"], p["outcome"]) for p in problems(made)]
    assert listed == [
        (5, "rows.jsonl:6", "train", "dropped"),
        (46, "rows.jsonl:47", "test", "dropped"),
    ]
    assert json.loads(problems(made)[0]["text"])["output"] == data[5]["output"]


def test_a_rule_whose_policy_is_warn_keeps_rows_and_counts_them(tmp_path: Path) -> None:
    data = rows(50)
    data[5]["output"] = "  "
    write(tmp_path, data)
    made = prepare(tmp_path, with_violations(empty_answer="warn"))
    found = outcome(made, "empty_answer")
    assert (found.violations, found.dropped, found.first_rows) == (1, 0, (5,))
    assert made.dropped == 0
    assert 5 in members(made)["train"]
    assert [(p["row"], p["outcome"]) for p in problems(made)] == [(5, "kept")]


def test_a_rule_whose_policy_is_error_stops_and_says_where(tmp_path: Path) -> None:
    data = rows(60)
    data[5]["output"] += "</s>"
    data[9]["instruction"] += "<s>"
    data[11]["instruction"] += "<s>"
    write(tmp_path, data)
    assert message_of(tmp_path) == (
        "label contract: of 60 rows, some break rules whose policy is error (rows are numbered "
        "from 0):\n"
        "  dataset.violations.special_token_in_text: 3 rows break it: no text holds a special "
        "token's name\n"
        "    the assistant's text holds '</s>', which the tokenizer would read as a special token: "
        "row 5 (rows.jsonl:6)\n"
        "    the user's text holds '<s>', which the tokenizer would read as a special token: "
        "row 9 (rows.jsonl:10), row 11 (rows.jsonl:12)\n"
        f"Correct the rows, or set the policy to drop. {PREVIEW} each."
    )


def test_what_is_an_error_is_counted_where_nothing_is_refused(tmp_path: Path) -> None:
    """As ``proofbox preview`` wants it; and the run after it stops all the same."""
    data = rows(50)
    data[5]["output"] += "</s>"
    write(tmp_path, data)
    made = prepare(tmp_path, enforce=False)
    found = outcome(made, "special_token_in_text")
    assert (found.policy, found.violations, found.dropped) == ("error", 1, 1)
    assert made.rows_kept == 49
    assert "special_token_in_text: 1 row breaks it" in message_of(tmp_path)


def test_a_row_that_breaks_two_rules_is_dropped_once(tmp_path: Path) -> None:
    data = rows(50)
    data[5]["output"] = ""
    data[5]["instruction"] = "x = 1\n" * 100
    write(tmp_path, data)
    recipe = make_recipe(
        dataset={**POSITION, "violations": {"empty_answer": "drop"}}, template={"max_length": 200}
    )
    made = prepare(tmp_path, recipe)
    assert [(p["row"], p["rule"], p["outcome"]) for p in problems(made)] == [
        (5, "empty_answer", "dropped"),
        (5, "too_long", "dropped"),
    ]
    assert made.dropped == 1
    assert sum(part.rows for part in made.partitions.values()) == made.rows_kept == 49


def test_every_batch_may_lose_all_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_store, "BATCH", 10)
    data = rows(50)
    for n in (*range(10, 20), *range(30, 40)):
        data[n]["output"] = ""
    write(tmp_path, data)
    made = prepare(tmp_path, with_violations(empty_answer="drop"))
    assert made.rows_kept == 30
    assert members(made)["train"] == [*range(10), *range(20, 30)]
    assert outcome(made, "empty_answer").first_rows == (10, 11, 12, 13, 14)


@pytest.mark.parametrize("samples", [(), ("Add 3 to x.",)])
def test_all_rows_may_be_lost(tmp_path: Path, samples: tuple[str, ...]) -> None:
    write(tmp_path, [{**row, "output": ""} for row in rows(50)])
    recipe = make_recipe(
        dataset={"violations": {"empty_answer": "drop"}}, evaluation={"samples": samples}
    )
    made = prepare(tmp_path, recipe, enforce=False)
    assert made.partitions == {}
    assert (made.source_rows, made.rows_kept, made.example) == (50, 0, ())
    assert made.leaks.listed == made.leaks.dropped == 0
    assert message_of(tmp_path, recipe) == (
        "no train and no validation and no test rows are left of 50 rows:\n"
        "  50 rows dropped: dataset.violations.empty_answer: the answer has a visible character\n"
        f"{PREVIEW} them."
    )


def test_a_text_that_cannot_be_escaped_is_no_silent_loss(tmp_path: Path) -> None:
    """The policy escape keeps a row, so one that it cannot keep breaks another rule."""
    data = rows(50)
    data[5]["instruction"] += "</s>"
    data[7]["instruction"] += "<s>"
    write(tmp_path, data)
    tokenizer = make_tokenizer(  # a template that takes an end token's name apart
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'].replace('/s>', '/ s>') + ' [/INST]' }}{% else %}"
        "{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    recipe = with_violations(special_token_in_text="escape")
    made = prepare(tmp_path, recipe, tokenizer=tokenizer, enforce=False)
    assert outcome(made, "special_token_in_text").violations == 0
    found = outcome(made, "unusable_row")
    assert (found.violations, found.dropped, found.first_rows) == (1, 1, (5,))
    assert (made.dropped, 7 in members(made)["train"]) == (1, True)
    message = message_of(tmp_path, recipe, tokenizer=tokenizer)
    assert "dataset.violations.unusable_row: 1 row breaks it" in message
    assert "cannot be escaped: the chat template takes it apart: row 5 (rows.jsonl:6)" in message


def test_what_escapes_is_kept_and_noted(tmp_path: Path) -> None:
    data = rows(50)
    data[45]["output"] += "</s>"
    write(tmp_path, data)
    made = prepare(tmp_path, with_violations(special_token_in_text="escape"))
    assert table(made, "test")["answer"].to_pylist()[0] == data[45]["output"]
    assert any("kept as text: 1" in note for note in made.notes)


# Too long


def long_rows() -> list[dict[str, Any]]:
    data = rows(50)
    for n in (3, 7, 48):
        data[n]["output"] = f"x = {n}\n" * 100
    return data


def test_rows_that_are_too_long_are_dropped_counted_and_listed(tmp_path: Path) -> None:
    write(tmp_path, long_rows())
    data = prepare(tmp_path, make_recipe(dataset=POSITION, template={"max_length": 200}))
    listed = [(p["row"], p["partition"], p["outcome"]) for p in problems(data)]
    assert listed == [
        (3, "train", "dropped"),
        (7, "train", "dropped"),
        (48, "test", "dropped"),
    ]
    assert all(p["detail"] == f"{p['tokens']:,} tokens" for p in problems(data))
    assert min(p["tokens"] for p in problems(data)) > 200
    found = outcome(data, "too_long")
    assert (found.policy, found.violations, found.dropped) == ("drop", 3, 3)
    assert (data.dropped, data.truncated) == (3, 0)
    assert data.partitions["train"].rows == 38
    assert 3 not in members(data)["train"]


def test_truncation_never_keeps_half_an_answer(tmp_path: Path) -> None:
    """trl#3927."""
    write(tmp_path, long_rows())
    template = {"max_length": 200, "too_long": "truncate"}
    data = prepare(tmp_path, make_recipe(dataset=POSITION, template=template))
    assert data.truncated == 0
    assert [(p["row"], p["outcome"]) for p in problems(data)] == [
        (3, "dropped"),
        (7, "dropped"),
        (48, "dropped"),
    ]
    assert all(p["detail"].endswith("cut without a stop token") for p in problems(data))


def test_truncation_keeps_whole_turns_and_lists_them(tmp_path: Path) -> None:
    def turn(n: int) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": f"{n}?"},
            {"role": "assistant", "content": "1, of course."},
        ]

    write(tmp_path, [{"messages": turn(n) * (1 + n % 4)} for n in range(40)])
    recipe = make_recipe(
        dataset={**POSITION, "format": "messages"},
        template={"loss_on": "assistant_turns", "max_length": 60, "too_long": "truncate"},
    )
    data = prepare(tmp_path, recipe)
    cut = problems(data)
    assert cut
    assert {p["outcome"] for p in cut} == {"cut"}
    assert {p["row"] % 4 for p in cut} <= {2, 3}
    assert all(p["detail"] == f"cut from {p['tokens']} tokens" for p in cut)
    found = outcome(data, "too_long")
    assert (found.policy, found.violations, found.dropped) == ("truncate", len(cut), 0)
    assert (data.truncated, data.dropped, data.rows_kept) == (len(cut), 0, 40)
    for name in data.partitions:
        for row in table(data, name).to_pylist():
            assert len(row["input_ids"]) <= 60
            assert row["input_ids"][-1] == row["labels"][-1] == data.stop_token_ids[0]


def test_too_long_may_be_an_error(tmp_path: Path) -> None:
    write(tmp_path, long_rows())
    recipe = make_recipe(dataset=POSITION, template={"max_length": 200, "too_long": "error"})
    shown = prepare(tmp_path, recipe, enforce=False)
    tokens = {p["row"]: p["tokens"] for p in problems(shown)}
    lines = message_of(tmp_path, recipe).splitlines()
    assert lines[1] == (
        "  template.too_long: 3 rows break it: at most 200 tokens (template.max_length; "
        "longer ones have "
        f"{min(tokens.values())} to {max(tokens.values())})"
    )
    assert lines[2] == "    " + ", ".join(
        f"row {row} (rows.jsonl:{row + 1}, {tokens[row]} tokens)" for row in (3, 7, 48)
    )


def test_a_max_length_below_every_row_says_how_long_they_are(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    recipe = make_recipe(dataset=POSITION, template={"max_length": 8})
    lengths = [p["tokens"] for p in problems(prepare(tmp_path, recipe, enforce=False))]
    assert message_of(tmp_path, recipe) == (
        "no train and no validation and no test rows are left of 50 rows:\n"
        "  50 rows dropped: template.too_long: at most 8 tokens "
        "(template.max_length; longer ones have "
        f"{min(lengths)} to {max(lengths)})\n"
        f"{PREVIEW} them."
    )


# Leaks


def leaking_rows() -> list[dict[str, Any]]:
    """Train rows 1, 2 and 3 ask what test rows ask."""
    data = rows(50)
    for train, test in ((1, 46), (2, 46), (3, 49)):
        data[train]["instruction"], data[train]["input"] = data[test]["instruction"], ""
        data[test]["input"] = ""
    return data


def test_train_rows_that_leak_are_dropped_and_counted(tmp_path: Path) -> None:
    write(tmp_path, leaking_rows())
    data = prepare(tmp_path, make_recipe(dataset=POSITION))
    assert data.leaks.dropped == 3
    assert members(data)["train"] == [0, *range(4, 40)]
    # They broke no rule: what leaks is counted apart.
    assert (data.rows_kept, data.dropped, data.partitions["train"].rows) == (50, 0, 37)
    pairs = pq.read_table(Path(data.folder) / PAIRS_FILE).to_pylist()
    exact = [(p["first_row"], p["second_row"]) for p in pairs if p["kind"] == "exact"]
    assert sorted(exact) == [(1, 46), (2, 46), (3, 49)]
    ids = dict(
        zip(
            table(data, "test")["row"].to_pylist(),
            table(data, "test")["example_id"].to_pylist(),
            strict=True,
        )
    )
    assert {(p["second_row"], p["second_example_id"]) for p in pairs} == {
        (46, ids[46]),
        (49, ids[49]),
    }


def test_leaks_may_be_an_error(tmp_path: Path) -> None:
    write(tmp_path, leaking_rows())
    recipe = make_recipe(dataset={**POSITION, "leaks": {"exact": "error", "near": "ignore"}})
    assert message_of(tmp_path, recipe) == (
        "leaks between partitions, whose policy is error:\n"
        "  dataset.leaks.exact: equal prompts: 3 pairs, of 3 train rows and 2 test rows\n"
        f"Take the rows out, or set the policy to drop_from_train. {PREVIEW} the pairs."
    )


def test_all_of_train_may_leak(tmp_path: Path) -> None:
    data = [{**row, "instruction": "Add.", "input": ""} for row in rows(50)]
    write(tmp_path, data)
    recipe = make_recipe(dataset=POSITION)
    assert members(prepare(tmp_path, recipe, enforce=False)).keys() == {"validation", "test"}
    assert message_of(tmp_path, recipe) == (
        "no train rows are left of 50 rows:\n"
        "  40 train rows dropped: dataset.leaks\n"
        f"{PREVIEW} them."
    )


# Bad input


def test_no_test_rows_is_an_error_with_counts(tmp_path: Path) -> None:
    write(tmp_path, rows(3))
    message = message_of(tmp_path, make_recipe(dataset=POSITION))
    assert "divides 3 rows into train 3 (share 0.8), validation 0 (share 0.1), test 0" in message


def test_malformed_lines_are_named_and_nothing_stays(tmp_path: Path) -> None:
    write(tmp_path, rows(30))
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"instruction": "x"\n')
    assert "rows.jsonl:31" in message_of(tmp_path)
    assert list((tmp_path / "cache" / "prepared").iterdir()) == []


def test_a_raising_row_template_names_rows_and_template(tmp_path: Path) -> None:
    write(tmp_path, rows(60))
    recipe = make_recipe(template={"user": "{{ instruction }}{{ 1 // (input | length) }}"})
    message = message_of(tmp_path, recipe)
    assert "dataset.violations.unusable_row: 40 rows break it: " in message
    assert "template.user raised ZeroDivisionError: " in message
    assert "row 1 (rows.jsonl:2), row 2 (rows.jsonl:3), row 4 (rows.jsonl:5), " in message
    assert "row 7 (rows.jsonl:8), … (40 in all)" in message


def test_a_padding_token_that_stops_answers_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    tokenizer = make_tokenizer("chatml")
    tokenizer.pad_token = "<|im_end|>"
    assert "also the token that ends an answer" in message_of(tmp_path, tokenizer=tokenizer)


def test_a_model_with_fewer_embeddings_than_tokens_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, rows(50))
    assert (
        "dataset.violations.vocabulary: 50 rows break it: token ids lie within the model's "
        "vocabulary\n    row 0 (rows.jsonl:1), row 1 (rows.jsonl:2), row 2 (rows.jsonl:3), "
        "row 3 (rows.jsonl:4), row 4 (rows.jsonl:5), … (50 in all)\n"
    ) in message_of(tmp_path, vocabulary=100)


# Real data


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("code_alpaca_2k.json", {}),
        (
            "gsm8k_train_3000.jsonl",
            {"instruction": "question", "input": None, "output": "answer"},
        ),
    ],
)
@pytest.mark.parametrize("template", ["mistral", "chatml", "llama3"])
def test_real_data_keeps_the_contract(
    shared_data: Path, tmp_path: Path, name: str, columns: dict[str, Any], template: str
) -> None:
    recipe = make_recipe(name, dataset={"columns": columns}, template={"max_length": 4096})
    data = prepare_data(
        recipe,
        resolve_source(recipe.dataset, shared_data),
        make_tokenizer(template),
        base_folder=shared_data,
        cache_folder=tmp_path,
    )
    rows_in_files = sum(part.rows for part in data.partitions.values())
    assert data.rows_kept == rows_in_files + data.leaks.dropped
    assert data.source_rows == data.rows_kept + data.dropped
    assert {o.violations for o in data.rules if o.policy == "error"} == {0}
