"""A JSON array read element by element, so that a big file needs little memory."""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator
from json import JSONDecodeError, JSONDecoder
from typing import Any, BinaryIO

from runner.data.reading.row_faults import RowFaults

PIECE = 1 << 20  # bytes read at a time; more where one element is longer
# An element that goes on in the next piece fails at most this far before the end of what was read:
# the longest literal (-Infinity) or escape (\uD83D) has fewer characters.
_NEAR = 16
_SPACE = re.compile(r"[ \t\n\r]*")


def read_array(
    file: BinaryIO, name: str, faults: RowFaults
) -> Generator[tuple[str, Any], None, None]:
    """Each element of the array in ``file`` with its place, as ``rows.json:3:5``.

    The first thing that is not JSON goes into ``faults`` and ends the reading.
    """
    window = _Window(file)
    try:
        yield from _elements(window, name)
    except JSONDecodeError as error:
        faults.add(f"not JSON: {error.msg}", f"{name}:{window.place(error.pos)}")
    except UnicodeDecodeError as error:
        faults.add("not UTF-8", f"{name}:{window.place_after(error)}")
    except ValueError:  # an integer of thousands of digits
        faults.add("a number is too long", f"{name}:{window.place(window.at)}")
    except RecursionError:
        faults.add("JSON nested too deeply", f"{name}:{window.place(window.at)}")


def _elements(window: _Window, name: str) -> Generator[tuple[str, Any], None, None]:
    window.expect("[")
    if window.next() == "]":
        window.expect("]")
    else:
        while True:
            window.next()
            yield f"{name}:{window.place(window.at)}", window.element()
            if window.next() == "]":
                window.expect("]")
                break
            window.expect(",")
    if window.next():
        raise JSONDecodeError("Extra data", window.text, window.at)


class _Window:
    """The part of a text that is being read: ``text`` from ``at`` on is still to come."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._scan = JSONDecoder().raw_decode
        self._ended = False
        self.text = ""
        self.at = 0
        # Of the character ``text[counted]``: its line, and how far before ``text`` that began.
        self._counted, self._line, self._line_start = 0, 1, 0

    def next(self) -> str:
        """The next character that is no white space, or an empty text at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more(PIECE):
                return ""

    def expect(self, character: str) -> None:
        """Go over ``character``, which must come next."""
        if self.next() != character:
            raise JSONDecodeError(f"Expecting '{character}'", self.text, self.at)
        self.at += 1

    def element(self) -> Any:  # noqa: ANN401 - any JSON value
        """Read one value that begins here."""
        size = PIECE
        while True:
            try:
                value, end = self._scan(self.text, self.at)
            except JSONDecodeError as error:
                failed = error
            else:
                if end < len(self.text) or self.text[end - 1] in '}]"' or not self._more(size):
                    self.at = end
                    return value
                continue  # a number may go on
            if not self._may_go_on(failed) or not self._more(size):
                raise failed
            size *= 2  # so that a long element is not read again and again

    def _may_go_on(self, error: JSONDecodeError) -> bool:
        return "Unterminated string" in error.msg or error.pos > len(self.text) - _NEAR

    def _more(self, size: int) -> bool:
        """Read on, and let go of what was read; whether there was more."""
        if self._ended:
            return False
        read = self._file.read(size)
        if not read:
            self._ended = True
            self._decode(b"", True)  # refuses a character of which only a part came
            return False
        self._count_to(self.at)
        self.text = self.text[self.at :] + self._decode(read)
        self._line_start -= self.at
        self._counted = self.at = 0
        return True

    def place(self, position: int) -> str:
        """Line and column, from 1, of a position at or after ``at``."""
        self._count_to(position)
        return f"{self._line}:{position - self._line_start + 1}"

    def place_after(self, error: UnicodeDecodeError) -> str:
        """Line and column of the byte that is not UTF-8, in the piece read last."""
        self.text += error.object[: error.start].decode("utf-8-sig")
        return self.place(len(self.text))

    def _count_to(self, position: int) -> None:
        breaks = self.text.count("\n", self._counted, position)
        if breaks:
            self._line += breaks
            self._line_start = self.text.rfind("\n", self._counted, position) + 1
        self._counted = position
