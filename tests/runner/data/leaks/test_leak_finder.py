from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.data.leaks import near_pairs
from runner.data.leaks.leak_files import write_leaks
from runner.data.leaks.leak_finder import LISTED, FoundLeaks
from runner.data.leaks.leak_report import LEAKED_FILE, PAIRS_FILE, leak_report_from_json
from runner.data.leaks.leak_texts import Prompt
from runner.data.leaks.near_duplicates import compared_texts, gram_sets, jaccard
from runner.data.leaks.near_pairs import BandedTexts, NearPairs, find_near_pairs
from runner.recipe import Leaks

from .leak_rows import EDITS, Row, counted, find, hash_codes, prompt, rows

TRAIN, VALIDATION, TEST = range(3)
HELD_OUT = "each of the ten workers must carry two boxes of sugar over the old bridge by noon"
NEARLY = HELD_OUT.replace("noon", "night")
OTHER = "which of the seven rivers runs between the yellow farm and the station near the city"


def answer(number: int) -> str:
    return prompt(random.Random(1000 + number), 30, 40)


def with_answers(*prompts: str) -> list[Row]:
    return [(text, answer(number)) for number, text in enumerate(prompts)]


def test_planted_near_duplicates_are_found(tmp_path: Path) -> None:
    """50 small edits of held-out prompts among 20,000 rows, at a threshold of 0.7.

    Of such edits to prompts of real instruction sets (code_alpaca, 74 characters in the middle)
    96% stay above 0.7 and 76% above 0.8; of random pairs of those prompts, 99.99% lie below 0.35.
    """
    texts = rows(20_000)
    chance = random.Random(7)
    codes = [TRAIN if chance.random() < 0.8 else chance.choice((VALIDATION, TEST)) for _ in texts]
    held_out = chance.sample([i for i, code in enumerate(codes) if code != TRAIN], 50)
    train = chance.sample([i for i, code in enumerate(codes) if code == TRAIN], 50)
    for number, (source, target) in enumerate(zip(held_out, train, strict=True)):
        edited = EDITS[number % len(EDITS)](texts[source][0], chance)
        texts[target] = (edited, texts[target][1])
    found = find(texts, codes, tmp_path, Leaks(threshold=0.7, near="drop_from_train"))
    pairs = {(p.first.row, p.second.row) for p in found.pairs}
    planted = set(zip(train, held_out, strict=True))
    assert len(pairs & planted) >= 0.95 * 50
    assert len(pairs - planted) <= 0.01 * len(pairs)
    assert set(found.dropped.tolist()) == {first for first, _ in pairs}
    assert found.report.leaked == {} == found.report.unsettled


def near_search(texts: list[Row], codes: list[int], threshold: float = 0.8) -> NearPairs:
    """One search by prompt between train and the held-out rows, with its counts."""
    from runner.data.leaks.near_duplicates import fingerprints

    none = [""] * len(texts)
    keys = fingerprints([q for q, _ in texts], none, none, Leaks(threshold=threshold)).prompt
    flags = np.array(codes) == TRAIN

    def compare(a: Any, b: Any) -> Any:
        return np.array(
            [jaccard(*gram_sets([texts[i][0], texts[j][0]])) for i, j in zip(a, b, strict=True)]
        )

    return find_near_pairs(
        BandedTexts(
            band=lambda i: keys.bands[:, i],
            bands=keys.bands.shape[1],
            sketches=lambda ids: keys.sketches[ids],
        ),
        first=flags,
        second=~flags,
        stays=flags,
        threshold=threshold,
        compare=compare,
    )


def test_work_grows_with_the_rows_and_not_with_their_pairs() -> None:
    """Operations are counted: eight times the rows have 64 times the pairs."""
    work = []
    for count in (2_500, 20_000):
        texts = rows(count)
        done = near_search(texts, hash_codes(texts))
        assert done.complete
        assert done.compared <= done.candidates
        work.append((done.candidates + count, done.compared + count))
    assert work[1][0] <= 1.5 * 8 * work[0][0]
    assert work[1][1] <= 1.5 * 8 * work[0][1]


@pytest.mark.parametrize("rows_of_template", [400, 1600])
def test_templated_rows_take_work_that_grows_with_the_rows(
    rows_of_template: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_pairs, "AFFORDABLE", 1000)
    monkeypatch.setattr(near_pairs, "FREE_COMPARISONS", 500)
    texts, codes = templated(rows_of_template)
    done = near_search(texts, codes)
    assert done.compared <= 500 + 4 * rows_of_template
    assert done.candidates <= 16 * 15 * 2 * near_pairs.BUCKET * rows_of_template
    assert not done.complete
    settled = done.first_near | done.first_open | done.second_near | done.second_open
    assert settled.all()


