"""A metric of the user's own, from a Python file that the recipe names."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from evalsuite.errors import EvaluationError
from evalsuite.metrics.item_metric import ItemMetric


def metric_class(path: Path, name: str) -> type[ItemMetric]:
    """The class ``name`` of the file ``path``.

    Raises:
        EvaluationError: The file or the class is not there, or it is no `ItemMetric`.
    """
    module = _module(path)
    found = getattr(module, name, None)
    if not (inspect.isclass(found) and issubclass(found, ItemMetric)):
        what = "has no such class" if found is None else "is no subclass of ItemMetric"
        raise EvaluationError(
            f"{path.name}:{name} {what}. A metric is a subclass of "
            "evalsuite.metrics.item_metric.ItemMetric."
        )
    return found


def file_digest(path: Path) -> str:
    """SHA-256 of the file: part of the metric's signature."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _module(path: Path) -> ModuleType:
    """The file as a module, under a name that only this content has."""
    if not path.is_file():
        raise EvaluationError(f"{path}: there is no such file to take a metric from.")
    name = f"proofbox_metric_{file_digest(path)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise EvaluationError(f"{path}: this is no Python file; its name must end with .py.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError) as error:
        del sys.modules[name]
        raise EvaluationError(
            f"{path.name} cannot be imported: {type(error).__name__}: {error}."
        ) from error
    return module
