"""The page of ``proofbox preview --html``: what the data becomes, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalsuite.record_files import write_atomically
from reports.data_view import data_view
from reports.leak_pairs import LeakPair, leak_pairs_view
from reports.number_text import counted
from reports.pages import html_page
from reports.preview_rows import PreviewRow, row_views
from reports.problem_rows import ProblemRow
from reports.run_records import PreparedData


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewPage:
    """Everything that the page shows.

    ``max_length`` is the recipe's, in tokens. ``rows`` are the first of each partition, and others
    that have a problem.
    """

    recipe_name: str
    recipe_file: str
    proofbox: str
    max_length: int
    data: PreparedData
    problems: tuple[ProblemRow, ...]
    pairs: tuple[LeakPair, ...]
    rows: tuple[PreviewRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Banner:
    """The head of the page: ``verdict`` decides its colour and sign, ``words`` say the same."""

    verdict: str
    words: str
    reason: str


def write_preview_page(page: PreviewPage, out: Path) -> None:
    """Write the page to ``out``, whole or not at all; the same records give the same bytes."""
    write_atomically(preview_page(page).encode(), out)


def preview_page(page: PreviewPage) -> str:
    """The page as HTML."""
    rows = row_views(page.rows, page.problems)
    return html_page(
        "preview.html.jinja",
        script_file="preview.js",
        page=page,
        banner=_banner(page.data),
        data=data_view(
            page.data,
            page.problems,
            max_length=page.max_length,
            listed_in="problems.parquet of the prepared data in the cache",
        ),
        partitions=list(dict.fromkeys(row.partition for row in rows.rows)),
        leaks=leak_pairs_view(page.data.leaks, page.pairs),
        rows=rows,
    )


def _banner(data: PreparedData) -> Banner:
    refused = [f"{rule.rule} ({rule.violations:,})" for rule in data.rules if rule.refused]
    refused += [
        f"{leak.kind} leaks between {leak.first} and {leak.second} ({leak.pairs:,})"
        for leak in data.leaks.counts
        if leak.refused
    ]
    if refused:
        reason = f"The recipe says error about {', '.join(refused)}."
        return Banner(verdict="FAIL", words="A run would stop", reason=reason)
    broken = [rule for rule in data.rules if rule.violations]
    leaks = sum(leak.pairs for leak in data.leaks.counts if leak.policy != "listed")
    if broken or leaks:
        parts = [counted(len(broken), "rule") + " broken"] if broken else []
        parts += [counted(leaks, "pair") + " of rows in more than one partition"] if leaks else []
        reason = f"{' and '.join(parts)}; the recipe says what happens to them."
        return Banner(verdict="INCONCLUSIVE", words="Ready, with remarks", reason=reason)
    return Banner(verdict="PASS", words="Ready", reason="Every row keeps every rule.")
