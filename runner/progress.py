"""What a user sees while a run works: bars on a terminal, plain lines elsewhere, all in run.log.

Messages hold names and values of files; nothing of them can make a terminal do anything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from runner.inert_text import inert

# Seconds between two plain lines of one stage where there is no terminal.
PLAIN_INTERVAL = 15.0
Advance = Callable[[int, int, str], None]


class Progress:
    """Announcements and bars of one process."""

    def __init__(self, log: Path | None = None, console: Console | None = None) -> None:
        """Write to ``console`` (standard error if None) and append to ``log``."""
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.log = log
        self._shown: RichProgress | None = None  # what the outermost bar opened

    def announce(self, text: str) -> None:
        """One line that a reader should not miss."""
        self.console.print(inert(text), markup=False, emoji=False)
        self._append(text)

    def note(self, text: str) -> None:
        """One line for run.log alone."""
        self._append(text)

    @contextmanager
    def bar(self, title: str, *, tells_time: bool = False) -> Iterator[Advance]:
        """A bar called with (done, total, text); a plain line now and then without a terminal.

        A bar inside another is shown below it until it ends. ``tells_time``: the text says how much
        time is left, so the bar itself does not.
        """
        if not self.console.is_terminal:
            yield PlainLines(title, self.announce)
            return
        with self._display() as rich:
            task = rich.add_task(title, total=None, note="", tells_time=tells_time)
            try:
                yield lambda done, total, text: rich.update(
                    task, completed=done, total=total or None, note=inert(text)
                )
            finally:
                rich.remove_task(task)

    @contextmanager
    def _display(self) -> Iterator[RichProgress]:
        """The display that is there already, or a new one: a terminal has room for one."""
        if self._shown is not None:
            yield self._shown
            return
        with _rich_bar(self.console) as rich:
            self._shown = rich
            try:
                yield rich
            finally:
                self._shown = None

    def _append(self, text: str) -> None:
        if self.log is None:
            return
        with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {inert(text)}\n")


class PlainLines:
    """A bar for logs and CI: a line at most every ``PLAIN_INTERVAL`` seconds."""

    def __init__(self, title: str, announce: Callable[[str], None]) -> None:
        """Start the clock."""
        self.title = title
        self.announce = announce
        self.last = time.monotonic()

    def __call__(self, done: int, total: int, text: str) -> None:
        """Announce, if it is time to."""
        now = time.monotonic()
        if now - self.last >= PLAIN_INTERVAL and (done < total or not total):
            self.last = now
            of = f" of {total:,}" if total else ""
            self.announce(f"  {self.title}: {done:,}{of} {text}".rstrip())


class _TimeLeft(TimeRemainingColumn):
    """Rich's estimate, where the text has none of its own."""

    def render(self, task: Task) -> Text:
        """``· 0:03:12 left``, or nothing."""
        if task.fields["tells_time"]:
            return Text("·")
        return Text.assemble("· ", super().render(task), " left")


def _rich_bar(console: Console) -> RichProgress:
    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _TimeLeft(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=True,
    )


def print_error(text: str) -> None:
    """A user's error on standard error: no markup, no traceback, no wrapping, no controls."""
    sys.stderr.write(inert(text.rstrip("\n")) + "\n")
