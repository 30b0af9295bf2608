"""Answers on disk: what was made is not made again, and a torn end is nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from evalsuite.generation import Answer, AnswerLog, AnswerSettings, Request, answer_all
from evalsuite.records import Decoding

SETTINGS = AnswerSettings(
    decoding=Decoding(max_new_tokens=4), stop_token_ids=(2,), pad_token_id=0, seed=0
)
REQUESTS = [Request(example_id=f"e{n // 2}", number=n % 2, prompt_ids=(1, n)) for n in range(8)]


def made(place: int) -> Answer:
    # Line ends of Unicode that are none of JSON lines.
    return Answer(text=f"text {place}\u2028\x85\n", token_ids=(place, 2), finished=True)


class Engine:
    """Answers in batches of two, and may be killed before a batch."""

    def __init__(self, *, dies_before: int = 99) -> None:
        self.asked: list[int] = []
        self.dies_before = dies_before

    def identity(self) -> str:
        return "test"

    def note(self) -> str | None:
        return None

    def answer(
        self,
        requests: Sequence[Request],
        settings: AnswerSettings,
        *,
        done: frozenset[int] = frozenset(),
    ) -> Iterator[Mapping[int, Answer]]:
        for start in range(0, len(requests), 2):
            batch = [start, start + 1]
            if done.issuperset(batch):
                continue
            if start >= self.dies_before:
                raise KeyboardInterrupt
            self.asked += batch
            yield {place: made(place) for place in batch}


def test_answers_outlive_the_process_that_made_them(tmp_path: Path) -> None:
    path = tmp_path / "partial" / "task.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answer_all(Engine(dies_before=4), REQUESTS, SETTINGS, log=AnswerLog(path))
    again, seen = Engine(), []
    found = answer_all(again, REQUESTS, SETTINGS, log=AnswerLog(path), on_progress=seen.append)
    assert found == [made(place) for place in range(8)]
    assert again.asked == [4, 5, 6, 7]
    assert seen == [6, 8]
    third = Engine()
    assert answer_all(third, REQUESTS, SETTINGS, log=AnswerLog(path)) == found
    assert third.asked == []


@pytest.mark.parametrize("lost", range(1, 60, 7))
def test_a_torn_end_is_cut_off(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "task.jsonl"
    answer_all(Engine(), REQUESTS, SETTINGS, log=AnswerLog(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    log = AnswerLog(path)
    assert log.answer(REQUESTS[7]) is None
    assert log.answer(REQUESTS[6]) == made(6)
    again = Engine()
    found = answer_all(again, REQUESTS, SETTINGS, log=log)
    assert again.asked == [6, 7], "a batch is made again as a whole, in the same company"
    assert found == [made(place) for place in range(8)]
    assert path.read_bytes() == whole, "the torn line is gone, and no line is there twice"


@pytest.mark.parametrize(
    "line", [b"\0" * 40 + b"\n", b"{}\n", b"[1]\n", b'{"example_id": "e9"}\n', b"12\n"]
)
def test_what_is_no_answer_ends_the_log(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "task.jsonl"
    answer_all(Engine(), REQUESTS, SETTINGS, log=AnswerLog(path))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], line, *lines[4:]]))
    log = AnswerLog(path)
    assert [log.answer(request) is not None for request in REQUESTS] == [True] * 4 + [False] * 4
    assert path.read_bytes() == b"".join(lines[:4])


def test_a_line_is_whole_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    answer_all(Engine(), REQUESTS, SETTINGS, log=AnswerLog(path))
    lines = path.read_bytes().split(b"\n")
    assert len(lines) == 9 and lines[-1] == b""
    assert json.loads(lines[3]) == {
        "example_id": "e1", "number": 1, "text": "text 3\u2028\x85\n", "token_ids": [3, 2],
        "finished": True, "unfinished_thinking": False, "counted_tokens": None,
    }  # fmt: skip


def test_without_a_path_nothing_is_written(tmp_path: Path) -> None:
    answer_all(Engine(), REQUESTS, SETTINGS, log=AnswerLog())
    assert list(tmp_path.iterdir()) == []
