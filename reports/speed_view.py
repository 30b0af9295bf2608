"""What the run cost: wall time by stage, tokens per second, memory, parameters."""

from __future__ import annotations

from dataclasses import dataclass

from reports.charts import bars
from reports.exhibits import Figure, Table, names
from reports.number_text import (
    NOTHING,
    count,
    counted,
    fixed,
    percent,
    plain,
    seconds,
    significant,
    size,
)
from reports.run_records import OutsideSubject, Training
from reports.stored_run import StoredRun
from reports.visible_text import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedView:
    """The speed section of a report: facts as (name, value), and the time of each stage."""

    facts: tuple[tuple[str, str], ...]
    stages: Figure | None


def speed_view(run: StoredRun) -> SpeedView:
    """The speed section from ``training.json`` and ``timings.json``."""
    return SpeedView(facts=_speed_facts(run.training), stages=_stage_figure(run.timings))


def _speed_facts(training: Training | None) -> tuple[tuple[str, str], ...]:
    if training is None:
        return ()
    facts = [
        ("Training time", seconds(training.seconds)),
        ("Training speed", f"{count(round(training.tokens_per_second))} tokens/s"),
        ("Tokens trained on", count(training.tokens)),
        ("Peak memory", size(training.peak_memory_bytes)),
    ]
    if training.resumed_from:
        steps = ", ".join(f"step {step:,}" for step in training.resumed_from)
        facts.append(("Continued after an interruption at", steps))
    return tuple(facts)


def training_facts(run: StoredRun) -> tuple[tuple[str, str], ...]:
    """What was trained, and for how long, as (name, value); or what came from elsewhere."""
    training = run.training
    if training is None:
        return outside_facts(run.outside) if run.outside is not None else ()
    share = percent(training.trainable_parameters, training.total_parameters)
    rate = max((point.learning_rate for point in training.history), default=None)
    return (
        (
            "Optimizer steps",
            f"{training.steps:,}, each of {counted(training.examples_per_step, 'example')}",
        ),
        ("Passes over the data", plain(round(training.epochs, 2))),
        ("Highest logged learning rate", significant(rate, 2) if rate is not None else NOTHING),
        (
            "Trainable parameters",
            f"{training.trainable_parameters:,} of {training.total_parameters:,} ({share})",
        ),
        ("Adapted modules", _modules(training.target_modules)),
    )


def outside_facts(outside: OutsideSubject) -> tuple[tuple[str, str], ...]:
    """Where the judged adapter or model comes from, as (name, value)."""
    named = {
        "Revision": outside.revision,
        "Method": outside.method,
        "Base model by its own configuration": outside.base_named,
        **outside.settings,
    }
    return (
        ("Trained", "elsewhere; how, and on which data, is not known here"),
        (f"Judged {outside.kind}", visible(outside.name)),
        ("Parameters", count(outside.parameters)),
        *((name, visible(_setting(value))) for name, value in named.items() if value is not None),
    )


def _setting(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _modules(modules: tuple[str, ...]) -> str:
    """``q_proj, v_proj (10 modules)``: the last part of each name, once."""
    kinds = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in modules))
    return f"{kinds} ({counted(len(modules), 'module')})"


def _stage_figure(timings: tuple[tuple[str, float], ...]) -> Figure | None:
    if not timings:
        return None
    total = sum(value for _, value in timings)
    stage, longest = max(timings, key=lambda item: item[1])
    share = fixed(100 * longest / total, 0) if total else "0"
    title = f"The stage “{stage}” took {share}% of {seconds(total)}"
    return Figure(
        title=title,
        chart=bars(
            [(name, value, seconds(value)) for name, value in timings], key="stages", title=title
        ),
        table=Table(
            caption="Wall time by stage",
            columns=names("Stage", "#Time", "#Share"),
            rows=tuple((name, seconds(value), percent(value, total)) for name, value in timings),
        ),
        note="The time of writing this report is not counted.",
    )
