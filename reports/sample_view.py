"""Generated answers of base and adapter, example by example, within a page's room."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from reports.example_values import AnswerValues, check_same_examples, read_answers, task_names
from reports.metric_names import label_of, telling_rank
from reports.number_text import NOTHING, counted, plain, significant
from reports.stored_run import StoredRun
from reports.visible_text import one_line, visible

# Samples that one page holds, shared by its tasks, and the most text of them (characters).
MOST_SAMPLES = 300
MOST_TEXT = 600_000
# One prompt or answer is cut here.
MOST_CHARACTERS = 4_000
_SUMMARY = 110
# Special tokens and role markers at either end of a rendered prompt: <s>, [INST], <|user|>.
_MARKER = r"(?:<[^<>\s]{1,30}>|\[/?[A-Z_]+\])"
_MARKERS = re.compile(rf"^(?:\s*{_MARKER})+|(?:{_MARKER}\s*)+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One figure of one sample for both sides; ``change`` is improved, regressed or even."""

    label: str
    base: str
    adapter: str
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pane:
    """One text of a sample under its heading; ``class_`` is prompt, reference, base or adapter."""

    heading: str
    class_: str
    text: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One example: what was asked, what was expected, what both answered.

    ``change`` is improved or regressed by the task's most telling figure, else even;
    ``different`` says whether the answers' texts differ.
    """

    row: int
    summary: str
    change: str
    different: bool
    panes: tuple[Pane, ...]
    scores: tuple[Score, ...]

    @property
    def characters(self) -> int:
        """Text that the sample takes up."""
        return sum(len(pane.text) for pane in self.panes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSamples:
    """The samples of one task that the page holds; ``total`` counts them all."""

    task: str
    judged_by: str
    total: int
    improved: int
    regressed: int
    different: int
    samples: tuple[Sample, ...]
    left_out: str


def task_samples(run: StoredRun) -> list[TaskSamples]:
    """The samples of every generation task of the run."""
    tasks = task_names(run.results("adapter"))
    return [_task_samples(run, task, MOST_SAMPLES // len(tasks)) for task in tasks]


def _task_samples(run: StoredRun, task: str, room: int) -> TaskSamples:
    adapter = read_answers(run.results("adapter"), task)
    base = None
    if task in task_names(run.results("base")):
        base = read_answers(run.results("base"), task)
        check_same_examples(base.example_ids, adapter.example_ids, f"answers of {task}")
    telling = min(adapter.figures, key=telling_rank, default="")
    order = _shown(base, adapter, telling)
    shown = _within_room([_sample(base, adapter, telling, i) for i in order[:room]])
    changes = [_change(base, adapter, telling, i) for i in range(len(adapter.rows))]
    return TaskSamples(
        task=task,
        judged_by=label_of(telling) if telling else "",
        total=len(adapter.rows),
        improved=changes.count("improved"),
        regressed=changes.count("regressed"),
        different=sum(_differs(base, adapter, i) for i in range(len(adapter.rows))),
        samples=tuple(shown),
        left_out=_left_out(len(adapter.rows) - len(shown)),
    )


def _shown(base: AnswerValues | None, adapter: AnswerValues, telling: str) -> list[int]:
    """Places in the order of the page: regressed, then improved, then different, then equal."""

    def rank(place: int) -> tuple[int, int, int]:
        change = _change(base, adapter, telling, place)
        kind = ("regressed", "improved", "even").index(change)
        return (kind, 0 if _differs(base, adapter, place) else 1, adapter.rows[place])

    return sorted(range(len(adapter.rows)), key=rank)


def _within_room(samples: Sequence[Sample]) -> list[Sample]:
    shown: list[Sample] = []
    room = MOST_TEXT
    for sample in samples:
        room -= sample.characters
        if room < 0 and shown:
            break
        shown.append(sample)
    return shown


def _left_out(number: int) -> str:
    if not number:
        return ""
    verb = "is" if number == 1 else "are"
    return (
        f"{counted(number, 'more example')} {verb} left out here to keep this page small; "
        "changed ones come first. All are in the run's evaluation folder."
    )


def _change(base: AnswerValues | None, adapter: AnswerValues, figure: str, place: int) -> str:
    if base is None or figure not in base.figures or figure not in adapter.figures:
        return "even"
    before, after = base.figures[figure][place], adapter.figures[figure][place]
    if before == after:
        return "even"
    smaller = figure in adapter.smaller_is_better
    return "improved" if (after < before) == smaller else "regressed"


def _differs(base: AnswerValues | None, adapter: AnswerValues, place: int) -> bool:
    return base is not None and base.answers[place] != adapter.answers[place]


def _sample(base: AnswerValues | None, adapter: AnswerValues, telling: str, place: int) -> Sample:
    panes = [
        _pane("Prompt", "prompt", adapter.prompts[place]),
        _pane("Reference", "reference", adapter.references[place]),
    ]
    if base is not None:
        panes.append(_answer_pane("Base", "base", base, place))
    panes.append(_answer_pane("Adapter", "adapter", adapter, place))
    return Sample(
        row=adapter.rows[place],
        summary=one_line(_asked(adapter.prompts[place]), _SUMMARY),
        change=_change(base, adapter, telling, place),
        different=_differs(base, adapter, place),
        panes=tuple(panes),
        scores=tuple(
            _score(base, adapter, figure, place)
            for figure in sorted(adapter.figures, key=telling_rank)
        ),
    )


def _asked(prompt: str) -> str:
    """The part of a rendered prompt that tells examples apart: without the markers around it."""
    return _MARKERS.sub("", prompt).strip() or prompt


def _answer_pane(heading: str, class_: str, answers: AnswerValues, place: int) -> Pane:
    note = f"{_length(answers, place)}{_scored(answers, place)}"
    return _pane(heading, class_, answers.answers[place], note)


def _length(answers: AnswerValues, place: int) -> str:
    """How long an answer is, where it was generated."""
    if answers.new_tokens is None or answers.finished is None:
        return ""
    tokens = counted(answers.new_tokens[place], "token")
    return tokens if answers.finished[place] else f"{tokens}, cut off at the limit"


def _scored(answers: AnswerValues, place: int) -> str:
    """What of an answer was scored, where that is a part of it."""
    if answers.extracted is None:
        return ""
    part = answers.extracted[place]
    return "; nothing extracted" if part is None else f"; scored: {one_line(part, _SUMMARY)}"


def _pane(heading: str, class_: str, text: str, note: str = "") -> Pane:
    return Pane(heading=heading, class_=class_, text=shortened(text), note=note)


def shortened(text: str) -> str:
    """The visible text, cut at the room that one text has, with the rest counted."""
    if len(text) <= MOST_CHARACTERS:
        return visible(text)
    rest = counted(len(text) - MOST_CHARACTERS, "more character")
    return f"{visible(text[:MOST_CHARACTERS])}\n… {rest}"


def _score(base: AnswerValues | None, adapter: AnswerValues, figure: str, place: int) -> Score:
    before = base.figures.get(figure) if base is not None else None
    return Score(
        label=label_of(figure),
        base=_score_text(before[place]) if before else NOTHING,
        adapter=_score_text(adapter.figures[figure][place]),
        change=_change(base, adapter, figure, place),
    )


def _score_text(value: float) -> str:
    return plain(value) if value.is_integer() else significant(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptView:
    """A prompt of the recipe's ``samples`` before and after training."""

    prompt: str
    panes: tuple[Pane, ...]


def prompt_views(run: StoredRun) -> list[PromptView]:
    """The recipe's ``samples``, answered by the base and by the adapter."""
    base, adapter = run.samples("base"), run.samples("adapter")
    return [
        PromptView(
            prompt=shortened((after or before).prompt),
            panes=tuple(
                _pane(heading, class_, answer.prediction)
                for heading, class_, answer in (
                    ("Before", "base", before),
                    ("After", "adapter", after),
                )
                if answer is not None
            ),
        )
        for before, after in zip_longest(base, adapter)
    ]
