from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runner.data.leaks.leak_report import LeakReport
from runner.data.prepared_data import PreparedData
from runner.errors import UsageError
from runner.inert_text import inert
from runner.preview import PAGE_PROBLEM_ROWS, PAGE_ROWS, Shown, page_rows, print_first, print_one
from runner.preview_listings import ListedProblem, read_pairs, read_problems
from runner.preview_rows import RowReader
from runner.preview_rules import print_rules
from runner.preview_summary import print_summary
from runner.preview_text import Screen
from tests.runner.made_up_data import PROBLEM, example, leak, rule, write_prepared
from tests.runner.tiny_data import make_tokenizer

HOSTILE = (
    "\x1b[2J\x1b]0;pwned\x07[bold red]x[/] \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \u202eabc\r"
    "\x9b31m\x00 [link=http://x]y[/link] \x1b[10A"
)
SPELT = r"\x1b[2J\x1b]0;pwned\x07[bold red]x[/] \x1b]8;;http://x\x1b\link"


class Out:
    """A screen whose output can be read back."""

    def __init__(self, *, terminal: bool = False, encoding: str = "utf-8", **options: Any) -> None:
        self._raw = io.BytesIO()
        self._file = io.TextIOWrapper(self._raw, encoding=encoding, newline="")
        self.screen = Screen(
            Console(
                file=self._file,
                force_terminal=terminal,
                color_system="truecolor" if terminal else None,
                width=80,
                legacy_windows=False,
                **options,
            )
        )

    @property
    def text(self) -> str:
        self._file.flush()
        return self._raw.getvalue().decode(self._file.encoding)


def shown_of(data: PreparedData) -> Shown:
    folder = Path(data.folder)
    return Shown(
        data=data,
        vocabulary=600,
        reader=RowReader(data, make_tokenizer("mistral")),
        problems=read_problems(folder),
        pairs=read_pairs(folder),
    )


def made(
    folder: Path, answers: Sequence[str] = ("A0\nB", "A1", "A2", "A3"), **values: Any
) -> Shown:
    tokenizer = make_tokenizer("mistral")
    train = [example(tokenizer, n, f"Q{n}", answer) for n, answer in enumerate(answers)]
    test = [example(tokenizer, 40 + n, f"Q{40 + n}", "held out") for n in range(2)]
    return shown_of(write_prepared(folder, {"train": train, "test": test}, **values))


def never() -> Sequence[ListedProblem]:
    raise AssertionError("the lists tell why")


def first_rows(shown: Shown, rows: int = 2, partition: str = "train", **screen: Any) -> str:
    out = Out(**screen)
    print_first(out.screen, shown, partition, rows)
    return out.text


def one_row(shown: Shown, row: int, explain: Any = never) -> str:
    out = Out()
    print_one(out.screen, shown, row, explain)
    return out.text


def rules(shown: Shown, **screen: Any) -> str:
    out = Out(**screen)
    print_rules(out.screen, shown.data, shown.problems, shown.pairs)
    return out.text


def summary(shown: Shown, **screen: Any) -> str:
    out = Out(**screen)
    print_summary(out.screen, shown.data, recipe="my.yaml", rows_shown=True)
    return out.text


# Rendered rows


def test_the_first_rows_of_a_partition_are_shown_with_lengths(tmp_path: Path) -> None:
    text = first_rows(made(tmp_path))
    assert re.match(r"row 0 \(train\): \d+ tokens, \d+ of them the prompt, \d+ supervised\n", text)
    assert "row 1 (train): " in text
    assert "row 2 (train): " not in text
    assert "<s>[INST] Q0 [/INST]⟦ A0\nB</s>⟧\n" in text
    assert "Q40 [/INST]⟦ held out</s>⟧" in first_rows(made(tmp_path), 1, "test")


def test_counts_of_tokens_are_those_of_the_file(tmp_path: Path) -> None:
    shown = made(tmp_path)
    (row,) = shown.reader.first("train", 1)
    given = example(make_tokenizer("mistral"), 0, "Q0", "A0\nB")
    assert len(row.tokens) == len(given["input_ids"])
    assert row.prompt_tokens == len(given["prompt_ids"])
    assert sum(t.supervised for t in row.tokens) == len(row.tokens) - row.prompt_tokens