def templated(count: int, below: int = 10**6) -> tuple[list[Row], list[int]]:
    """Everything is near everything."""
    chance = random.Random(5)
    stem = "Classify the sentiment of the following review as positive, negative or neutral, and "
    texts = [
        (f"{stem}say why in one sentence of plain words: {chance.randrange(below)}", "")
        for _ in range(count)
    ]
    return texts, [TRAIN if place % 4 else TEST for place in range(count)]


def test_crowded_buckets_leave_no_leak_that_looks_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_pairs, "AFFORDABLE", 100)
    monkeypatch.setattr(near_pairs, "FREE_COMPARISONS", 10)
    texts, codes = templated(400)
    grams = gram_sets([q for q, _ in texts])
    train, test = ([i for i, code in enumerate(codes) if code == side] for side in (TRAIN, TEST))
    truth = {(a, b) for a, b in product(train, test) if jaccard(grams[a], grams[b]) >= 0.8}
    warned = find(texts, codes, tmp_path, Leaks(near="warn"))
    leaking = {b for _, b in truth}
    assert leaking <= {row.row for row in warned.leaked}
    count = next(c for c in warned.report.counts if c.kind == "near" and c.by == "prompt")
    assert count.at_least
    assert 0 < count.pairs <= len(truth)
    dropping = find(texts, codes, tmp_path, Leaks(near="drop_from_train"))
    assert {a for a, _ in truth} <= set(dropping.dropped.tolist())
    assert dropping.report.leaked == {}


