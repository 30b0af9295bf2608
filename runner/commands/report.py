"""``proofbox report``: write the HTML report again from the stored records."""

from __future__ import annotations

from pathlib import Path

from runner.errors import ExitCode, UsageError
from runner.run_folder import held, open_finished_run


def report(run: Path, *, out: Path | None) -> ExitCode:
    """Write the report of a run and print its path."""
    from reports.run_report import write_run_report

    folder = open_finished_run(run)
    target = out or folder.report
    if target.is_dir():
        raise UsageError(f"--out {target}: this is a folder; name a file in it")
    with held(folder):
        write_run_report(folder.path, target)
    print(target)  # noqa: T201 - the command's output
    return ExitCode.PASS
