"""What the metrics of a recipe are made of beside the recipe itself: files and plug-ins."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from evalsuite.catalogue import HUB, METRICS
from runner.digests import digest_of_lines, file_digest
from runner.errors import MachineError
from runner.recipe import MetricBlock


def metric_identities(metrics: Iterable[str | MetricBlock], folder: Path) -> dict[str, str]:
    """Digest of each file that a metric names, and version of each plug-in's package.

    ``folder`` is where the paths start. What is on the Hub is pinned by its revision.

    Raises:
        MachineError: a file cannot be read.
    """
    found: dict[str, str] = {}
    for metric in metrics:
        block = MetricBlock(name=metric) if isinstance(metric, str) else metric
        name = block.name or ""
        if block.file is not None:
            file = block.file.rpartition(":")[0]
            found[file] = _digest(folder / file)
        if isinstance(block.json_schema, str):
            found[block.json_schema] = _digest(folder / block.json_schema)
        if name.startswith((f"{HUB}.", f"{HUB}/")):
            found[name] = _digest(folder / name.removeprefix(HUB))
        elif name and not name.startswith(HUB) and name not in METRICS:
            found[name] = _plugin(name)
    return found


def _digest(path: Path) -> str:
    """Digest of a file, or of all Python files of a folder."""
    try:
        if path.is_dir():
            sources = sorted(path.rglob("*.py"))
            return digest_of_lines(f"{p.relative_to(path)} {file_digest(p)}" for p in sources)
        return file_digest(path)
    except OSError as error:
        raise MachineError(f"{path}: cannot be read: {error.strerror}.") from None


def _plugin(name: str) -> str:
    for point in entry_points(group="proofbox.metrics"):
        if point.name == name:
            return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    return "not installed"
