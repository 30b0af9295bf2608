from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.data.labels.label_contract import RULES, TEXTS
from runner.data.leaks.leak_report import LeakReport
from runner.data.prepared_data import LISTED, PROBLEMS_FILE, PreparedData
from runner.data.rule_outcomes import (
    LONGEST_TEXT,
    OutcomeCounts,
    Policies,
    Problem,
    policies_of,
    refuse,
    refuse_lost_partitions,
    row_text,
)
from runner.errors import DataError
from runner.recipe import Violations
from tests.runner.made_up_data import leak, write_prepared
from tests.runner.tiny_data import make_recipe

HEADING = (
    "label contract: of 9,000 rows, some break rules whose policy is error (rows are numbered "
    "from 0):"
)
ADVICE = (
    "Correct the rows, or set the policy to drop. `proofbox preview RECIPE --violations` shows "
    "each."
)


def problem(row: int, rule: str = "unusable_row", **values: Any) -> Problem:
    fields = {"place": "", "outcome": "dropped", "detail": "", "tokens": 0, "text": "{}"}
    return Problem(row=row, rule=rule, **{**fields, **values})


def policies(**values: str) -> Policies:
    return Policies(by_rule={**Violations().model_dump(), "too_long": "drop", **values})


def counted(
    problems: list[Problem], by_rule: Policies | None = None, *, batch: int = 1
) -> OutcomeCounts:
    counts = OutcomeCounts(policies=by_rule or policies(), max_length=200)
    for start in range(0, len(problems), batch):
        some = problems[start : start + batch]
        counts.add(some, ["train"] * len(some), len(some))
    counts.add([], [], 9000 - len(problems))
    return counts


def data_of(folder: Path, counts: OutcomeCounts, **values: Any) -> PreparedData:
    data = write_prepared(folder, {}, rules=counts.outcomes(), source_rows=9000, **values)
    pq.write_table(counts.table(), folder / PROBLEMS_FILE)
    return data


def refusal(folder: Path, counts: OutcomeCounts, **values: Any) -> str:
    with pytest.raises(DataError) as caught:
        refuse(data_of(folder, counts, **values), counts.policies)
    return str(caught.value)


# Counts


def test_every_key_of_the_recipe_is_a_rule_and_every_rule_a_key() -> None:
    assert {o.rule for o in counted([]).outcomes()} == set(policies_of(make_recipe()).by_rule)
    assert {*Violations.model_fields} == {*RULES, *TEXTS}


def test_counts_and_first_rows_do_not_depend_on_batches() -> None:
    problems = [problem(n, ["unusable_row", "stop_token"][n % 2]) for n in range(30)]
    outcomes = [counted(problems, batch=size).outcomes() for size in (1, 7, 30)]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    found = {o.rule: o for o in outcomes[0]}
    assert found["unusable_row"].violations == found["unusable_row"].dropped == 15
    assert found["stop_token"].first_rows == (1, 3, 5, 7, 9)
    assert {o.rows_checked for o in outcomes[0]} == {9000}


def test_kept_and_cut_rows_are_not_dropped() -> None:
    problems = [
        problem(1, "empty_answer", outcome="kept"),
        problem(2, "too_long", outcome="cut", tokens=300),
        problem(3, "too_long", tokens=900),
    ]
    found = {o.rule: o for o in counted(problems).outcomes()}
    assert (found["empty_answer"].violations, found["empty_answer"].dropped) == (1, 0)
    assert (found["too_long"].violations, found["too_long"].dropped) == (2, 1)
    assert (
        found["too_long"].text
        == "at most 200 tokens (template.max_length; longer ones have 300 to 900)"
    )


def test_so_many_of_each_rule_are_listed_and_all_are_counted() -> None:
    problems = [problem(n) for n in range(LISTED + 10)] + [problem(5000, "stop_token")]
    counts = counted(problems, batch=100)
    table = counts.table().to_pylist()
    assert [row["row"] for row in table] == [*range(LISTED), 5000]
    assert {o.rule: o.violations for o in counts.outcomes()}["unusable_row"] == LISTED + 10


@pytest.mark.parametrize(
    ("policy", "drops"), [("error", True), ("drop", True), ("warn", False), ("escape", False)]
)
def test_what_a_policy_drops(policy: str, drops: bool) -> None:
    assert Policies(by_rule={"stop_token": policy}).drops("stop_token") is drops


def test_a_row_is_shown_as_json_and_cut() -> None:
    assert json.loads(row_text({"text": "é\x00", "list": [None]})) == {
        "text": "é\x00",
        "list": [None],
    }
    assert len(row_text({"text": "x" * 10_000})) == LONGEST_TEXT + 1


# What a user is told


def test_nothing_is_refused_where_nothing_is_an_error(tmp_path: Path) -> None:
    lenient = policies(unusable_row="drop", empty_answer="warn")
    problems = [problem(1), problem(2, "empty_answer", outcome="kept"), problem(3, "too_long")]
    refuse(data_of(tmp_path, counted(problems, lenient)), lenient)