@pytest.mark.parametrize("quantile", [0.9, 1.0])
def test_texts_that_are_almost_near_to_many_are_open(
    quantile: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each only so many comparisons are made in vain."""
    monkeypatch.setattr(near_pairs, "FREE_COMPARISONS", 50)
    texts, codes = templated(400, below=10**14)
    grams = gram_sets([q for q, _ in texts])
    similar = [jaccard(one, other) for one, other in combinations(grams, 2)]
    done = near_search(texts, codes, float(np.quantile(similar, quantile)) + 0.005)
    assert bool(len(done.first)) == (quantile < 1)
    assert done.compared <= 50 + near_pairs.COMPARISONS * 400
    assert not done.complete
    assert done.first_open.any() and done.second_open.any()
    assert not (done.first_open & done.first_near).any()


def test_what_could_not_be_settled_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that share bands with many, and are near none of those they were compared with."""
    monkeypatch.setattr(near_pairs, "AFFORDABLE", 0)
    monkeypatch.setattr(near_pairs, "BUCKET", 1)
    monkeypatch.setattr(near_pairs, "TRIES", 1)
    texts, codes = templated(300)
    found = find(texts, codes, tmp_path, Leaks(near="warn", threshold=0.95))
    kinds = {row.kind for row in found.leaked}
    assert "unsettled" in kinds
    marked = sum(row.kind == "unsettled" for row in found.leaked)
    assert found.report.unsettled == {"test": marked}
    dropping = find(texts, codes, tmp_path, Leaks(near="drop_from_train", threshold=0.95))
    assert 0 < dropping.report.unsettled["train"] <= dropping.report.dropped


def test_one_prompt_in_every_row(tmp_path: Path) -> None:
    texts = [(HELD_OUT, answer(number)) for number in range(3000)]
    codes = [number % 3 for number in range(3000)]
    found = find(texts, codes, tmp_path)
    assert counted(found, "exact", "prompt", "train", "test") == (1_000_000, 1000, 1000)
    assert counted(found, "near", "prompt", "train", "test") == (0, 0, 0)
    assert found.dropped.tolist() == list(range(0, 3000, 3))
    assert 0 < found.report.listed <= LISTED


@pytest.mark.parametrize(
    "texts",
    [[], [("", "")] * 4, [("a", "b")] * 4, [("", "x")] * 4, [("\u200b", "\ud800")] * 4],
    ids=["no rows", "all empty", "one letter", "no prompts", "halves of characters"],
)
def test_degenerate_rows(texts: list[Row], tmp_path: Path) -> None:
    codes = [number % 3 for number in range(len(texts))]
    found = find(texts, codes, tmp_path)
    same = bool(texts) and any(compared_texts(*texts[0]))
    assert bool(len(found.dropped)) == same
    write_leaks(found, tmp_path, example_id=str)
    assert (tmp_path / PAIRS_FILE).is_file()


def test_a_partition_that_has_no_rows_is_compared_with_nothing(tmp_path: Path) -> None:
    found = find(with_answers(HELD_OUT, HELD_OUT), [TRAIN, TEST], tmp_path)
    assert {(c.first, c.second) for c in found.report.counts} == {("train", "test")}
    assert found.report.compared == {"train": 1, "test": 1}


POLICIES = {
    # exact, near: rows dropped, kinds of the leaked rows
    ("drop_from_train", "drop_from_train"): ([0, 1], []),
    ("drop_from_train", "warn"): ([0], ["near"]),
    ("drop_from_train", "ignore"): ([0], []),
    ("warn", "drop_from_train"): ([1], ["exact"]),
    ("warn", "warn"): ([], ["exact"]),
    ("error", "warn"): ([0], ["near"]),
    ("error", "error"): ([0, 1], []),
}


@pytest.mark.parametrize(("policies", "expected"), POLICIES.items())
def test_policies(
    policies: tuple[Any, Any], expected: tuple[list[int], list[str]], tmp_path: Path
) -> None:
    texts = with_answers(HELD_OUT, NEARLY, OTHER, HELD_OUT)
    found = find(
        texts, [TRAIN, TRAIN, TRAIN, TEST], tmp_path, Leaks(exact=policies[0], near=policies[1])
    )
    assert found.dropped.tolist() == expected[0]
    assert [(row.kind, row.row) for row in found.leaked] == [(kind, 3) for kind in expected[1]]
    assert {c.kind for c in found.report.refused} == {
        kind for kind, policy in zip(("exact", "near"), policies, strict=True) if policy == "error"
    }
    if policies[1] == "ignore":
        assert {c.kind for c in found.report.counts} == {"exact"}
    else:
        assert counted(found, "near", "prompt", "train", "test") == (1, 1, 1)


def test_a_row_that_is_near_only_to_dropped_rows_is_clean(tmp_path: Path) -> None:
    """Row 0 equals the validation row and is near the test row; as it goes, the test is clean."""
    texts = with_answers(HELD_OUT, OTHER, HELD_OUT, NEARLY)
    codes = [TRAIN, TRAIN, VALIDATION, TEST]
    found = find(texts, codes, tmp_path)
    assert found.dropped.tolist() == [0]
    assert found.leaked == ()
    kept = find(texts, codes, tmp_path, Leaks(exact="warn"))
    assert {(row.partition, row.kind) for row in kept.leaked} == {
        ("validation", "exact"),
        ("test", "near"),
    }


def test_a_row_that_equals_only_dropped_rows_is_clean(tmp_path: Path) -> None:
    """Row 0 equals the test row and is near the validation row, for which it goes."""
    texts = with_answers(HELD_OUT, OTHER, HELD_OUT, NEARLY)
    leaks = Leaks(exact="warn", near="drop_from_train")
    found = find(texts, [TRAIN, TRAIN, TEST, VALIDATION], tmp_path, leaks)
    assert found.dropped.tolist() == [0]
    assert found.leaked == ()


def test_answers_are_listed_and_acted_on_only_if_the_recipe_says(tmp_path: Path) -> None:
    texts = [(HELD_OUT, answer(1)), (OTHER, answer(1))]
    listed = find(texts, [TRAIN, TEST], tmp_path)
    assert counted(listed, "exact", "answer", "train", "test") == (1, 1, 1)
    assert len(listed.dropped) == 0 and listed.leaked == ()
    assert [p.first.text for p in listed.pairs] == [answer(1)]
    acted = find(texts, [TRAIN, TEST], tmp_path, Leaks(by=("prompt", "answer")))
    assert acted.dropped.tolist() == [0]
    policies = {c.policy for c in listed.report.counts if c.by == "answer"}
    assert policies == {"listed"}


def test_validation_and_test_are_counted_and_listed(tmp_path: Path) -> None:
    found = find(with_answers(HELD_OUT, HELD_OUT), [VALIDATION, TEST], tmp_path)
    (count,) = (c for c in found.report.counts if c.pairs)
    assert (count.first, count.second, count.policy) == ("validation", "test", "listed")
    assert len(found.dropped) == 0 and found.leaked == ()


def test_given_prompts_are_compared_with_train(tmp_path: Path) -> None:
    texts = with_answers(HELD_OUT, OTHER)
    samples = [Prompt(text="nothing alike"), Prompt(text=f" {NEARLY}\n")]
    found = find(texts, [TRAIN, TEST], tmp_path, extra={"samples": samples})
    assert counted(found, "near", "prompt", "train", "samples") == (1, 1, 1)
    (pair,) = found.pairs
    assert (pair.second.partition, pair.second.row) == ("samples", 1)
    assert pair.second.text == f" {NEARLY}\n"
    assert len(found.dropped) == 0
    assert found.report.compared == {"train": 1, "test": 1, "samples": 2}
    assert {c.by for c in found.report.counts if c.second == "samples"} == {"prompt"}
    write_leaks(found, tmp_path, example_id=lambda row: f"id-{row}")


def test_a_prompt_is_the_same_only_in_the_same_context(tmp_path: Path) -> None:
    """By prompt; equal answers are equal in any context."""
    one, other = '{"system": ["one passage"]}', '{"system": ["another passage"]}'
    texts = [(HELD_OUT, answer(1)), (NEARLY, answer(2)), (HELD_OUT, answer(3)), (HELD_OUT, "")]
    contexts = [one, one, other, other]
    leaks = Leaks(near="drop_from_train")
    found = find(texts, [TRAIN, TRAIN, TRAIN, TEST], tmp_path, leaks, contexts=contexts)
    assert found.dropped.tolist() == [2]
    assert counted(found, "near", "prompt", "train", "test") == (0, 0, 0)
    found = find(texts, [TEST, TRAIN, TRAIN, TRAIN], tmp_path, leaks, contexts=contexts)
    assert found.dropped.tolist() == [1]
    asked = {"samples": [Prompt(text=HELD_OUT), Prompt(text=HELD_OUT, context=other)]}
    found = find(texts, [TRAIN] * 4, tmp_path, leaks, extra=asked, contexts=contexts)
    assert counted(found, "exact", "prompt", "train", "samples") == (2, 2, 1)
    assert counted(found, "near", "prompt", "train", "samples") == (0, 0, 0)
    texts = [(HELD_OUT, answer(1)), (OTHER, answer(1))]
    found = find(texts, [TRAIN, TEST], tmp_path, contexts=[one, other])
    assert counted(found, "exact", "answer", "train", "test") == (1, 1, 1)


def test_contexts_part_rows_of_one_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly equal questions, each in a context of its own: nothing leaks, nothing is open."""
    monkeypatch.setattr(near_pairs, "AFFORDABLE", 0)
    texts, codes = templated(400)
    contexts = [f'{{"system": ["passage {number}"]}}' for number in range(400)]
    leaks = Leaks(near="drop_from_train", threshold=0.5)
    assert len(find(texts, codes, tmp_path, leaks).dropped)
    found = find(texts, codes, tmp_path, leaks, contexts=contexts)
    assert (len(found.dropped), found.pairs, found.report.unsettled) == (0, (), {})


def test_row_numbers_need_not_be_in_order(tmp_path: Path) -> None:
    """Batches may come with gaps: rows that were dropped before are not there."""
    from runner.data.leaks.leak_finder import LeakFinder
    from runner.data.leaks.near_duplicates import fingerprints

    texts = {90: (HELD_OUT, "a"), 7: (OTHER, "b"), 30: (NEARLY, "c")}
    finder = LeakFinder(Leaks(), tmp_path)
    for number, code in ((90, TRAIN), (7, TRAIN), (30, TEST)):
        keys = fingerprints([texts[number][0]], [texts[number][1]], [""], Leaks())
        finder.add(np.array([number]), np.array([code], dtype=np.int8), keys)
    found = finder.find(lambda numbers: [texts[n] for n in numbers])
    (pair,) = found.pairs
    assert (pair.first.row, pair.second.row) == (90, 30)
    assert [row.row for row in found.leaked] == [30]


def test_the_files(tmp_path: Path) -> None:
    from pyarrow import parquet

    texts = with_answers(HELD_OUT, NEARLY, "\ud800 half", HELD_OUT, "\ud800 half")
    found = find(texts, [TRAIN, TRAIN, TRAIN, TEST, TEST], tmp_path, Leaks(exact="warn"))
    write_leaks(found, tmp_path, example_id=lambda row: f"id-{row}")
    pairs = parquet.ParquetFile(tmp_path / PAIRS_FILE).read().to_pylist()
    assert [p["similarity"] for p in pairs] == sorted(p["similarity"] for p in pairs)[::-1]
    assert pairs[-1] == {
        "kind": "near", "by": "prompt", "similarity": pytest.approx(0.91, abs=0.04),
        "first_partition": "train", "first_row": 1, "first_example_id": "id-1",
        "first_text": NEARLY,
        "second_partition": "test", "second_row": 3, "second_example_id": "id-3",
        "second_text": HELD_OUT,
    }  # fmt: skip
    leaked = parquet.ParquetFile(tmp_path / LEAKED_FILE).read().to_pylist()
    assert leaked == [
        {"partition": "test", "example_id": "id-3", "row": 3, "kind": "exact"},
        {"partition": "test", "example_id": "id-4", "row": 4, "kind": "exact"},
    ]


def test_the_report_comes_back_from_json(tmp_path: Path) -> None:
    found = find(with_answers(HELD_OUT, HELD_OUT), [TRAIN, TEST], tmp_path)
    values = asdict(found.report)
    assert leak_report_from_json(values) == found.report
    with pytest.raises(TypeError):
        leak_report_from_json({**values, "more": 1})


def test_the_same_rows_give_the_same_result(tmp_path: Path) -> None:
    texts = rows(600)
    texts += [(EDITS[i % 5](texts[i][0], random.Random(i)), texts[i][1]) for i in range(200)]
    codes = [place % 7 % 3 for place in range(len(texts))]
    one, other = (find(texts, codes, tmp_path) for _ in range(2))
    assert all_of(one) == all_of(other)
    assert one.report.listed > 100


def all_of(found: FoundLeaks) -> Any:
    return found.report, found.pairs, found.leaked, found.dropped.tolist()


ALPHABET = st.text("aA b\u00a0\t1", max_size=6)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(ALPHABET, ALPHABET, st.integers(0, 2)), max_size=14), st.booleans())
def test_no_equal_row_is_ever_missed(
    tmp_path: Path, drawn: list[tuple[str, str, int]], warn: bool
) -> None:
    texts, codes = [(q, a) for q, a, _ in drawn], [code for *_, code in drawn]
    leaks = Leaks(shortest_answer=3, by=("prompt", "answer"), exact="warn" if warn else "error")
    found = find(texts, codes, tmp_path, leaks)
    compared = [compared_texts(*row) for row in texts]
    give_away = set()
    for a, b in product(range(len(texts)), repeat=2):
        same = [
            x == y and len(x) >= least
            for x, y, least in zip(compared[a], compared[b], (1, 3), strict=True)
        ]
        if codes[a] == TRAIN and codes[b] != TRAIN and any(same):
            give_away.add((a, b))
    if warn:
        marked = {row.row for row in found.leaked if row.kind == "exact"}
        assert marked == {b for _, b in give_away}
    else:
        assert found.dropped.tolist() == sorted({a for a, _ in give_away})
    assert sum(c.pairs for c in found.report.counts if c.kind == "exact") == sum(
        codes[a] < codes[b] and x == y and len(x) >= least
        for a, b in product(range(len(texts)), repeat=2)
        for x, y, least in zip(compared[a], compared[b], (1, 3), strict=True)
    )


def edited(chance: random.Random) -> tuple[list[Row], list[int]]:
    base = [prompt(chance, 6, 14) for _ in range(8)]
    texts = [(chance.choice(EDITS)(chance.choice(base), chance), "") for _ in range(60)]
    return texts, [chance.randrange(3) for _ in texts]


@pytest.mark.parametrize("seed", range(8))
def test_near_pairs_are_those_of_brute_force(seed: int, tmp_path: Path) -> None:
    texts, codes = edited(random.Random(seed))
    names = ("train", "validation", "test")
    found = find(texts, codes, tmp_path, Leaks(threshold=0.7))
    grams = gram_sets([compared_texts(*row)[0] for row in texts])
    truth: Callable[[int, int], bool] = lambda a, b: (  # noqa: E731 - used here alone
        compared_texts(*texts[a])[0] != compared_texts(*texts[b])[0]
        and jaccard(grams[a], grams[b]) >= 0.7
    )
    expected = {
        (names[codes[a]], names[codes[b]], a, b)
        for a, b in product(range(len(texts)), repeat=2)
        if codes[a] < codes[b] and truth(a, b)
    }
    number = sum(c.pairs for c in found.report.counts if c.kind == "near")
    assert 0.97 * len(expected) <= number <= len(expected)
    for pair in found.pairs:
        if pair.kind == "near":
            rows_of_pair = pair.first.row, pair.second.row
            assert (pair.first.partition, pair.second.partition, *rows_of_pair) in expected
            assert pair.similarity == pytest.approx(
                jaccard(grams[pair.first.row], grams[pair.second.row])
            )
