"""Loading metrics, and the pairs that they are held against reference libraries on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalsuite.metrics import load_metric
from evalsuite.metrics.item_metric import ItemMetric
from evalsuite.records import MetricSpec
from tests.evalsuite.metrics.text_pairs import Pairs, embedded_pairs, real_pairs


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., ItemMetric]:
    def load_one(name: str, **options: Any) -> ItemMetric:
        spec = MetricSpec(name=name, options=options)
        return load_metric(spec, cache_dir=str(tmp_path / "evaluate"))

    return load_one


@pytest.fixture(scope="session", params=["embedded", "real"])
def pairs(request: pytest.FixtureRequest) -> Pairs:
    """200 answers and their references."""
    found = embedded_pairs() if request.param == "embedded" else real_pairs()
    if found is None:
        pytest.skip("the shared data is not there")
    return found
