"""Writes docs/metrics.md from the metrics themselves: python docs/make_metrics.py."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "metrics.md"

if TYPE_CHECKING:
    from evalsuite.metrics.item_metric import ItemMetric

INTRODUCTION = """# Metrics

What `metrics:` of a generation task or a benchmark may name, made by `python docs/make_metrics.py`;
a test holds it equal. A metric with options is written as a block:

```yaml
evaluation:
  generation:
    - name: problems
      extract:                      # which part of an answer is scored
        preset: last_number
        reference: {preset: last_number}
      metrics:
        - exact_match
        - {name: exact_match, as: lenient_match, ignore: [case, punctuation, number_format]}
        - {name: chrf, word_order: 2}                    # chrF++
        - {name: json_schema, schema: schemas/answer.json}
        - {name: "hub:./metrics/wer", figure: wer, smaller_is_better: true}
        - {file: "metrics/mine.py:MyMetric", options: {threshold: 0.5}}
```

A gate names a figure as `<task>.<figure>`. `as` gives a metric's figure another name (of a metric
with several figures, it comes before their names: `as: short` makes `short_rouge1`), so that a task
can have a metric twice.

| metric | figures | kind | unit | better | options | library | what it is; source |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
KINDS = """
How a figure of each kind is summarised (`evalsuite/figures.py`):

- *binary*: 0 or 1 for each answer; a share with an exact interval, compared by McNemar and Tango.
  With several answers to a prompt, each example's share of right answers is a *mean* instead.
- *mean*: the mean of the examples' scores.
- *ratio*: a sum over a sum, over all examples; interval by the ratio estimator.
- *corpus*: a function of counts summed over all examples; interval by the paired bootstrap. With
  several answers to a prompt, the counts of all of them are summed.

sacrebleu looks for the edits of `ter` in Python: of an answer that has the 400 words of its
reference in another order, for about 15 seconds.

"""
OPTIONS = """## Options

| option | of | default | what it does |
| --- | --- | --- | --- |
"""
OTHERS = """
## Metrics from elsewhere

- **`hub:NAME`** loads a metric of the `evaluate` library from the Hugging Face Hub, `hub:./FOLDER`
  from a folder relative to the recipe. `figure` names the key of its result that counts; one on the
  Hub needs `revision`, because its code may change. It is computed on each answer alone, and the
  mean is taken: right for a metric that is a mean of its items, and another number than its own for
  one that is not (BLEU, F1 of classes).
- **`file: PATH.py:CLASS`** is a metric of your own: a subclass of
  `evalsuite.metrics.item_metric.ItemMetric`. The file's digest is part of what base and adapter
  must share to be compared.
- **An installed package** adds one by an entry point in the group `proofbox.metrics`.

CONTRIBUTING.md says how to write one.

## Extraction

`extract` takes the part of an answer that is scored, and `extract.reference` that of a reference.
What was extracted is stored with each answer and shown; where nothing is found, an empty text is
scored and counted as *not extracted*. A reference in which nothing is found is an error.

| key | what it does |
| --- | --- |
"""


def metrics_markdown() -> str:
    """The page."""
    sys.path.insert(0, str(ROOT))
    from runner.recipe import ExtractionBlock

    keys = ExtractionBlock.model_fields.items()
    extraction = "".join(f"| `{key}` | {field.description} |\n" for key, field in keys)
    table = "".join(_rows())
    return INTRODUCTION + table + KINDS + OPTIONS + "".join(_options()) + OTHERS + extraction


def _rows() -> Iterator[str]:
    """The table of metrics, one row each."""
    from evalsuite.catalogue import METRIC_OPTIONS, METRICS

    for name in METRICS:
        metric = _metric(name)
        figures = list(metric.figures.items())
        kind = figures[0][1]
        cells = (
            f"`{name}`",
            ", ".join(f"`{figure}`" for figure, _ in figures)
            + (" (one for each `k`)" if "k" in METRIC_OPTIONS[name] else ""),
            kind.kind,
            kind.unit,
            "larger" if kind.higher_is_better else "smaller",
            ", ".join(f"`{option}`" for option in METRIC_OPTIONS[name]) or "none",
            metric.library,
            f"{metric.description} {metric.citation}".strip(),
        )
        yield f"| {' | '.join(cells)} |\n"


def _metric(name: str) -> type[ItemMetric] | ItemMetric:
    """A metric; of one that runs code its class, which knows as much and needs no sandbox."""
    from evalsuite.catalogue import METRICS
    from evalsuite.metrics import load_metric, metric_kind
    from evalsuite.records import MetricSpec

    needed: dict[str, Any] = {"json_schema": {"schema": {}}}
    assert name in METRICS
    if name == "tests_passed":
        return metric_kind(MetricSpec(name=name))
    with tempfile.TemporaryDirectory() as scratch:
        spec = MetricSpec(name=name, options=needed.get(name, {}))
        return load_metric(spec, cache_dir=scratch)


def _options() -> Iterator[str]:
    """The table of options, in the order of the recipe's block."""
    from evalsuite.catalogue import HUB_OPTIONS, METRIC_OPTIONS
    from runner.recipe import MetricBlock

    for key, field in MetricBlock.model_fields.items():
        option = field.alias or key
        takers = [f"`{name}`" for name, taken in METRIC_OPTIONS.items() if option in taken]
        if option in HUB_OPTIONS:
            takers.append("`hub:`")
        if option == "options":
            takers.append("plug-ins and files")
        if takers:
            default = f"`{_shown(field.default)}`"
            yield f"| `{option}` | {', '.join(takers)} | {default} | {field.description} |\n"


def _shown(default: object) -> str:
    """A default as YAML writes it."""
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    return str(list(default)) if isinstance(default, tuple) else str(default)


if __name__ == "__main__":
    TARGET.write_text(metrics_markdown(), encoding="utf-8")
