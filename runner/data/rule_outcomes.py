"""What the recipe does with rows that break a rule, and the counts of it over all rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runner.data.labels.label_contract import RULES, TEXTS
from runner.data.leaks.leak_report import LeakCount
from runner.data.prepared_data import LISTED, PROBLEMS_FILE, PreparedData, RuleOutcome
from runner.data.reading.row_faults import SHOWN
from runner.errors import DataError
from runner.recipe import Dataset, Recipe

if TYPE_CHECKING:
    import pyarrow as pa

TOO_LONG = "too_long"
Outcome = Literal["dropped", "kept", "cut"]
LONGEST_TEXT = 4000  # characters of a problem row's values that are kept
REASONS = 10  # different ones that a message names for each rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One row and a rule that it breaks. ``text`` holds its values as JSON, cut."""

    row: int
    place: str
    rule: str
    outcome: Outcome
    detail: str
    tokens: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The recipe's policy for every rule. ``error`` drops as well; the run stops afterwards."""

    by_rule: Mapping[str, str]

    def drops(self, rule: str) -> bool:
        """Whether a row that breaks ``rule`` is left out."""
        return self.by_rule[rule] in {"error", "drop"}


def policies_of(recipe: Recipe) -> Policies:
    """All policies of a recipe, by rule."""
    violations = recipe.dataset.violations.model_dump()
    return Policies(by_rule={**violations, TOO_LONG: recipe.template.too_long})


