"""Backends under test; those that this machine lacks are skipped with the reason."""

from __future__ import annotations

import pytest

from evalsuite.errors import SandboxError
from evalsuite.records import CodeExecution
from evalsuite.sandbox import check_backend


@pytest.fixture(scope="session")
def limits_only() -> CodeExecution:
    return CodeExecution(backend="subprocess", seconds=1)


@pytest.fixture(scope="session")
def bubblewrap() -> CodeExecution:
    execution = CodeExecution(backend="bubblewrap", seconds=1)
    try:
        check_backend(execution)
    except SandboxError as error:
        # One that starts and does not hold is a failure.
        if "is not installed" in str(error) or "did not start a sandbox" in str(error):
            pytest.skip(str(error))
        raise
    return execution


@pytest.fixture(params=["limits_only", "bubblewrap"])
def execution(request: pytest.FixtureRequest) -> CodeExecution:
    """Each of the two in turn."""
    found: CodeExecution = request.getfixturevalue(request.param)
    return found
