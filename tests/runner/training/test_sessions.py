"""Wall time of a training over all processes that worked on it, killed ones included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.training import sessions
from runner.training.sessions import Session, SessionClock, session, stored_sessions


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that is set by hand."""
    now = {"seconds": 100.0}
    monkeypatch.setattr(sessions.time, "monotonic", lambda: now["seconds"])
    return now


def test_a_killed_session_counts_up_to_its_last_note(tmp_path: Path, clock: Any) -> None:
    killed = SessionClock(tmp_path, first=0)
    for step in range(1, 9):
        clock["seconds"] += 2.0
        killed.beat(step)
    # Notes are made every five seconds: after steps 3 and 6. The last two steps are lost.
    assert stored_sessions(tmp_path) == (Session(first=0, last=6, seconds=12.0),)
    with session(tmp_path, first=4) as again:
        clock["seconds"] += 3.0
        again.beat(5)
    assert stored_sessions(tmp_path) == (
        Session(first=0, last=6, seconds=12.0),
        Session(first=4, last=5, seconds=3.0),
    )
    assert again.sessions == stored_sessions(tmp_path)


def test_a_session_that_ends_in_an_error_is_noted(tmp_path: Path, clock: Any) -> None:
    with pytest.raises(KeyboardInterrupt), session(tmp_path, first=0) as interrupted:
        clock["seconds"] += 1.5
        interrupted.beat(2)
        raise KeyboardInterrupt
    assert stored_sessions(tmp_path) == (Session(first=0, last=2, seconds=1.5),)


def test_nothing_noted_is_no_session(tmp_path: Path) -> None:
    assert stored_sessions(tmp_path) == ()
