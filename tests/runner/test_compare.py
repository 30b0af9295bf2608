"""`proofbox compare`: what is a wrong use of it."""

from __future__ import annotations

from typing import Any

from runner.cli import guarded
from runner.commands.compare import compare
from runner.run_folder import RunFolder


def test_a_run_that_is_given_twice_is_a_wrong_use(released_run: RunFolder, capsys: Any) -> None:
    # By its own path, and by that of the folder that holds no other.
    twice = [released_run.path, released_run.path.parent]
    assert guarded(lambda: compare(twice)) == 2
    assert "is given twice" in capsys.readouterr().err
    assert guarded(lambda: compare(twice[:1])) == 2