def row_text(values: Mapping[str, Any]) -> str:
    """A row's values for people: JSON, cut."""
    text = json.dumps(values, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


@dataclass(slots=True)
class OutcomeCounts:
    """Counts every problem and lists the first of each rule."""

    policies: Policies
    max_length: int
    rows_checked: int = 0
    violations: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    first_rows: dict[str, list[int]] = field(default_factory=dict)
    listed: list[tuple[Problem, str]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def add(self, problems: Sequence[Problem], partitions: Sequence[str], rows: int) -> None:
        """Count a batch of ``rows`` rows; ``partitions`` lie beside ``problems``."""
        self.rows_checked += rows
        for problem, partition in zip(problems, partitions, strict=True):
            rule = problem.rule
            seen = self.violations[rule] = self.violations.get(rule, 0) + 1
            self.dropped[rule] = self.dropped.get(rule, 0) + (problem.outcome == "dropped")
            if seen <= SHOWN:
                self.first_rows.setdefault(rule, []).append(problem.row)
            if seen <= LISTED:
                self.listed.append((problem, partition))
            if rule == TOO_LONG:
                self._note_length(problem.tokens)

    def _note_length(self, tokens: int) -> None:
        self.lengths = [min([*self.lengths, tokens]), max([*self.lengths, tokens])]

    def outcomes(self) -> tuple[RuleOutcome, ...]:
        """One record for each rule, broken or not."""
        return tuple(
            RuleOutcome(
                rule=rule,
                text=text,
                policy=self.policies.by_rule[rule],
                rows_checked=self.rows_checked,
                violations=self.violations.get(rule, 0),
                dropped=self.dropped.get(rule, 0),
                first_rows=tuple(self.first_rows.get(rule, ())),
            )
            for rule, text in self._texts().items()
        )

    def _texts(self) -> dict[str, str]:
        length = f"at most {self.max_length:,} tokens"
        if self.lengths:
            found = " to ".join(dict.fromkeys(f"{tokens:,}" for tokens in self.lengths))
            length += f" (template.max_length; longer ones have {found})"
        contract = {key: rule.text for key, rule in RULES.items()}
        return {**TEXTS, TOO_LONG: length, **contract}

    def table(self) -> pa.Table:
        """The listed problems, as ``PROBLEMS_FILE`` has them."""
        import pyarrow as pa

        return pa.table(
            {
                "row": pa.array([p.row for p, _ in self.listed], type=pa.int64()),
                "place": pa.array([p.place for p, _ in self.listed], type=pa.string()),
                "partition": pa.array([part for _, part in self.listed], type=pa.string()),
                "rule": pa.array([p.rule for p, _ in self.listed], type=pa.string()),
                "outcome": pa.array([p.outcome for p, _ in self.listed], type=pa.string()),
                "detail": pa.array([p.detail for p, _ in self.listed], type=pa.string()),
                "tokens": pa.array([p.tokens for p, _ in self.listed], type=pa.int64()),
                "text": pa.array([p.text for p, _ in self.listed], type=pa.string()),
            }
        )


# What a recipe refuses


def refuse(data: PreparedData, policies: Policies) -> None:
    """Stop where rows break a rule whose policy is ``error``, or leaks whose policy it is.

    Raises:
        DataError: every such rule with counts, reasons and rows; every such kind of leak.
    """
    lines = [*_rule_lines(data, policies), *_leak_lines(data)]
    if lines:
        raise DataError("\n".join(lines))


def refuse_lost_partitions(data: PreparedData, dataset: Dataset) -> None:
    """Stop where every row of a partition was left out.

    Raises:
        DataError: the partitions, and what rows were left out for.
    """
    lost = [name for name in dataset.partition_names if name not in data.partitions]
    if not lost:
        return
    reasons = [
        f"  {_counted(outcome.dropped, 'row')} dropped: {_key(outcome.rule)}: {outcome.text}"
        for outcome in data.rules
        if outcome.dropped
    ]
    if data.leaks.dropped:
        reasons.append(f"  {_counted(data.leaks.dropped, 'train row')} dropped: dataset.leaks")
    if "train" in lost:
        reasons += [
            f"  dataset.source[{place}]: weight {source.weight:g} uses that share of its train rows"
            for place, source in enumerate(dataset.sources)
            if source.weight < 1
        ]
    raise DataError(
        "\n".join(
            [
                f"no {' and no '.join(lost)} rows are left of {_counted(data.source_rows, 'row')}:",
                *reasons,
                "`proofbox preview RECIPE --violations` shows them.",
            ]
        )
    )


def _rule_lines(data: PreparedData, policies: Policies) -> list[str]:
    broken = [
        outcome
        for outcome in data.rules
        if outcome.violations and policies.by_rule[outcome.rule] == "error"
    ]
    if not broken:
        return []
    lines = [
        f"label contract: of {_counted(data.source_rows, 'row')}, some break rules whose policy is "
        "error (rows are numbered from 0):"
    ]
    problems = _problems(data)
    for outcome in broken:
        verb = "breaks" if outcome.violations == 1 else "break"
        count = _counted(outcome.violations, "row")
        lines.append(f"  {_key(outcome.rule)}: {count} {verb} it: {outcome.text}")
        lines += [f"    {line}" for line in _reasons(outcome, problems)]
    lines.append(
        "Correct the rows, or set the policy to drop. "
        "`proofbox preview RECIPE --violations` shows each."
    )
    return lines


def _key(rule: str) -> str:
    """Where the recipe has a rule's policy."""
    return f"template.{rule}" if rule == TOO_LONG else f"dataset.violations.{rule}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _problems(data: PreparedData) -> list[dict[str, Any]]:
    from pyarrow import parquet

    columns = ["row", "place", "rule", "detail", "tokens"]
    rows: list[dict[str, Any]] = parquet.read_table(
        Path(data.folder) / PROBLEMS_FILE, columns=columns
    ).to_pylist()
    return rows


def _reasons(outcome: RuleOutcome, problems: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first few different reasons why rows break a rule, with the first rows of each."""
    places: dict[str, list[str]] = {}
    for problem in problems:
        if problem["rule"] == outcome.rule:
            # Nearly every row has a length of its own, which is no reason of its own.
            reason = "" if outcome.rule == TOO_LONG else problem["detail"]
            places.setdefault(reason, []).append(_place(problem))
    whole = "in all" if outcome.violations <= LISTED else f"of the first {LISTED:,} rows"
    lines = []
    for reason, found in islice(places.items(), REASONS):
        more = f", … ({len(found):,} {whole})" if len(found) > SHOWN else ""
        lines.append(f"{reason}{': ' if reason else ''}{', '.join(found[:SHOWN])}{more}")
    others = len(places) - len(lines)
    return [*lines, f"… and {_counted(others, 'other reason')}"] if others else lines


def _place(problem: Mapping[str, Any]) -> str:
    tokens = f"{problem['tokens']:,} tokens" if problem["rule"] == TOO_LONG else ""
    known = ", ".join(filter(None, (problem["place"], tokens)))
    return f"row {problem['row']}{f' ({known})' if known else ''}"


def _leak_lines(data: PreparedData) -> list[str]:
    if not data.leaks.refused:
        return []
    return [
        "leaks between partitions, whose policy is error:",
        *map(_leak_line, data.leaks.refused),
        "Take the rows out, or set the policy to drop_from_train. "
        "`proofbox preview RECIPE --violations` shows the pairs.",
    ]


def _leak_line(count: LeakCount) -> str:
    alike = "equal" if count.kind == "exact" else "nearly equal"
    pairs = ("at least " if count.at_least else "") + _counted(count.pairs, "pair")
    sides = ((count.first_rows, count.first), (count.second_rows, count.second))
    rows = " and ".join(_counted(rows, f"{partition} row") for rows, partition in sides)
    return f"  dataset.leaks.{count.kind}: {alike} {count.by}s: {pairs}, of {rows}"
