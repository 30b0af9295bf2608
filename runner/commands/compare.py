"""``proofbox compare``: runs side by side in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.errors import ExitCode, UsageError
from runner.run_folder import open_finished_run


def compare(runs: Sequence[Path]) -> ExitCode:
    """Print what differs between the runs' recipes and between their figures.

    Ends with exit code 4 where no two of them may be compared.

    Raises:
        UsageError: fewer than two runs, or one of them twice.
    """
    from rich.console import Console

    from reports.comparison import compare_runs
    from reports.terminal import comparison_table

    if len(runs) < 2:  # noqa: PLR2004 - a comparison is of two
        raise UsageError("compare: name at least two run folders")
    folders = [open_finished_run(run).path for run in runs]
    for place, folder in enumerate(folders):
        if folder.resolve() in (other.resolve() for other in folders[:place]):
            raise UsageError(f"compare: {folder} is given twice; name each run once")
    comparison = compare_runs(folders)
    Console(highlight=False).print(comparison_table(comparison))
    return ExitCode.PASS if len(comparison.runs) > 1 else ExitCode.ENVIRONMENT
