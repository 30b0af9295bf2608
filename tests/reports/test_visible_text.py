"""Text from outside made safe to look at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.visible_text import is_absolute_path, one_line, visible, without_paths


def test_what_hides_or_reorders_is_shown() -> None:
    assert visible("\x1b[31m") == "⟨U+001B⟩[31m"
    assert visible("a\u202eb") == "a⟨U+202E⟩b"
    assert visible("a\u200bb\ufeff") == "a⟨U+200B⟩b⟨U+FEFF⟩"
    assert visible("\x00\x7f\x9b") == "⟨U+0000⟩⟨U+007F⟩⟨U+009B⟩"
    assert visible("\ud800") == "⟨U+D800⟩"


def test_what_belongs_to_text_stays() -> None:
    text = "def f():\n\treturn 'größer 日本 👩\u200d👩'"
    assert visible(text) == text
    assert visible("a\r\nb\rc") == "a\nb⟨U+000D⟩c"


@given(st.text())
def test_visible_text_can_be_written_and_has_no_control_character(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert not any(ord(c) < 32 and c not in "\n\t" for c in shown)
    assert visible(shown) == shown


@given(st.text(), st.integers(2, 50))
def test_one_line_is_one_line_within_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("read /home/alice/data/x.jsonl now", "read …/x.jsonl now"),
        ("'/tmp/a/b'", "'…/b'"),
        ("C:\\Users\\alice\\x.csv", "…/x.csv"),
        ("~/models/tiny", "…/tiny"),
        ("file:///home/alice/x", "…/x"),
        ("recipes/quickstart/model", "recipes/quickstart/model"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("owner/name and 1/2 or and/or", "owner/name and 1/2 or and/or"),
        ("</s> /", "</s> /"),
    ],
)
def test_absolute_paths_are_cut_to_their_last_part(text: str, shown: str) -> None:
    assert without_paths(text) == shown


def test_absolute_path_as_a_whole() -> None:
    assert is_absolute_path("/home/alice/x")
    assert not is_absolute_path("see /home/alice/x")
    assert not is_absolute_path("model/x")