def test_texts_of_tokens_join_to_the_whole_in_any_script(tmp_path: Path) -> None:
    answer = "naïve 日本語 🙂👩\u200d🔬 العربية e\u0301"
    (row,) = made(tmp_path, [answer]).reader.first("train", 1)
    assert "".join(t.text for t in row.tokens) == f"<s>[INST] Q0 [/INST] {answer}</s>"
    assert "\ufffd" not in "".join(t.text for t in row.tokens)


def test_only_ids_of_special_tokens_are_special(tmp_path: Path) -> None:
    shown = made(tmp_path)
    tokenizer = shown.reader.tokenizer
    escaped = tokenizer("</", add_special_tokens=False)["input_ids"]
    escaped += tokenizer("s>", add_special_tokens=False)["input_ids"]
    tokens = shown.reader.tokens([*escaped, 2], [*escaped, 2])
    assert "".join(t.text for t in tokens) == "</s></s>"
    assert [t.special for t in tokens] == [False] * len(escaped) + [True]


def test_on_a_terminal_supervised_tokens_are_in_colour_and_nothing_is_bracketed(
    tmp_path: Path,
) -> None:
    text = first_rows(made(tmp_path), 1, terminal=True)
    assert "⟦" not in text
    assert "\x1b[1;32m A0\x1b[0m\n\x1b[1;32mB\x1b[0m" in text
    assert "\x1b[2;7m<s>\x1b[0m" in text
    assert "\x1b[1;7;32m</s>\x1b[0m" in text


