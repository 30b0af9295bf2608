"""The import table of ARCHITECTURE.md, held by reading every module's imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("runner", "evalsuite", "reports")
HEAVY = ("torch", "transformers", "datasets", "trl", "peft", "pandas", "evaluate")
# Where runner may use the other two packages: the pipeline with its stages, and the command line.
# Everywhere: names of metrics and figures; attention and positions, as in measuring.
JOINTS = (
    "runner/pipeline.py",
    "runner/stages.py",
    "runner/judgement.py",
    "runner/cli.py",
    "runner/commands/",
)
EVERYWHERE = (
    *("evalsuite.catalogue", "evalsuite.figures"),
    *("evalsuite.packed_attention", "evalsuite.positions"),
)


def imports_of(path: Path, *, top_level_only: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import; those for type checkers alone are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hints = {id(n) for block in ast.walk(tree) if _type_checking(block) for n in ast.walk(block)}
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if id(node) in hints:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{a.name}") for a in node.names)


def _type_checking(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def forbidden(place: str, name: str) -> bool:
    """Whether the module at ``place`` may not import ``name``."""
    package, top = place.split("/", maxsplit=1)[0], name.split(".", maxsplit=1)[0]
    if package == "evalsuite":
        return top in ("runner", "reports")
    if package == "reports":
        return top in ("runner", "torch", "transformers", "trl", "peft")
    if top in ("evalsuite", "reports"):
        shared = name.startswith(EVERYWHERE)
        return not (shared or place.startswith(JOINTS))
    return False


def modules() -> list[Path]:
    return sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_module_imports_only_what_its_place_allows(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    faults = [
        f"{place}:{line}: {name}" for line, name in imports_of(path) if forbidden(place, name)
    ]
    assert faults == []


def test_a_planted_import_is_caught(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("import json\ndef f():\n    from evalsuite.loss import score_examples\n")
    found = [
        (line, n) for line, n in imports_of(planted) if forbidden("runner/training/lora.py", n)
    ]
    assert found == [(3, "evalsuite.loss.score_examples")]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["schema"],
        ["validate", "recipes/quickstart.yaml", "recipes/mistral-7b-gptq-code.yaml"],
        ["gate", "no/such/run"],
        ["compare", "no/such/run", "no/such/other"],
        ["release", "no/such/run"],
    ],
    ids=lambda a: " ".join(a[:1]),
)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom runner.cli import main\nsys.argv = ['proofbox', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"sys.exit(' '.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"imported: {done.stderr.splitlines()[-1:]}"
