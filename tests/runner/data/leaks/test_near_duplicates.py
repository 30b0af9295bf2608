from __future__ import annotations

import json
import pickle
import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.leaks.near_duplicates import (
    GRAM,
    HASHES,
    RECALL,
    SKETCH,
    Fingerprints,
    agreement,
    band_layout,
    compared_texts,
    fingerprints,
    gram_sets,
    jaccard,
    least_agreement,
    normalized,
)
from runner.recipe import Leaks

from . import leak_rows

VARIANTS = {
    "composed and decomposed": ("café à la carte", unicodedata.normalize("NFD", "café à la carte")),
    "compatibility letters": ("the \ufb01rst \uff57ide \u2460", "the first wide 1"),
    "white space": ("a b c", "  a\t\nb\u00a0\u2003c \r\n"),
    "invisible characters": ("passport", "pass\u00adp\u200bort\ufeff"),
    "a mark that an invisible one parts": ("é", "e\u200b\u0301"),
}


def prompt_key(text: str) -> tuple[int, ...]:
    return tuple(fingerprints([text], [""], [""], Leaks()).prompt.exact[0].tolist())


@pytest.mark.parametrize(("one", "other"), VARIANTS.values(), ids=VARIANTS)
def test_texts_that_look_the_same_are_equal(one: str, other: str) -> None:
    assert one != other
    assert normalized(one) == normalized(other)
    assert prompt_key(one) == prompt_key(other) != (0, 0)


@pytest.mark.parametrize("other", ["value N", "value n.", "valuen", "val ue n", "value m"])
def test_other_texts_are_not_equal(other: str) -> None:
    assert prompt_key("value n") != prompt_key(other)


@given(st.text())
def test_normalizing_again_changes_nothing(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)


@given(st.text(st.characters(codec=None), max_size=20), st.text(max_size=20))
def test_any_text_has_keys(text: str, other: str) -> None:
    made = fingerprints([text], [other * 9], [""], Leaks(shortest_answer=5))
    assert bool(made.prompt.exact.any()) == bool(normalized(text) or normalized(other * 9))


def test_short_answers_and_empty_prompts_have_no_key() -> None:
    made = fingerprints(["", " \u200b", "a"], ["", "x" * 49, "x" * 50], [""] * 3, Leaks())
    assert made.answer.exact.any(axis=1).tolist() == [False, False, True]
    assert made.prompt.exact.any(axis=1).tolist() == [False, True, True]
    assert not made.answer.bands[:2].any()


def test_a_row_without_a_prompt_is_known_by_its_whole_text() -> None:
    assert compared_texts("", "the whole text") == ("the whole text", "the whole text")


def test_near_ignore_makes_no_bands() -> None:
    made = fingerprints(["a b c"], ["d e f"], [""], Leaks(near="ignore"))
    assert made.prompt.bands.shape == (1, 0)
    assert made.prompt.exact.any()


def test_no_rows() -> None:
    made = fingerprints([], [], [], Leaks())
    assert made.prompt.exact.shape == (0, 2)
    assert made.prompt.bands.shape == (0, band_layout(Leaks().threshold).bands)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_bands_find_what_they_promise(threshold: float) -> None:
    layout = band_layout(threshold)
    assert layout.bands * layout.hashes <= HASHES
    assert 1 - (1 - threshold**layout.hashes) ** layout.bands >= RECALL


def similar_pair(share: float, size: int, chance: random.Random) -> tuple[str, str]:
    """Two texts of the Jaccard similarity ``share`` in grams that never overlap."""
    common = round(2 * size * share / (1 + share))
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"

    def grams(count: int) -> list[str]:
        return ["".join(chance.choices(letters, k=60)) for _ in range(count)]

    shared = grams(common)
    return " ".join(shared + grams(size - common)), " ".join(shared + grams(size - common))


@pytest.mark.parametrize("threshold", [0.6, 0.8])
def test_candidates_of_real_texts_follow_the_formula(threshold: float) -> None:
    chance = random.Random(4)
    pairs = [similar_pair(threshold, 12, chance) for _ in range(400)]
    first, second = (
        fingerprints(
            [p[side] for p in pairs], [""] * 400, [""] * 400, Leaks(threshold=threshold)
        ).prompt
        for side in (0, 1)
    )
    similarity = [jaccard(*gram_sets(pair)) for pair in pairs]
    assert np.mean(similarity) == pytest.approx(threshold, abs=0.06)
    layout = band_layout(threshold)
    expected = np.mean([1 - (1 - s**layout.hashes) ** layout.bands for s in similarity])
    shared = (first.bands == second.bands).any(axis=1).mean()
    assert shared == pytest.approx(expected, abs=0.03)
    parts = agreement(first.sketches, second.sketches)
    assert parts.mean() == pytest.approx(HASHES * (1 + 3 * np.mean(similarity)) / 4, abs=1.5)
    near = np.array(similarity) >= threshold
    assert (parts[near] >= least_agreement(threshold)).all()


