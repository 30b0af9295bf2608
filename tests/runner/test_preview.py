from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runner.commands.preview import preview as preview_command
from runner.data.sources import resolve_source
from runner.errors import ExitCode, UsageError
from runner.preview import Preview, inert, make_preview, print_preview
from runner.recipe import Recipe
from tests.runner.tiny_data import make_recipe, make_tokenizer

HOSTILE = "\x1b[2J\x1b]0;pwned\x07[bold red]x[/] [link=http://x]y[/link] \u202eabc\r\x9b31m"


def rows(count: int) -> list[dict[str, str]]:
    return [{"instruction": f"Q{n}", "input": "", "output": f"A{n}\nB"} for n in range(count)]


def made(folder: Path, data: list[Any], recipe: Recipe | None = None, **options: Any) -> Preview:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    recipe = recipe or make_recipe(dataset={"partition": {"by": "position"}})
    return make_preview(
        recipe,
        resolve_source(recipe.dataset, folder),
        make_tokenizer("mistral"),
        base_folder=folder,
        **{"rows": 2, "partition": "train", "row": None, **options},
    )


def printed(preview: Preview, *, terminal: bool = False, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    console = Console(
        file=file,
        force_terminal=terminal,
        color_system="truecolor" if terminal else None,
        width=80,
        legacy_windows=False,
    )
    print_preview(preview, console)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_the_first_rows_of_a_partition_are_shown_with_lengths(tmp_path: Path) -> None:
    text = printed(made(tmp_path, rows(50)))
    assert "row 0 (train): " in text
    assert "row 1 (train): " in text
    assert "row 2 (train): " not in text
    assert "<s>[INST] Q0 [/INST]⟦ A0\nB</s>⟧\n" in text
    assert " tokens, " in text.splitlines()[0]
    assert text.splitlines()[0].endswith(" supervised")
    assert "40 train, 5 validation, 5 test" in text


def test_one_row_is_shown_whatever_its_partition(tmp_path: Path) -> None:
    text = printed(made(tmp_path, rows(50), row=49))
    assert "row 49 (test): " in text
    assert text.count(" supervised\n") == 1


def test_on_a_terminal_supervised_tokens_are_in_colour_and_nothing_is_bracketed(
    tmp_path: Path,
) -> None:
    text = printed(made(tmp_path, rows(50), rows=1), terminal=True)
    assert "⟦" not in text
    assert "\x1b[1;32m A0\x1b[0m\n\x1b[1;32mB\x1b[0m" in text
    assert "\x1b[2;7m<s>\x1b[0m" in text
    assert "\x1b[1;7;32m</s>\x1b[0m" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_hostile_text_is_inert(tmp_path: Path, terminal: bool) -> None:
    data = rows(50)
    data[0] = {"instruction": HOSTILE, "input": "", "output": HOSTILE}
    text = printed(made(tmp_path, data, rows=1), terminal=terminal)
    for control in ("\x1b[2J", "\x1b]0;", "\x07", "\u202e", "\r", "\x9b"):
        assert control not in text
    shown = text.replace("\x1b[0m", "").replace("\x1b[1;32m", "").replace("\x1b[2m", "")
    assert (
        r"\x1b[2J\x1b]0;pwned\x07[bold red]x[/] [link=http://x]y[/link] \u202eabc\r\x9b31m" in shown
    )


def test_a_console_without_unicode_gets_ascii(tmp_path: Path) -> None:
    data = rows(50)
    data[0]["output"] = "café 🙂"
    text = printed(made(tmp_path, data, rows=1), encoding="ascii")
    assert r"[[ caf\xe9 \U0001f642</s>]]" in text


def test_text_in_other_scripts_stays_readable() -> None:
    text = "日本語 العربية 👩\u200d🔬 e\u0301\tx\n"
    assert inert(text) == text


def test_rows_with_faults_are_shown_with_what_is_wrong(tmp_path: Path) -> None:
    data = rows(50)
    data[0]["output"] = "a </s>"
    data[1]["output"] = "long " * 100
    recipe = make_recipe(dataset={"partition": {"by": "position"}}, template={"max_length": 100})
    preview = made(tmp_path, data, recipe, rows=3)
    assert [len(example.faults) for example in preview.examples] == [1, 0, 0]
    assert [len(example.remarks) for example in preview.examples] == [0, 1, 0]
    text = printed(preview)
    assert "! the assistant's text holds '</s>'" in text
    assert "! left out: 5" in text


def test_an_impossible_choice_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--row 50: the source has 50 rows, numbered 0 to 49"):
        made(tmp_path, rows(50), row=50)
    recipe = make_recipe(dataset={"partition": {"train": 1, "validation": 0, "test": 0}})
    with pytest.raises(UsageError, match="--partition test: this recipe makes no such rows"):
        made(tmp_path, rows(50), recipe, partition="test")


def test_the_command_prints_and_tells_by_its_exit_code(
    tiny_recipe: dict[str, Any], write_recipe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recipe(tiny_recipe)
    code = preview_command(str(path), rows=1, partition="train", row=None)
    assert code == ExitCode.PASS
    assert "Add 0 to x." in capsys.readouterr().out
    tiny_recipe["template"] = {"user": "</s>{{ instruction }}"}
    code = preview_command(str(write_recipe(tiny_recipe)), rows=1, partition="train", row=None)
    assert code == ExitCode.ENVIRONMENT
