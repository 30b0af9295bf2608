"""The preview page: what it says, that hostile text is text, and its size."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_up_preview import HOSTILE_TEXTS, LEAKS, PAIRS, PROBLEMS, PageSpec, page_of, pair, problem
from made_up_run import rule
from pyarrow import parquet
from test_run_report import Page

from reports.errors import ReportError
from reports.leak_pairs import read_pairs
from reports.preview_page import preview_page, write_preview_page
from reports.preview_rows import MOST_TOKENS
from reports.visible_text import visible


@pytest.fixture(scope="module")
def html() -> str:
    spec = PageSpec(problems=PROBLEMS, pairs=PAIRS, data={"leaks": LEAKS})
    return preview_page(page_of(spec))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_says_what_became_of_the_data(page: Page) -> None:
    for words in (
        "Ready, with remarks",
        "3,002 source rows of format alpaca, found by its columns; 3,000 examples.",
        "2 rows left out (unusable_row 1, too_long 1).",
        "2 of 5 rules broken: unusable_row, too_long",
        "58.0% of all tokens are supervised",
        "max_length 256",
        "rows.jsonl:501 train special_token_in_text dropped the user's text holds '</s>'",
        "310 tokens, cut to 251",
    ):
        assert words in page.text


def test_sections_are_there_and_nothing_is_loaded(page: Page) -> None:
    sections = [a["id"] for a in page.all("section") if "id" in a]
    assert sections == ["summary", "lengths", "rules", "leaks", "rows"]
    links = [a[k] for _, a in page.elements for k in ("href", "src", "action") if k in a]
    assert all(link is not None and link.startswith("#") for link in links)
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


def test_hostile_rows_are_there_as_text_only(html: str, page: Page) -> None:
    shown = "".join("".join(page.texts).split())
    for text in HOSTILE_TEXTS:
        whole = "".join(visible(text[:600]).replace("\n", "↵\n").split())
        assert whole in shown
    body = html.partition("<main")[2].partition("<script>")[0]
    for raw in ("<script", "<img", "<svg onload", "</textarea", "<a href=java", "\x1b", "\u202e",
                "\u2066", "\u200f", "\x00", "\x07"):  # fmt: skip
        assert raw not in body
    assert "{{ 7 * 7 }}" in html


def test_supervised_and_special_tokens_are_marked_in_the_page(html: str) -> None:
    row = html.partition("row 1000 ·")[2].partition("</details>")[0]
    marked = "".join(re.findall(r"<mark>(.*?)</mark>", row, re.DOTALL))
    assert "Held out 0." in marked
    assert '<span class="special">&lt;/s&gt;</span>' in marked
    assert "[INST]" not in marked
    assert "5 tokens" not in row
    assert "6 tokens, 2 supervised" in row


def test_leaks_are_counted_and_shown_side_by_side(html: str, page: Page) -> None:
    for words in (
        "Compared: 2,520 train, 240 test. 3 pairs found. 3 rows left out of train for it.",
        "exact prompt train test 3 3 3 drop_from_train",
        "train row 8 and test row 1003 near, by prompt, similarity 0.83",
        "98 more pairs listed in leaks.parquet.",
    ):
        assert words in page.text
    assert "near prompt train test 0" not in page.text
    shown = html.partition("similarity 0.83")[2].partition("</details>")[0]
    left, right = re.findall(r"<pre>(.*?)</pre>", shown, re.DOTALL)
    assert left == "left text"
    assert right.startswith("right text ⟨U+001B⟩]8;;http")


def test_pairs_that_are_only_listed_are_no_remark() -> None:
    listed = {**LEAKS, "counts": [{**LEAKS["counts"][0], "policy": "listed"}], "dropped": 0}
    page = Page(preview_page(page_of(PageSpec(data={"rules": [], "leaks": listed}))))
    assert "Ready Every row keeps every rule." in page.text
    assert "3 pairs found." in page.text


def test_data_without_a_leak_says_so() -> None:
    page = Page(preview_page(page_of(PageSpec())))
    assert "No pair was found." in page.text
    assert "side by side" not in page.text


def test_pairs_are_read_back_the_gravest_first(tmp_path: Path) -> None:
    assert read_pairs(tmp_path) == ()
    columns: dict[str, list[Any]] = {"kind": [], "by": [], "similarity": []}
    for one in (PAIRS[1], pair("near", 0.9, "a", "b"), PAIRS[0]):
        for name, values in (
            ("kind", one.kind), ("by", one.by), ("similarity", one.similarity),
            ("first_partition", one.first.partition), ("second_partition", one.second.partition),
            ("first_row", one.first.row), ("second_row", one.second.row),
            ("first_text", one.first.text), ("second_text", one.second.text),
        ):  # fmt: skip
            columns.setdefault(name, []).append(values)
    parquet.write_table(pa.table(columns), tmp_path / "leaks.parquet")
    assert read_pairs(tmp_path) == (PAIRS[0], pair("near", 0.9, "a", "b"), PAIRS[1])
    (tmp_path / "leaks.parquet").write_bytes(b"")
    with pytest.raises(ReportError, match=r"leaks\.parquet: cannot be read"):
        read_pairs(tmp_path)


def test_a_rule_with_policy_error_stops_a_run() -> None:
    rules = [rule("stop_token", "the stop token is supervised", "error", 4, 9)]
    page = Page(preview_page(page_of(PageSpec(data={"rules": rules}))))
    assert "A run would stop" in page.text
    assert "The recipe says error about stop_token (2)." in page.text


def test_a_leak_with_policy_error_stops_a_run() -> None:
    count = {
        "kind": "exact", "by": "prompt", "first": "train", "second": "test", "pairs": 3,
        "first_rows": 3, "second_rows": 2, "policy": "error", "at_least": False,
    }  # fmt: skip
    leaks = {
        "counts": [count],
        "compared": {},
        "dropped": 0,
        "listed": 3,
        "leaked": {"test": 2},
        "unsettled": {},
    }
    page = Page(preview_page(page_of(PageSpec(data={"rules": [], "leaks": leaks}))))
    assert "A run would stop" in page.text
    assert "exact leaks between train and test (3)" in page.text


def test_data_without_a_fault_is_ready() -> None:
    rules = [rule("stop_token", "the stop token is supervised", "error")]
    page = Page(preview_page(page_of(PageSpec(data={"rules": rules}))))
    assert "Ready Every row keeps every rule." in page.text
    assert "Every row keeps all 1 rule" in page.text


def test_a_long_row_keeps_its_end_and_counts_its_middle() -> None:
    page = preview_page(page_of(PageSpec(rows=1, texts=("Begin.",), tokens=2000)))
    row = page.partition("row 0 ·")[2].partition("</details>")[0]
    assert "… 1,006 tokens left out here …" in row
    assert "&lt;/s&gt;" in row
    assert "2,006 tokens, 2,002 supervised" in row


def test_the_page_stays_small_and_counts_what_it_leaves_out() -> None:
    problems = tuple(
        problem(2000 + n, "unusable_row", "dropped", text="y" * 9_000) for n in range(300)
    )
    html = preview_page(page_of(PageSpec(rows=100, tokens=1500, problems=problems)))
    assert len(html.encode()) < 3_000_000
    shown = html.count('<details class="sample rendered')
    assert shown == pytest.approx(MOST_TOKENS / 1000, abs=15)
    assert f"{500 - shown} more rows left out to keep this page small." in html


def test_a_far_limit_is_pointed_at_and_a_near_one_is_drawn() -> None:
    far = preview_page(page_of(PageSpec(max_length=4096)))
    assert "max_length 4,096 →" in far
    near = preview_page(page_of(PageSpec(max_length=300)))
    assert "max_length 300 →" not in near
    assert 'class="threshold"' in near


def test_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    page = page_of(PageSpec(problems=PROBLEMS))
    write_preview_page(page, tmp_path / "a.html")
    write_preview_page(replace(page), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_paths_of_a_machine_are_cut() -> None:
    bad = problem(7, "unusable_row", "dropped", place="/home/alice/x.jsonl:8",
                  detail="column 'a' of /home/alice/x.jsonl is empty")  # fmt: skip
    assert "alice" not in preview_page(page_of(PageSpec(problems=(bad,))))
