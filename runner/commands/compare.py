"""``proofbox compare``: runs side by side in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.errors import ExitCode, UsageError
from runner.run_folder import open_run


def compare(runs: Sequence[Path]) -> ExitCode:
    """Print what differs between the runs' recipes and between their figures.

    Raises:
        UsageError: fewer than two runs.
    """
    from rich.console import Console

    from reports.comparison import compare_runs
    from reports.terminal import comparison_table

    if len(runs) < 2:  # noqa: PLR2004 - a comparison is of two
        raise UsageError("compare: name at least two run folders")
    folders = [open_run(run).path for run in runs]
    Console(highlight=False).print(comparison_table(compare_runs(folders)))
    return ExitCode.PASS
