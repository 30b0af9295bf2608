"""The model card of a release: README.md as the Hugging Face Hub reads it.

Metadata: https://huggingface.co/docs/hub/model-cards (model-index, base_model, library_name).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.records import Measurement
from reports.comparison import flattened_recipe
from reports.data_view import left_out, ordered_partitions
from reports.gate_view import DECISIONS, GateRow, gate_rows
from reports.loss_view import MetricRow, metric_row
from reports.metric_names import figure_of, group_of, is_loss, label_of, telling_rank
from reports.number_text import count, counted, percent
from reports.pages import text_page
from reports.run_records import Training
from reports.speed_view import training_facts
from reports.stored_run import StoredRun, read_final_training, read_run
from reports.visible_text import one_line, without_paths

# Blocks of the recipe that say how the adapter was made.
_LEARNED = ("template", "model", "quantization", "lora", "training")
# Those that say how an adapter from elsewhere was judged.
_JUDGED_BY = ("template", "model", "quantization", "evaluation")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~$])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The figures of one partition or task."""

    name: str
    rows: tuple[MetricRow, ...]


def model_card(run_folder: Path, *, final: bool) -> str:
    """The card of a run's adapter.

    Args:
        run_folder: The gated run.
        final: The card is for the fit on all data below ``final/`` of the run: it says that the
            verdict and the figures are those of the gated run, and claims none as its own.

    Raises:
        ReportError: a record is missing or damaged.
    """
    run = read_run(run_folder)
    training = read_final_training(run_folder) if final else run.training
    return text_page(
        "model_card.md.jinja",
        front_matter=_front_matter(run, final=final),
        run=run,
        final=final,
        training=training,
        title=escaped(run.recipe_name),
        description=escaped(str(run.lock.recipe.get("description") or "")),
        base_model=_base_model(run),
        base_revision=run.lock.model.revision,
        new_tokens=bool(run.lock.recipe["lora"].get("trained_tokens")),
        decision=DECISIONS[run.verdict.verdict],
        reason=escaped(run.verdict.reason),
        gates=_gates(run),
        groups=_groups(run),
        data_lines=_data_lines(run, final=final),
        training_lines=_training_lines(training) if training else _outside_lines(run),
        settings=_settings(run),
    )


def escaped(text: str) -> str:
    """One line of text without meaning in Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", one_line(without_paths(text), 2_000))


def _base_model(run: StoredRun) -> str:
    """The Hub id or relative folder of the base model; of an absolute path the last part."""
    return without_paths(run.lock.model.name).removeprefix("…/")


def _front_matter(run: StoredRun, *, final: bool) -> str:
    """The metadata as YAML. A final fit has no ``model-index``: nothing was measured on it."""
    import yaml

    # A base model in a folder has no name on the Hub, and must not link to somebody else's.
    hub_model = run.lock.model.name if run.lock.model.revision else None
    metadata: dict[str, Any] = {
        **({"base_model": hub_model, "base_model_relation": "adapter"} if hub_model else {}),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": [*_method_tag(run), "peft", "proofbox"],
    }
    if _hub_dataset(run) is not None:
        metadata["datasets"] = [_hub_dataset(run)]
    if not final:
        metadata["model-index"] = [{"name": run.recipe_name, "results": _results(run)}]
    return yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100).rstrip()


def _method_tag(run: StoredRun) -> list[str]:
    """PEFT's name of the method, in lower case; proofbox itself trains LoRA."""
    if run.outside is None:
        return ["lora"]
    return [run.outside.method.lower()] if run.outside.method else []


def _hub_dataset(run: StoredRun) -> str | None:
    """The data's Hub id; None for files, which have no revision."""
    source = _source(run)
    return source if run.lock.data.revision and _HUB_ID.fullmatch(source) else None


def _source(run: StoredRun) -> str:
    dataset = run.lock.recipe.get("dataset", {})
    source = dataset.get("source", "") if isinstance(dataset, dict) else ""
    names = [source] if isinstance(source, str) else source
    return without_paths(", ".join(map(str, names)))


