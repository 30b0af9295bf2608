"""Lines for the terminal in which nothing from a row can be obeyed: text, styles, wrapping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

from runner.inert_text import inert
from runner.preview_rows import PreviewRow, PreviewToken

SUPERVISED, UNSUPERVISED, SPECIAL = "bold green", "dim", "reverse"
ERROR, WARNING, HEADING = "bold red", "yellow", "bold"
_NAME = 12  # columns of a name and the gap after it
_INDENT = 4
_NARROWEST = 8


def one_line(text: str, most: int) -> str:
    """The inert ``text`` on one line, cut with an ellipsis at ``most`` characters."""
    line = " ".join(inert(text[: 4 * most]).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def counted(number: int, one: str) -> str:
    """``1 row``, ``1,546 rows``."""
    return f"{number:,} {one if number == 1 else one + 's'}"


@dataclass(frozen=True)
class Screen:
    """Where lines are printed: in colour on a terminal, with brackets elsewhere."""

    console: Console

    @property
    def colour(self) -> bool:
        """Whether styles are seen."""
        console = self.console
        return console.is_terminal and console.color_system is not None and not console.no_color

    @property
    def brackets(self) -> tuple[str, str]:
        """What supervised tokens stand between where there is no colour."""
        return ("[[", "]]") if self.console.options.ascii_only else ("⟦", "⟧")

    def line(self, text: str = "", style: str = "") -> None:
        """One line as it is, however long: a terminal folds it, a file keeps it."""
        self.raw(Text(inert(text), style=style))

    def raw(self, text: Text) -> None:
        """A styled text that is already inert, however long."""
        self.console.print(self._encodable(text), soft_wrap=True, highlight=False)

    def wrapped(self, text: str, *, indent: int = 0, style: str = "") -> None:
        """A text folded to the width, every line ``indent`` columns in."""
        for line in self._folded(text, self.console.width - indent):
            self.raw(Text(" " * indent + line, style=style))

    def named(self, name: str, text: str, *, style: str = "") -> None:
        """A name in a narrow column and what it is beside it, folded."""
        lines = self._folded(text, self.console.width - _NAME)
        for head, line in zip([name, *[""] * (len(lines) - 1)], lines, strict=True):
            self.raw(Text(f"{head:<{_NAME}}{line}", style=style))

    def beside(self, left: Sequence[str], right: Sequence[str]) -> None:
        """Two texts side by side, each a heading and a body."""
        width = (self.console.width - 2 * _INDENT) // 2
        for style, *texts in zip((HEADING, ""), left, right, strict=True):
            columns = [self._folded(text, width) for text in texts]
            for one, other in zip_longest(*columns, fillvalue=""):
                line = f"{'':<{_INDENT}}{set_cell_size(one, width + _INDENT)}{other}"
                self.raw(Text(line.rstrip(), style=style))

    def _folded(self, text: str, width: int) -> list[str]:
        """The inert ``text`` in lines of at most ``width`` columns."""
        shown = self._encodable(Text(inert(text)))
        lines = shown.wrap(self.console, max(_NARROWEST, width), overflow="fold")
        return [line.plain.rstrip() for line in lines]

    def _encodable(self, text: Text) -> Text:
        if self.console.options.ascii_only and not text.plain.isascii():
            return Text(text.plain.encode("ascii", "backslashreplace").decode("ascii"))
        return text


def print_row(screen: Screen, row: PreviewRow) -> None:
    """A row's tokens under its numbers: in colour, or with brackets."""
    screen.raw(coloured(row.tokens) if screen.colour else bracketed(row.tokens, screen.brackets))


def row_heading(row: PreviewRow) -> str:
    """Row number, partition and how many tokens there are of each kind."""
    supervised = sum(token.supervised for token in row.tokens)
    return (
        f"row {row.row} ({row.partition}): {len(row.tokens)} tokens, "
        f"{row.prompt_tokens} of them the prompt, {supervised} supervised"
    )


def coloured(tokens: Iterable[PreviewToken]) -> Text:
    """Tokens in the styles of what they are."""
    text = Text()
    for style, group in groupby(tokens, key=_style):
        text.append(inert("".join(token.text for token in group)), style=style)
    return text


def _style(token: PreviewToken) -> str:
    special = f" {SPECIAL}" if token.special else ""
    return (SUPERVISED if token.supervised else UNSUPERVISED) + special


def bracketed(tokens: Iterable[PreviewToken], brackets: tuple[str, str]) -> Text:
    """Tokens with the supervised ones between brackets."""
    pieces = []
    for supervised, group in groupby(tokens, key=lambda token: token.supervised):
        text = inert("".join(token.text for token in group))
        pieces.append(brackets[0] + text + brackets[1] if supervised else text)
    return Text("".join(pieces))
