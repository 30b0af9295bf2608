"""Made-up run folders for the tests of reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from made_up_run import HOSTILE, RunSpec, write_run

# On a busy machine a slow example is no fault.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a run folder ``runs/<name>/<run id>`` from a `RunSpec`'s fields."""

    def make(**fields: Any) -> Path:
        spec = RunSpec(**fields)
        folder = tmp_path_factory.mktemp("runs") / spec.name / spec.run_id
        write_run(folder, spec)
        return folder

    return make


@pytest.fixture(scope="session")
def run_folder(make_run: Callable[..., Path]) -> Path:
    return make_run(answers=HOSTILE)
