"""``proofbox report``: write the HTML report again from the stored records."""

from __future__ import annotations

from pathlib import Path

from runner.errors import ExitCode
from runner.run_folder import held, open_run


def report(run: Path, *, out: Path | None) -> ExitCode:
    """Write the report of a run and print its path."""
    from reports.run_report import write_run_report

    folder = open_run(run)
    target = out or folder.report
    with held(folder):
        write_run_report(folder.path, target)
    print(target)  # noqa: T201 - the command's output
    return ExitCode.PASS