def _results(run: StoredRun) -> list[dict[str, Any]]:
    measured = [m for m in run.evidence.measurements if m.subject == "adapter"]
    groups = dict.fromkeys(group_of(m.metric) for m in measured)
    return [
        {
            "task": {"type": "text-generation"},
            # `config` keeps the groups apart: huggingface_hub takes results for one that differ
            # in the name of the data alone.
            "dataset": {
                "type": _hub_dataset(run) or "local",
                "name": f"{_source(run)} ({group})",
                "config": group,
            },
            "metrics": [_metric(m) for m in measured if group_of(m.metric) == group],
        }
        for group in groups
    ]


def _metric(measured: Measurement) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": figure_of(measured.metric),
        "name": label_of(figure_of(measured.metric)),
        "value": measured.value,
    }
    if math.isfinite(measured.low) and math.isfinite(measured.high):
        interval = [measured.low, measured.high]
        found["args"] = {"interval_95": interval, "examples": measured.examples}
    return found


def _gates(run: StoredRun) -> Sequence[GateRow]:
    return gate_rows(run.verdict, run.evidence)


def _groups(run: StoredRun) -> list[Group]:
    metrics = dict.fromkeys(m.metric for m in run.evidence.measurements)
    ordered = sorted(
        metrics,
        key=lambda m: (not is_loss(m), () if is_loss(m) else telling_rank(figure_of(m))),
    )
    return [
        Group(
            name=name,
            rows=tuple(metric_row(run.evidence, m) for m in ordered if group_of(m) == name),
        )
        for name in dict.fromkeys(map(group_of, ordered))
    ]


def _data_lines(run: StoredRun, *, final: bool) -> list[str]:
    lines = [f"Source: {escaped(_source(run))} (digest `{run.lock.data.digest}`)"]
    for name, partition in ordered_partitions(run.data):
        share = percent(partition.supervised_tokens, partition.tokens)
        lines.append(
            f"{name}: {counted(partition.rows, 'example')}, {count(partition.tokens)} tokens, "
            f"{share} of them supervised"
        )
    lines.append(escaped(left_out(run.data)))
    lines.append(_seen(run, final=final))
    return lines


def _seen(run: StoredRun, *, final: bool) -> str:
    """Which of the data the adapter was trained on."""
    if run.outside is not None:
        return (
            "Whether the adapter had seen any of these examples in its training is not known: it "
            "was trained elsewhere."
        )
    if final:
        return "This adapter has seen all of these partitions."
    return "Only the train partition was trained on; the test partition never reached training."


def _outside_lines(run: StoredRun) -> list[str]:
    """What the adapter itself says of its training, and that nothing else is known."""
    return [
        "Trained elsewhere: proofbox judged it, and knows nothing of how or on what it was trained",
        *(escaped(f"{name}: {value}") for name, value in training_facts(run)[1:]),
        *(escaped(f"Note: {note}") for note in (run.outside.notes if run.outside else ())),
        f"Adapter digest `{run.adapter_digest}` (over its configuration and weights)",
    ]


def _training_lines(training: Training) -> list[str]:
    share = percent(training.trainable_parameters, training.total_parameters)
    return [
        f"{counted(training.steps, 'optimizer step')}, each of "
        f"{counted(training.examples_per_step, 'example')} ({count(training.tokens)} tokens)",
        f"{count(training.trainable_parameters)} trainable parameters ({share} of all)",
        f"Adapter digest `{training.adapter_digest}` (over all its files)",
    ]


def _settings(run: StoredRun) -> list[tuple[str, str]]:
    blocks = _LEARNED if run.outside is None else _JUDGED_BY
    learned = {key: run.lock.recipe[key] for key in blocks if key in run.lock.recipe}
    return [(key, escaped(value)) for key, value in flattened_recipe(learned).items()]
