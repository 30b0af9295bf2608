"""Text from outside made safe to look at: what would hide, reorder or run is shown as a sign.

HTML escaping is Jinja's; this is about characters that survive it: terminal escapes, direction
overrides (CVE-2021-42574, "Trojan Source"), zero-width characters, lone surrogates.
"""

from __future__ import annotations

import re

_KEPT = "\n\t"
_NAMED_CODES = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *(0x00AD, 0x061C, 0x180E, 0x200B, 0x200E, 0x200F),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xD800, 0xE000),
    *(0xFEFF, 0xFFF9, 0xFFFA, 0xFFFB),
    *(0xFFFE, 0xFFFF),
    *range(0xE0000, 0xE0080),
)
_TABLE = {code: f"\u27e8U+{code:04X}\u27e9" for code in _NAMED_CODES if chr(code) not in _KEPT}

# An absolute path of a Unix or Windows machine, or one below a home folder.
_ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/\\~<-])(?:file://)?(?:~|[A-Za-z]:)?[/\\](?:[^\s'\"`<>()\[\]{},;/\\]+[/\\])+"
    r"([^\s'\"`<>()\[\]{},;/\\]*)"
)


def visible(text: str) -> str:
    """``text`` with control, direction and invisible characters replaced by ``⟨U+202E⟩``.

    Line feeds and tabs stay; a carriage return before a line feed is dropped.
    """
    return text.replace("\r\n", "\n").translate(_TABLE)


def one_line(text: str, limit: int) -> str:
    """The visible ``text`` on one line, cut with an ellipsis at ``limit`` characters."""
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def without_paths(text: str) -> str:
    """``text`` with each absolute path cut to its last part, so that no machine is named."""
    return _ABSOLUTE_PATH.sub(lambda match: f"…/{match.group(1)}", text)


def is_absolute_path(value: str) -> bool:
    """Whether the whole of ``value`` is an absolute path."""
    return _ABSOLUTE_PATH.fullmatch(value) is not None
