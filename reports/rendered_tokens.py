"""Tokens of an example as a page shows them: in stretches that the loss counts or does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from reports.number_text import counted
from reports.run_records import ExampleToken
from reports.visible_text import visible


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenText:
    """The visible text of a token; ``kind`` is special, gap (tokens left out) or empty."""

    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRun:
    """Neighbouring tokens that are all supervised, or all not."""

    supervised: bool
    tokens: tuple[TokenText, ...]


def token_runs(tokens: Sequence[ExampleToken]) -> tuple[TokenRun, ...]:
    """Tokens grouped into stretches that the loss counts and stretches that it does not."""
    return tuple(
        TokenRun(supervised=supervised, tokens=tuple(map(_token_text, group)))
        for supervised, group in groupby(tokens, key=lambda token: token.supervised)
    )


def _token_text(token: ExampleToken) -> TokenText:
    text = visible(token.text).replace("\n", "↵\n")
    return TokenText(text=text, kind="special" if token.special else "")


def shortened_runs(
    tokens: Sequence[ExampleToken], *, first: int, last: int
) -> tuple[TokenRun, ...]:
    """As ``token_runs``, with the middle of a long example left out and counted."""
    missing = len(tokens) - first - last
    if missing <= 0:
        return token_runs(tokens)
    words = f"\n… {counted(missing, 'token')} left out here …\n"
    gap = TokenRun(supervised=False, tokens=(TokenText(text=words, kind="gap"),))
    return (*token_runs(tokens[:first]), gap, *token_runs(tokens[-last:]))