def test_without_colour_a_terminal_gets_brackets(tmp_path: Path) -> None:
    text = first_rows(made(tmp_path), 1, terminal=True, no_color=True)
    assert "⟦ A0" in text
    assert "\x1b[1;32m" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_hostile_text_is_inert(tmp_path: Path, terminal: bool) -> None:
    problem = {"row": 9, "place": f"{HOSTILE}:9", "detail": HOSTILE, "text": HOSTILE,
               "partition": HOSTILE}  # fmt: skip
    side = {"first_text": HOSTILE, "second_text": HOSTILE, "first_partition": HOSTILE}
    shown = made(
        tmp_path, [HOSTILE], problems=[problem], pairs=[side], notes=(HOSTILE,), format=HOSTILE,
        rules=(rule("too_long", "drop", 9, text=HOSTILE),),
        leaks=LeakReport(compared={}, leaked={}, counts=(leak(1, second=HOSTILE),), listed=1),
    )  # fmt: skip
    out = Out(terminal=terminal)
    print_first(out.screen, shown, "train", 1)
    print_one(out.screen, shown, 9, never)
    print_rules(out.screen, shown.data, shown.problems, shown.pairs)
    print_summary(out.screen, shown.data, recipe=HOSTILE, rows_shown=True)
    ours = re.sub(r"\x1b\[[\d;]*m", "", out.text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", ours)
    joined = re.sub(r"\s", "", ours)
    assert joined.count(re.sub(r"\s", "", SPELT)) > 10
    if not terminal:
        assert "\x1b" not in out.text


def test_a_console_without_unicode_gets_ascii(tmp_path: Path) -> None:
    text = first_rows(made(tmp_path, ["café 🙂"]), 1, encoding="ascii")
    assert r"[[ caf\xe9 \U0001f642</s>]]" in text


def test_text_in_other_scripts_stays_readable() -> None:
    text = "日本語 العربية 👩\u200d🔬 e\u0301\tx\n"
    assert inert(text) == text


def test_a_partition_without_examples_says_which_have_some(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--partition validation: .* no such examples, but train"):
        first_rows(made(tmp_path), partition="validation")


# One row


def test_one_row_is_shown_whatever_its_partition(tmp_path: Path) -> None:
    text = one_row(made(tmp_path), 41)
    assert text.startswith("row 41 (test): ")
    assert text.count(" supervised\n") == 1


def test_a_kept_row_is_shown_with_what_is_wrong(tmp_path: Path) -> None:
    problem = {"row": 1, "outcome": "cut", "detail": "cut from 310 tokens"}
    text = one_row(made(tmp_path, problems=[problem]), 1)
    assert "! too_long (cut): cut from 310 tokens\n" in text
    assert "⟦ A1</s>⟧" in text


def test_a_row_that_was_left_out_is_shown_with_the_reason(tmp_path: Path) -> None:
    problem = {"row": 17, "place": "rows.jsonl:18", "detail": "2,310 tokens", "text": '{"a": 1}'}
    text = one_row(made(tmp_path, problems=[problem]), 17)
    wanted = 'row 17 (train, rows.jsonl:18): left out\n! too_long: 2,310 tokens\n{"a": 1}\n'
    assert text.startswith(wanted)


def test_a_row_that_was_left_out_for_a_leak_names_its_twin(tmp_path: Path) -> None:
    pair = {"first_row": 20, "second_partition": "test", "second_row": 40, "first_text": "Q40"}
    text = one_row(made(tmp_path, pairs=[pair]), 20)
    assert "row 20 (train): left out\n! leak: exact, by prompt, with test row 40\nQ40\n" in text


def test_what_the_lists_do_not_tell_is_found_out(tmp_path: Path) -> None:
    found = ListedProblem(**{**PROBLEM, "row": 30, "detail": "found out"})
    assert "found out" in one_row(made(tmp_path), 30, lambda: [found])


def test_a_row_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--row 50: the source has 50 rows, numbered 0 to 49"):
        one_row(made(tmp_path), 50)


# Rules and leaks


def broken(folder: Path) -> Shown:
    problems = [
        {"row": n, "place": f"rows.jsonl:{n + 1}", "detail": f"{n}00 tokens", "text": "long " * 99}
        for n in range(5, 12)
    ]
    problems.append({"row": 3, "rule": "stop_token", "detail": "", "text": "no stop"})
    pairs = [
        {"first_row": 8, "second_partition": "test", "second_row": 40, "first_text": "left text",
         "second_text": "right text", "kind": kind, "similarity": similarity}
        for kind, similarity in (("near", 0.83), ("exact", 1.0), ("near", 0.91))
    ]  # fmt: skip
    leaks = LeakReport(
        counts=(leak(1), leak(0, kind="near"), leak(2, "listed", kind="near", by="answer")),
        compared={"train": 40, "test": 10}, leaked={},
        dropped=1, listed=9,
    )  # fmt: skip
    outcomes = (
        rule("stop_token", "error", 3),
        rule("special_token_in_text", "error"),
        rule("too_long", "drop", *range(5, 12)),
    )
    return made(folder, problems=problems, pairs=pairs, rules=outcomes, leaks=leaks)


def test_the_table_has_every_rule_with_its_counts(tmp_path: Path) -> None:
    lines = rules(broken(tmp_path)).splitlines()
    table = [" ".join(line.split()) for line in lines[:12]]
    assert table == [
        "Rules, checked on 50 rows (numbered from 0)",
        "rule policy checked broken dropped",
        "! stop_token error 50 1 1",
        "text of stop_token",
        "rows 3",
        "special_token_in_text error 50 0 0",
        "text of special_token_in_text",
        "! too_long drop 50 7 7",
        "text of too_long",
        "rows 5, 6, 7, 8, 9, …",
        "",
        "stop_token: 1 row",
    ]


def test_broken_rules_show_their_first_rows_with_place_and_reason(tmp_path: Path) -> None:
    text = rules(broken(tmp_path))
    assert "too_long: 7 rows, the first 5 of them\n" in text
    assert "row 5 (rows.jsonl:6): train, dropped\n    500 tokens\n    long long" in text
    assert "row 9 (rows.jsonl:10)" in text
    assert "row 10 (" not in text


def test_leaks_are_counted_and_shown_side_by_side(tmp_path: Path) -> None:
    text = rules(broken(tmp_path))
    assert "! exact, by prompt: 1 pair of 1 train and 1 test rows (drop_from_train)\n" in text
    assert "near, by prompt:" not in text
    assert "  compared: 40 train, 10 test\n" in text
    assert "  near, by answer: 2 pairs of 2 train and 1 test rows (listed)\n" in text
    assert "left out of train for it: 1 row" in text
    pairs = re.findall(r"  (\w+), by \w+, similarity ([\d.]+)\n", text)
    assert pairs == [("exact", "1.00"), ("near", "0.91"), ("near", "0.83")]
    assert re.search(r"    train row 8 +test row 40 *\n    left text +right text\n", text)
    assert "4 more listed: --html shows more" in text


def test_nothing_is_wider_than_80_columns(tmp_path: Path) -> None:
    text = rules(broken(tmp_path)) + summary(broken(tmp_path))
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_data_without_a_leak_says_so(tmp_path: Path) -> None:
    assert "  compared: nothing\n  no pair was found\n" in rules(made(tmp_path))


# Summary


def test_the_summary_tells_format_examples_rules_leaks_and_what_is_next(tmp_path: Path) -> None:
    text = summary(made(tmp_path, rows_kept=50))
    squeezed = [" ".join(line.split()) for line in text.splitlines()]
    assert squeezed == [
        "Supervised tokens are between ⟦ and ⟧; an answer ends with </s>",
        "",
        "format alpaca, found by its columns",
        "examples 4 train, 2 test (of 50 rows)",
        "left out 0 rows",
        "rules every row keeps all 2",
        "leaks none",
        "next proofbox preview my.yaml --violations rules, rows, pairs",
        "proofbox preview my.yaml --row N one source row",
        "proofbox preview my.yaml --html FILE all of it as a page",
    ]


def test_the_summary_tells_what_is_broken_and_what_that_means(tmp_path: Path) -> None:
    text = summary(broken(tmp_path))
    assert "left out    44 rows (stop_token 1, too_long 7); 1 row of train for leaks\n" in text
    assert "! rules     stop_token is broken by 1 row (error: a run stops)\n" in text
    assert "! rules     too_long is broken by 7 rows (drop)\n" in text
    assert "special_token_in_text" not in text
    assert (
        "! leaks     1 pair, exact, by prompt, between train and test (drop_from_train)\n" in text
    )
    assert "\nleaks       2 more pairs, which the recipe only lists\n" in text


def test_a_format_that_the_recipe_names_was_not_found(tmp_path: Path) -> None:
    assert "found by" not in summary(made(tmp_path, format_detected=False))


def test_rows_that_were_cut_are_counted(tmp_path: Path) -> None:
    outcome = rule("too_long", "truncate", 1, 2, 3, dropped=1)
    assert "2 rows cut to fit" in summary(made(tmp_path, rules=(outcome,)))


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"rules": (rule("stop_token", "error"),)}, False),
        ({"rules": (rule("stop_token", "drop", 1),)}, False),
        ({"rules": (rule("stop_token", "error", 1),)}, True),
        ({"leaks": LeakReport(compared={}, leaked={}, counts=(leak(1),))}, False),
        ({"leaks": LeakReport(compared={}, leaked={}, counts=(leak(0, "error"),))}, False),
        ({"leaks": LeakReport(compared={}, leaked={}, counts=(leak(1, "error"),))}, True),
    ],
)
def test_what_a_run_would_stop_at(tmp_path: Path, values: dict[str, Any], refused: bool) -> None:
    assert made(tmp_path, **values).refused is refused


