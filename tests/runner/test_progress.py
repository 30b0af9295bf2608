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


def terminal() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160, color_system=None, soft_wrap=True)
    return console, out


def test_a_bar_inside_another_is_shown_below_it() -> None:
    """Two displays at once are refused by rich; training and its validation are two bars."""
    console, out = terminal()
    progress = Progress(console=console)
    with progress.bar("training", tells_time=True) as train:
        train(3, 10, "loss 1.234, 12 min left")
        with progress.bar("validation") as validate:
            validate(5, 20, "[b]half\x1b[2J")
            progress._shown.refresh()  # type: ignore[union-attr]
        shown = out.getvalue()
        assert [name in shown for name in ("training", "3/10", "validation", "5/20")] == [True] * 4
        assert "[b]half\\x1b[2J" in shown
        assert len(progress._shown.tasks) == 1  # type: ignore[union-attr]
    assert progress._shown is None
    with progress.bar("again") as again:
        again(1, 1, "")


def test_the_time_left_is_told_once() -> None:
    console, out = terminal()
    progress = Progress(console=console)
    with progress.bar("training", tells_time=True) as train:
        train(3, 10, "12 min left")
        progress._shown.refresh()  # type: ignore[union-attr]
    assert out.getvalue().count(" left") == out.getvalue().count("12 min left") > 0
    with progress.bar("preparing") as prepare:
        prepare(3, 10, "")
        progress._shown.refresh()  # type: ignore[union-attr]
    assert "-:--:-- left" in out.getvalue()


def test_without_a_terminal_an_inner_bar_has_lines_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    progress = Progress(console=Console(file=out, highlight=False, soft_wrap=True))
    monkeypatch.setattr("runner.progress.PLAIN_INTERVAL", 0.0)
    with progress.bar("training") as train, progress.bar("validation") as validate:
        train(3, 10, "loss 1.234")
        validate(5, 20, "")
    assert out.getvalue() == "  training: 3 of 10 loss 1.234\n  validation: 5 of 20\n"
