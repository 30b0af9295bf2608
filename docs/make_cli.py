"""Writes docs/cli.md from the command line's own help: python docs/make_cli.py."""

from __future__ import annotations

import os
from pathlib import Path

TARGET = Path(__file__).resolve().parent / "cli.md"
INTRODUCTION = """# Command line

Made from the commands' own help by `python docs/make_cli.py`; a test holds it equal.
Exit codes: [exit-codes.md](exit-codes.md).
"""


def cli_markdown() -> str:
    """Help of the program and of every visible command."""
    os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = "90"
    from typer.testing import CliRunner

    from runner.cli import app

    def help_of(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--help"], prog_name="proofbox")
        return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())

    names = [command.name or command.callback.__name__ for command in app.registered_commands
             if command.callback and not command.hidden]  # fmt: skip
    parts = [INTRODUCTION, f"```\n{help_of()}\n```\n"]
    parts += [f"## proofbox {name}\n\n```\n{help_of(name)}\n```\n" for name in names]
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(cli_markdown(), encoding="utf-8")