# Rows of the page


def test_the_page_has_first_rows_of_each_partition_and_rows_with_problems(tmp_path: Path) -> None:
    problems = [
        {"row": 1, "outcome": "kept", "rule": "empty_answer"},
        {"row": 3, "outcome": "cut"},
        {"row": 17},
        {"row": 17, "rule": "unusable_row"},
    ]
    chosen = page_rows(made(tmp_path, problems=problems), 2)
    assert [row.row for row in chosen] == [0, 1, 40, 41, 3, 17]
    assert isinstance(chosen[-1], ListedProblem)
    assert not isinstance(chosen[-2], ListedProblem)


def test_the_page_has_rows_of_every_broken_rule(tmp_path: Path) -> None:
    problems = [{"row": n, "rule": "too_long"} for n in range(100, 600)]
    problems += [{"row": 900 + n, "rule": "unusable_row"} for n in range(3)]
    chosen = page_rows(made(tmp_path, problems=problems), 1)
    rows = [row.row for row in chosen]
    assert len(rows) == 2 + PAGE_PROBLEM_ROWS
    assert rows[-3:] == [900, 901, 902]
    assert rows[2:5] == [100, 101, 102]


def test_the_page_shares_its_rows_among_the_partitions(tmp_path: Path) -> None:
    tokenizer = make_tokenizer("mistral")
    rows = [example(tokenizer, n, "Q", "A") for n in range(60)]
    shown = shown_of(write_prepared(tmp_path, {"train": rows, "test": rows[:40]}))
    chosen = page_rows(shown, None)
    assert len(chosen) == PAGE_ROWS
    assert sum(row.partition == "test" for row in chosen) == 25


def test_data_without_an_example_has_a_page_all_the_same(tmp_path: Path) -> None:
    assert page_rows(shown_of(write_prepared(tmp_path, {}, problems=[{"row": 1}])), None) != []
