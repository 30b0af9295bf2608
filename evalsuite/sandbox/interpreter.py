"""The Python that runs the programs: its command, and the places of it that a sandbox binds."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# No site packages (-S), no user's (-s), nothing of the working folder (-P), no bytecode (-B).
# -I would also ignore PYTHONHASHSEED, which makes sets iterate alike in every run.
FLAGS = ("-s", "-P", "-S", "-B", "-X", "utf8")
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
HARNESS = Path(__file__).with_name("harness.py")


@cache
def harness_arguments() -> tuple[str, ...]:
    """What follows the interpreter's name on the command line."""
    return (*FLAGS, "-c", HARNESS.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """This process's own Python, without its virtual environment.

    ``readable`` are the folders and files that it needs, ``links`` the symbolic links among them
    with what they say, ``hidden`` the folders of installed packages inside them.
    """

    executable: Path
    readable: tuple[Path, ...]
    links: tuple[tuple[Path, str], ...]
    hidden: tuple[Path, ...]


@cache
def this_interpreter() -> Interpreter:
    """Where this Python and its standard library are."""
    executable = Path(os.path.realpath(sys.executable))
    names = ("stdlib", "platstdlib")
    inside = {"installed_base": sys.base_prefix, "base": sys.base_prefix,
              "platbase": sys.base_exec_prefix}  # fmt: skip
    library = [Path(sysconfig.get_path(name, vars=inside)) for name in names]
    # Shared libraries of the system, and those beside the interpreter (libpython).
    system = [Path(p) for p in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")]
    prefixes = dict.fromkeys(map(Path, (sys.base_prefix, sys.base_exec_prefix)))
    beside = [prefix / name for prefix in prefixes for name in ("lib", "lib64")]
    wanted = [p for p in dict.fromkeys([*system, *beside, *library, executable]) if p.exists()]
    packages = [path / name for path in library for name in ("site-packages", "dist-packages")]
    debian = Path(sys.base_prefix) / "lib" / "python3" / "dist-packages"
    return Interpreter(
        executable=executable,
        readable=_outermost([path for path in wanted if not path.is_symlink()]),
        links=tuple((path, str(path.readlink())) for path in wanted if path.is_symlink()),
        hidden=tuple(path for path in dict.fromkeys([*packages, debian]) if path.is_dir()),
    )


def _outermost(paths: list[Path]) -> tuple[Path, ...]:
    """Those that are in no other one."""
    inside = {path for path in paths for other in paths if path != other and other in path.parents}
    return tuple(path for path in paths if path not in inside)
