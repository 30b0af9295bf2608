"""What of the tokens is the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from evalsuite.generation import Answer
from evalsuite.generation.answer import AnswerReader, cut_before


class Words:
    """A tokenizer whose ids are places in a list of words; those in angle brackets are special."""

    words = (
        *("<stop>", "<channel>", "final", "<message>", "think", "</think>", " hello", "\n\n"),
        *(" world", "</think> hello", "a\n", "\nb"),
    )

    all_special_tokens = ("<stop>", "<channel>", "<message>")

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        special = {0, 1, 3}
        return "".join(self.words[i] for i in ids if not (skip_special_tokens and i in special))


def reader(marker: str = "", stop: Sequence[str] = ()) -> AnswerReader:
    tokenizer: Any = Words()
    return AnswerReader(
        tokenizer=tokenizer, stop_token_ids=frozenset({0}), stop=tuple(stop), marker=marker
    )


@pytest.mark.parametrize(
    ("marker", "ids", "text"),
    [
        ("", [4, 5, 7, 6, 0], "think</think>\n\n hello"),
        ("</think>", [4, 5, 7, 6, 8, 0], "hello world"),
        ("</think>", [4, 5, 6, 5, 8, 0], "world"),
        ("</think>", [6, 8, 0], " hello world"),
        ("</think>", [4, 9, 8, 0], "hello world"),
        ("</think>", [4, 5, 0], ""),
        ("<channel>final<message>", [1, 4, 3, 4, 1, 2, 3, 6, 8, 0], "hello world"),
        ("<channel>final<message>", [1, 2, 3, 0], ""),
    ],
)
def test_an_answer_begins_after_the_last_marker(marker: str, ids: list[int], text: str) -> None:
    assert reader(marker).read(ids) == Answer(text=text, token_ids=tuple(ids), finished=True)


def test_what_follows_the_stop_token_is_padding() -> None:
    assert reader().read([6, 0, 8, 8]) == Answer(text=" hello", token_ids=(6, 0), finished=True)


def test_an_answer_cut_off_by_the_limit_is_not_finished() -> None:
    assert reader().read([6, 8]) == Answer(text=" hello world", token_ids=(6, 8), finished=False)
    cut = reader("</think>").read([4, 5, 6])
    assert cut == Answer(text="hello", token_ids=(4, 5, 6), finished=False)


def test_thinking_that_the_limit_cuts_off_is_no_answer() -> None:
    cut = reader("</think>", stop=["think"]).read([4, 6, 8])
    assert cut == Answer(text="", token_ids=(4, 6, 8), finished=False, unfinished_thinking=True)


@pytest.mark.parametrize(
    ("ids", "text", "stopped"),
    [
        ([6, 7, 8], " hello", True),
        ([6, 8], " hello world", False),
        ([10, 11], "a", True),  # the stop string is made of two tokens
        ([10, 3, 11], "a", True),  # with one between them that gives no text
        ([4, 5, 0, 7], "think</think>", False),  # after the end there is only padding
    ],
)
def test_an_answer_ends_before_a_stop_string(ids: list[int], text: str, stopped: bool) -> None:
    read = reader(stop=["\n\n", "never"])
    answer = read.read(ids)
    assert (answer.text, answer.finished) == (text, stopped or 0 in ids)
    assert answer.token_ids == tuple(ids[: ids.index(0) + 1] if 0 in ids else ids)
    assert read.is_stopped([i for i in ids if i]) == (stopped or ids == [4, 5, 0, 7])


def test_stop_strings_are_looked_for_in_the_answer_and_not_in_the_reasoning() -> None:
    read = reader("</think>", stop=["\n\n"])
    assert not read.is_stopped([4, 7, 4])
    assert not read.is_stopped([4, 7, 5, 7, 6]), "the space before the answer is the template's"
    assert read.is_stopped([4, 7, 5, 6, 7])
    assert read.read([4, 7, 5, 7, 6, 7, 8]).text == "hello"


def test_a_stop_string_is_found_far_from_the_end_of_a_long_answer() -> None:
    """Every step looks at the end alone; what is read at the end is the whole."""
    read = reader(stop=["\n\n"])
    assert read.read([6, 7, *([8] * 200)]).text == " hello"


def test_the_first_of_several_stop_strings_counts() -> None:
    assert cut_before("one two three", ["three", "two", "four"]) == ("one ", True)
    assert cut_before("one", ["two"]) == ("one", False)
    assert cut_before("one", []) == ("one", False)


# Texts of a server that tells no tokens


@pytest.mark.parametrize(
    ("marker", "stop", "text", "finished", "expected"),
    [
        ("", [], " hello", True, (" hello", True, False)),
        ("", [], " hello", False, (" hello", False, False)),
        ("", ["lo"], " hello", False, (" hel", True, False)),
        ("", [], " hello<stop> world", False, (" hello", True, False)),
        ("</think>", ["x"], "think x</think>\n\nhello", True, ("hello", True, False)),
        ("</think>", [], "think", False, ("", False, True)),
        ("</think>", [], "hello", True, ("hello", True, False)),
        ("</think>", ["x"], "think x", False, ("", False, True)),
    ],
)
def test_a_text_is_read_like_tokens(
    marker: str, stop: list[str], text: str, finished: bool, expected: tuple[str, bool, bool]
) -> None:
    found = reader(marker, stop).read_text(text, finished=finished, counted_tokens=7)
    assert (found.text, found.finished, found.unfinished_thinking) == expected
    assert (found.token_ids, found.new_tokens) == ((), 7)