def test_rules_are_told_with_reasons_rows_and_places(tmp_path: Path) -> None:
    problems = [
        *(problem(n, detail="no answer", place=f"a.jsonl:{n + 1}") for n in range(7)),
        problem(8, detail="role 'bot' is not known"),
        problem(8, "vocabulary"),
    ]
    assert refusal(tmp_path, counted(problems)) == "\n".join(
        [
            HEADING,
            f"  dataset.violations.unusable_row: 8 rows break it: {TEXTS['unusable_row']}",
            "    no answer: row 0 (a.jsonl:1), row 1 (a.jsonl:2), row 2 (a.jsonl:3), "
            "row 3 (a.jsonl:4), row 4 (a.jsonl:5), … (7 in all)",
            "    role 'bot' is not known: row 8",
            "  dataset.violations.vocabulary: 1 row breaks it: token ids lie within the model's "
            "vocabulary",
            "    row 8",
            ADVICE,
        ]
    )


def test_rows_that_are_too_long_are_told_in_one_line(tmp_path: Path) -> None:
    problems = [
        problem(n, "too_long", place=f"a.jsonl:{n + 1}", tokens=300 + n, detail=f"{n} tokens")
        for n in range(2000, 2006)
    ]
    assert refusal(tmp_path, counted(problems, policies(too_long="error"))) == "\n".join(
        [
            HEADING,
            "  template.too_long: 6 rows break it: at most 200 tokens "
            "(template.max_length; longer ones have 2,300 to "
            "2,305)",
            "    row 2000 (a.jsonl:2001, 2,300 tokens), row 2001 (a.jsonl:2002, 2,301 tokens), "
            "row 2002 (a.jsonl:2003, 2,302 tokens), row 2003 (a.jsonl:2004, 2,303 tokens), "
            "row 2004 (a.jsonl:2005, 2,304 tokens), … (6 in all)",
            ADVICE,
        ]
    )


def test_counts_of_a_cut_list_are_not_told_as_whole_ones(tmp_path: Path) -> None:
    message = refusal(tmp_path, counted([problem(n, detail="no answer") for n in range(3000)]))
    assert "3,000 rows break it" in message
    assert "row 4, … (1,000 of the first 1,000 rows)" in message


def test_reasons_without_end_are_cut(tmp_path: Path) -> None:
    lines = refusal(
        tmp_path, counted([problem(n, detail=f"reason {n}") for n in range(15)])
    ).splitlines()
    assert lines[2] == "    reason 0: row 0"
    assert lines[11] == "    reason 9: row 9"
    assert lines[12:] == ["    … and 5 other reasons", ADVICE]


def test_leaks_are_told_after_the_rules(tmp_path: Path) -> None:
    counts = [
        leak(1, "error"),
        leak(5, "error", kind="near", by="answer", second="validation", at_least=True),
        leak(0, "error", first="validation"),
        leak(9, "warn"),
    ]
    report = LeakReport(counts=tuple(counts), compared={}, leaked={})
    message = refusal(tmp_path, counted([problem(0)]), leaks=report)
    assert message.splitlines()[-5:] == [
        ADVICE,
        "leaks between partitions, whose policy is error:",
        "  dataset.leaks.exact: equal prompts: 1 pair, of 1 train row and 1 test row",
        "  dataset.leaks.near: nearly equal answers: at least 5 pairs, of 5 train rows and "
        "1 validation row",
        "Take the rows out, or set the policy to drop_from_train. `proofbox preview RECIPE "
        "--violations` shows the pairs.",
    ]


def test_partitions_that_lost_all_their_rows_are_told_with_the_reasons(tmp_path: Path) -> None:
    problems = [problem(0, "empty_answer"), *(problem(n, "too_long", tokens=300) for n in (1, 2))]
    report = LeakReport(compared={}, leaked={}, dropped=1)
    data = data_of(tmp_path, counted(problems), leaks=report)
    recipe = make_recipe([{"path": "a.jsonl", "weight": 0.5}, "b.jsonl"])
    with pytest.raises(DataError) as caught:
        refuse_lost_partitions(data, recipe.dataset)
    assert str(caught.value) == "\n".join(
        [
            "no train and no validation and no test rows are left of 9,000 rows:",
            "  1 row dropped: dataset.violations.empty_answer: the answer has a visible character",
            "  2 rows dropped: template.too_long: at most 200 tokens "
            "(template.max_length; longer ones have 300)",
            "  1 train row dropped: dataset.leaks",
            "  dataset.source[0]: weight 0.5 uses that share of its train rows",
            "`proofbox preview RECIPE --violations` shows them.",
        ]
    )


def test_partitions_that_the_recipe_does_not_want_are_not_missed(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerBase

    from tests.runner.made_up_data import example
    from tests.runner.tiny_data import make_tokenizer

    tokenizer: PreTrainedTokenizerBase = make_tokenizer("mistral")
    data = write_prepared(tmp_path, {"train": [example(tokenizer, 0, "a", "b")]})
    recipe = make_recipe(dataset={"partition": {"train": 1, "validation": 0, "test": 0}})
    refuse_lost_partitions(data, recipe.dataset)
    with pytest.raises(DataError, match=r"^no validation and no test rows are left of 50 rows:"):
        refuse_lost_partitions(data, make_recipe().dataset)
