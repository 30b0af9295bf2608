"""docs/metrics.md is what the metrics say of themselves."""

from __future__ import annotations

import subprocess
import sys

from evalsuite.catalogue import METRICS
from tests.conftest import ROOT


def test_the_page_of_metrics_is_made_from_the_metrics() -> None:
    program = "import runpy; print(runpy.run_path('docs/make_metrics.py')['metrics_markdown']())"
    made = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert made.stdout == f"{page}\n"
    assert all(f"| `{name}` |" in page for name in METRICS)
