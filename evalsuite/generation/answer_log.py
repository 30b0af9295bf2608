"""Answers kept on disk as they are made, so that an evaluation that is killed goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalsuite.errors import EvidenceError
from evalsuite.generation.answer import Answer
from evalsuite.generation.request import Request
from evalsuite.record_files import from_json


class AnswerLog:
    """Answers of one task as JSON lines that are only ever appended.

    Whoever names the file sees to it that it is used for the very same model, prompts and settings.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read what is there; None keeps nothing. A torn end, as a kill leaves it, is cut off."""
        self._path = path
        self._answers: dict[tuple[str, int], Answer] = {}
        if path is not None and path.is_file():
            self._read(path)

    def answer(self, request: Request) -> Answer | None:
        """The answer that was kept for ``request``, or None."""
        return self._answers.get((request.example_id, request.number))

    def add(self, answers: Mapping[Request, Answer]) -> None:
        """Append ``answers`` and wait until they are on the disk."""
        new = {r: a for r, a in answers.items() if self.answer(r) != a}
        self._answers |= {(r.example_id, r.number): answer for r, answer in new.items()}
        if self._path is None or not new:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(b"".join(_line(request, answer) for request, answer in new.items()))
            file.flush()
            os.fsync(file.fileno())

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = 0
        for line in content.splitlines(keepends=True):
            try:
                name, answer = _entry(line)
            except (ValueError, KeyError, TypeError, EvidenceError):
                break
            self._answers[name] = answer
            whole += len(line)
        if whole < len(content):
            os.truncate(path, whole)


def _line(request: Request, answer: Answer) -> bytes:
    entry = {"example_id": request.example_id, "number": request.number, **asdict(answer)}
    return json.dumps(entry).encode() + b"\n"


def _entry(line: bytes) -> tuple[tuple[str, int], Answer]:
    """The name and the answer in a line.

    Raises:
        ValueError, KeyError, TypeError, EvidenceError: The line is not whole.
    """
    if not line.endswith(b"\n"):
        raise ValueError("the line has no end")
    entry: Any = json.loads(line)
    if not isinstance(entry, dict):
        raise TypeError("the line holds no object")
    name = (str(entry.pop("example_id")), int(entry.pop("number")))
    return name, from_json(Answer, entry, "answer")
