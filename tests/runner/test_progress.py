"""What is printed and logged: messages as they are, and nothing that a terminal obeys."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from runner.progress import Progress, print_error

HOSTILE = "column '\x1b]0;owned\x07\x1b[2J\r\x9b\u202ename' is there twice:\n\trow 1 [b]:cat:"
SPELT = r"column '\x1b]0;owned\x07\x1b[2J\r\x9b\u202ename' is there twice:" + "\n\trow 1 [b]:cat:"
PLAIN = "rows.jsonl:12: 'café 日本語' [x]\n  rows.jsonl:13: 👩\u200d🔬"


def test_an_error_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(HOSTILE)
    print_error(PLAIN + "\n")
    assert capsys.readouterr().err == f"{SPELT}\n{PLAIN}\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_announcements_and_the_log_cannot(tmp_path: Path, terminal: bool) -> None:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, highlight=False, soft_wrap=True, color_system=None
    )
    progress = Progress(tmp_path / "run.log", console)
    progress.announce(HOSTILE)
    progress.note(HOSTILE)
    progress.announce(PLAIN)
    assert out.getvalue().expandtabs() == f"{SPELT}\n{PLAIN}\n".expandtabs()
    logged = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert (logged.count(SPELT), logged.count(PLAIN)) == (2, 1)
    assert not {*logged} & {*"\x1b\x07\r\x9b\u202e"}


def test_half_a_character_can_be_logged(tmp_path: Path) -> None:
    Progress(tmp_path / "run.log").note("row \ud800")
    assert (tmp_path / "run.log").read_text(encoding="utf-8").endswith("row \\ud800\n")