def test_sketches_agree_part_by_part() -> None:
    whole = np.zeros((1, SKETCH), dtype=np.uint64)
    for part, bits, place in ((1, 1, 0), (1, 2, 0), (1, 3, 0), (2, 0b1001, 1)):
        other = whole.copy()
        other[0, place] = bits
        assert agreement(whole, other).tolist() == [HASHES - part]


def grams_of(text: str) -> set[str]:
    folded = normalized(text).casefold()
    return {folded[i : i + GRAM] for i in range(max(1, len(folded) - GRAM + 1))}


@settings(max_examples=200)
@given(st.lists(st.text("ab é\u4e2d😀", max_size=14), min_size=1, max_size=6))
def test_similarity_is_that_of_the_sets_of_grams(texts: list[str]) -> None:
    sets = gram_sets([normalized(text) for text in texts])
    for text, hashed in zip(texts, sets, strict=True):
        for other, other_hashed in zip(texts, sets, strict=True):
            one, two = grams_of(text), grams_of(other)
            expected = len(one & two) / len(one | two)
            assert jaccard(hashed, other_hashed) == pytest.approx(expected)


def test_keys_do_not_depend_on_the_batch() -> None:
    rows = leak_rows.rows(40)

    def keys(size: int) -> list[Fingerprints]:
        parts = [rows[low : low + size] for low in range(0, 40, size)]
        return [
            fingerprints([q for q, _ in p], [a for _, a in p], [""] * len(p), Leaks())
            for p in parts
        ]

    for name in ("exact", "bands", "sketches"):
        for by in ("prompt", "answer"):
            one, many = (
                np.concatenate([getattr(getattr(k, by), name) for k in keys(size)])
                for size in (40, 7)
            )
            assert (one == many).all()


def test_keys_are_small_to_send() -> None:
    rows = leak_rows.rows(500)
    made = fingerprints([q for q, _ in rows], [a for _, a in rows], [""] * 500, Leaks())
    assert len(pickle.dumps(made)) < 500 * 250


def test_pinned_keys() -> None:
    """Keys decide what is found: a change here, or in rensa, is a change of results."""
    made = fingerprints(
        ["Write a function that adds two numbers."], ["def"], [""], Leaks(threshold=0.8)
    ).prompt
    assert made.exact[0].tolist() == [15933884089699125125, 6351588007565615492]
    assert made.bands[0, :3].tolist() == [545514973, 2373079174, 3366466184]


def test_a_context_parts_equal_texts_and_keeps_what_is_alike_in_it() -> None:
    """Bands and sketches of one context agree as without; those of two are strangers."""
    texts = ["Write a function that adds two numbers.", "Write a function that adds 2 numbers."] * 3
    contexts = ["", "", *['{"system": ["a b"]}'] * 2, *['{"system": ["c"]}'] * 2]
    made = fingerprints(texts, ["x" * 60] * 6, contexts, Leaks())
    keys = made.prompt
    assert len({tuple(key) for key in keys.exact.tolist()}) == 6
    for a in (2, 4):
        assert ((keys.bands[a] == keys.bands[a + 1]) == (keys.bands[0] == keys.bands[1])).all()
        one, other = (agreement(keys.sketches[[i]], keys.sketches[[i + 1]]) for i in (0, a))
        assert one == other
    for a, b in ((0, 2), (0, 4), (2, 4)):
        assert not (keys.bands[a] == keys.bands[b]).any()
        assert agreement(keys.sketches[[a]], keys.sketches[[b]]) < least_agreement(0.5)
    assert len({tuple(key) for key in made.answer.exact.tolist()}) == 1
    assert (made.answer.bands == made.answer.bands[0]).all()


def test_contexts_are_compared_normalized() -> None:
    contexts = [json.dumps({"system": [text]}) for text in ("a\n b", " a b", "a\u200b b", "a B")]
    keys = fingerprints(["q"] * 4, [""] * 4, contexts, Leaks()).prompt
    assert len({tuple(key) for key in keys.exact[:3].tolist()}) == 1
    assert (keys.bands[:3] == keys.bands[0]).all()
    assert (keys.exact[3] != keys.exact[0]).any()


def test_no_text_is_read_as_a_context() -> None:
    keys = fingerprints(["q", 'q\0{"system": ["a"]}'], [""] * 2, ['{"system": ["a"]}', ""], Leaks())
    assert (keys.prompt.exact[0] != keys.prompt.exact[1]).any()


def test_taken_rows_have_the_keys_that_they_have_alone() -> None:
    texts = ["a b c", "one two three", "x"]
    contexts = ["", '{"system": ["a"]}', ""]
    chosen = np.array([False, True, True])
    taken = fingerprints(texts, texts, contexts, Leaks(shortest_answer=1)).take(chosen)
    alone = fingerprints(texts[1:], texts[1:], contexts[1:], Leaks(shortest_answer=1))
    assert taken.characters == alone.characters == 2 * (len(texts[1]) + 1)
    for by in ("prompt", "answer"):
        for name in ("exact", "bands", "sketches"):
            one, other = (getattr(getattr(keys, by), name) for keys in (taken, alone))
            assert (one == other).all()
            assert len(one) == 2
