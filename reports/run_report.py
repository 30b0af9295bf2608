"""The report of one run: one HTML file, made from the records of its folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalsuite.record_files import write_atomically
from reports.benchmark_view import TaskView, task_views
from reports.data_view import data_view
from reports.exhibits import Table, names
from reports.gate_view import DECISIONS, gate_rows, looks_sentence
from reports.leak_view import leak_view
from reports.loss_view import MetricRow, PartitionLoss, partition_losses, training_figure
from reports.metric_names import figure_of, telling_rank
from reports.number_text import counted, seconds, size
from reports.pages import html_page
from reports.problem_rows import read_problems
from reports.sample_view import prompt_views, task_samples
from reports.speed_view import speed_view, training_facts
from reports.stored_run import StoredRun, read_run
from reports.visible_text import is_absolute_path, one_line, visible, without_paths

# The gates tell the whole reason; the banner has room for this much of it.
_LONGEST_REASON = 260


@dataclass(frozen=True, slots=True, kw_only=True)
class Highlight:
    """One number at the top of the page: before, after and the difference."""

    label: str
    before: str
    after: str
    difference: str
    effect: str


def write_run_report(run_folder: Path, out: Path) -> None:
    """Write the report of a finished run to ``out``, whole or not at all.

    The same records give the same bytes. Nothing of this machine is in it: no time, no absolute
    path, no user name.

    Raises:
        ReportError: a record is missing or damaged.
    """
    write_atomically(run_report(read_run(run_folder)).encode(), out)


def run_report(run: StoredRun) -> str:
    """The report of ``run`` as HTML."""
    losses = partition_losses(run)
    tasks = task_views(run.evidence, run.verdict)
    return html_page(
        "run_report.html.jinja",
        run=run,
        decision=DECISIONS[run.verdict.verdict],
        sentence=_sentence(run),
        base_model=without_paths(run.lock.model.name),
        command=f"proofbox gate runs/{run.name}",
        highlights=_highlights(run, losses, tasks),
        gates=gate_rows(run.verdict, run.evidence),
        looks=looks_sentence(run.verdict),
        training_figure=None if run.training is None else training_figure(run.training),
        training_facts=training_facts(run),
        losses=losses,
        tasks=tasks,
        samples=task_samples(run),
        prompts=prompt_views(run),
        data=data_view(run.data, read_problems(run.folder / "listings")),
        leaks=leak_view(run),
        speed=speed_view(run),
        reproduce=_reproduce(run),
        versions=_versions(run),
        decisions=_decisions(run),
        recipe_text=_recipe_text(run),
    )


def _sentence(run: StoredRun) -> tuple[str, str]:
    """The verdict's reason: what to know, and the detail that comes after its colon."""
    reason = one_line(without_paths(run.verdict.reason), _LONGEST_REASON)
    head, colon, detail = reason.partition(": ")
    return (f"{head}." if colon else head, detail)


def _highlights(
    run: StoredRun, losses: Sequence[PartitionLoss], tasks: Sequence[TaskView]
) -> list[Highlight]:
    """The held-out loss, and the most telling figure of each of the first tasks."""
    found = [_highlight(f"{losses[0].name.capitalize()} loss", losses[0].rows[0])] if losses else []
    for task in tasks[:2]:
        row = min(task.rows, key=lambda row: telling_rank(figure_of(row.metric)))
        found.append(_highlight(row.label, row))
    whole = sum(value for _, value in run.timings)
    steps = "" if run.training is None else counted(run.training.steps, "step")
    return [
        *found,
        Highlight(label="Wall time", before="", after=seconds(whole), difference=steps, effect=""),
    ]


def _highlight(label: str, row: MetricRow) -> Highlight:
    return Highlight(
        label=label,
        before=row.base.partition(" [")[0],
        after=row.adapter.partition(" [")[0],
        difference=f"{row.difference} {row.unit if not row.unit.startswith('%') else ''}".strip(),
        effect=row.effect,
    )


def _reproduce(run: StoredRun) -> Table:
    lock, hardware = run.lock, run.lock.hardware
    rows: list[tuple[str, str | None]] = [
        ("Recipe", lock.recipe_digest),
        ("Adapter" if run.outside is None else f"Judged {run.outside.kind}", run.adapter_digest),
        ("Base model", f"{without_paths(lock.model.name)} · {lock.model.architecture} · "
         f"{lock.model.parameters:,} parameters"),
        ("Base model digest", lock.model.digest),
        ("Base model revision", lock.model.revision),
        ("Quantized base digest", lock.quantized.digest if lock.quantized else None),
        ("Calibration digest", lock.quantized.calibration_digest if lock.quantized else None),
        ("Data digest", lock.data.digest),
        ("Data revision", lock.data.revision),
        *[(f"Data file {without_paths(f.name)}", f"{f.sha256} · {size(f.bytes)}")
          for f in lock.data.files],
        ("Template digest", run.data.template_digest),
        ("Evidence digest", run.verdict.evidence_digest),
        ("Seed", str(lock.seed)),
        ("Hardware", f"{hardware.device} · {hardware.platform} · "
         f"{counted(hardware.threads, 'thread')} of {hardware.cpu_count or '?'} CPU cores"),
    ]  # fmt: skip
    return Table(
        caption="What this run is made of; digests are SHA-256",
        columns=names("What", "`Value"),
        rows=tuple((name, value) for name, value in rows if value is not None),
    )


def _versions(run: StoredRun) -> Table:
    versions = {"python": run.lock.hardware.python, **run.lock.versions}
    return Table(
        caption="Versions",
        columns=names("Package", "`Version"),
        rows=tuple(sorted(versions.items())),
    )


def _decisions(run: StoredRun) -> list[str]:
    """Fall-backs that the run announced, each once."""
    trained = () if run.training is None else run.training.decisions
    announced = dict.fromkeys((*run.lock.decisions, *trained))
    return [visible(without_paths(decision)) for decision in announced]


def _recipe_text(run: StoredRun) -> str:
    """The recipe as it was given, but for absolute paths, which are cut to their last part."""
    text = visible(run.recipe_text)
    for value in sorted(_strings(run.lock.recipe), key=len, reverse=True):
        if is_absolute_path(value):
            text = text.replace(value, without_paths(value))
    return text


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in _strings(inner)]
    return []
