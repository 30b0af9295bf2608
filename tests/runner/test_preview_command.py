"""``proofbox preview`` as a whole: a recipe and its rows in, lines, a page and an exit code out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.commands.preview import preview
from runner.errors import ExitCode, UsageError

OPTIONS: dict[str, Any] = {
    "rows": None, "partition": "train", "row": None, "violations": False, "html": None,
}  # fmt: skip


def call(path: Path, **options: Any) -> ExitCode:
    return preview(str(path), **{**OPTIONS, **options})


def plant(rows: Path, number: int, **values: Any) -> None:
    """Change one row of the tiny data."""
    lines = rows.read_text().splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | values)
    rows.write_text("\n".join(lines) + "\n")


def test_good_data_ends_with_0_and_tells_what_it_came_to(
    tiny_recipe: dict[str, Any], write_recipe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(write_recipe(tiny_recipe)) == ExitCode.PASS
    text = capsys.readouterr().out
    assert text.startswith("row 0 (train): ")
    assert "row 2 (train): " in text
    assert "row 3 (train): " not in text
    assert "Add 0 to x." in text
    assert "alpaca, found by its columns" in text
    assert "36 train, 12 validation, 12 test (of 60 rows)" in text
    assert "--violations" in text


def test_a_planted_special_token_is_shown_with_its_place_and_ends_with_4(
    tiny_recipe: dict[str, Any],
    write_recipe: Any,
    tiny_rows: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(tiny_rows, 7, instruction="say </s> now")
    path = write_recipe(tiny_recipe)
    assert call(path, violations=True) == ExitCode.ENVIRONMENT
    text = capsys.readouterr().out
    assert "! special_token_in_text  error" in text
    assert "row 7 (rows.jsonl:8): train, dropped" in text
    assert "say </s> now" in text
    assert "special_token_in_text is broken by 1 row (error: a run stops)" in text
    tiny_recipe["dataset"]["violations"] = {"special_token_in_text": "drop"}
    assert call(write_recipe(tiny_recipe)) == ExitCode.PASS


def test_any_source_row_can_be_asked_for(
    tiny_recipe: dict[str, Any],
    write_recipe: Any,
    tiny_rows: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(tiny_rows, 7, output="long " * 3000)
    path = write_recipe(tiny_recipe)
    call(path, row=59)
    assert "row 59 (test): " in capsys.readouterr().out
    call(path, row=7)
    assert "row 7 (train, rows.jsonl:8): left out\n! too_long: " in capsys.readouterr().out
    with pytest.raises(UsageError, match="--row 60: the source has 60 rows, numbered 0 to 59"):
        call(path, row=60)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"output": "long " * 3000}, "too_long"),
        ({"instruction": "say </s>"}, "special_token_in_text"),
    ],
)
def test_a_row_beyond_the_lists_is_read_again_to_say_why(
    tiny_recipe: dict[str, Any],
    write_recipe: Any,
    tiny_rows: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    rule: str,
) -> None:
    monkeypatch.setattr("runner.data.rule_outcomes.LISTED", 0)
    plant(tiny_rows, 7, **values)
    tiny_recipe["seed"] = 7
    tiny_recipe["dataset"]["partition"]["by"] = "random"
    call(write_recipe(tiny_recipe), row=7)
    text = capsys.readouterr().out
    assert f"row 7 (rows.jsonl:8): left out\n! {rule}: " in text


def test_a_row_that_a_leak_left_out_is_explained(
    tiny_recipe: dict[str, Any],
    write_recipe: Any,
    tiny_rows: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    twin = json.loads(tiny_rows.read_text().splitlines()[59])
    plant(tiny_rows, 3, instruction=twin["instruction"])
    call(write_recipe(tiny_recipe), row=3)
    text = capsys.readouterr().out
    assert "row 3 (train): left out\n! leak: exact, by prompt, with test row 59" in text


def test_the_page_is_written_with_hostile_rows_inert(
    tiny_recipe: dict[str, Any],
    write_recipe: Any,
    tiny_rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hostile = "<script>alert(1)</script>{{ 7 * 7 }}\x1b]8;;http://x\x1b\\</textarea>"
    plant(tiny_rows, 0, instruction=hostile, output=hostile)
    plant(tiny_rows, 50, instruction="say </s> now")
    page = tmp_path / "out" / "preview.html"
    assert call(write_recipe(tiny_recipe), html=page) == ExitCode.ENVIRONMENT
    assert str(page) in capsys.readouterr().out.replace("\n            ", "")
    html = page.read_text(encoding="utf-8")
    body = html.partition("<main")[2].partition("<script>")[0]
    for raw in ("<script", "</textarea", "\x1b"):
        assert raw not in body
    assert "A run would stop" in html
    assert html.count('<details class="sample rendered') == 17 + 12 + 11 + 1
    assert 'data-state="dropped"' in html


def test_the_page_may_not_replace_a_folder(
    tiny_recipe: dict[str, Any], write_recipe: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--html .*: this is a folder"):
        call(write_recipe(tiny_recipe), html=tmp_path)


def test_a_preview_prepares_once_and_a_run_takes_it_over(
    tiny_recipe: dict[str, Any],
    write_recipe: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PROOFBOX_CACHE", str(tmp_path / "cache"))
    path = write_recipe(tiny_recipe)
    call(path)
    first = capsys.readouterr().out
    (entry,) = (tmp_path / "cache" / "prepared").iterdir()
    written = (entry / "prepared.json").stat().st_mtime_ns
    call(path)
    assert capsys.readouterr().out == first
    assert (entry / "prepared.json").stat().st_mtime_ns == written
    from runner.plan import make_plan
    from runner.progress import Progress
    from runner.stages import prepared

    data = prepared(make_plan(path, runs=tmp_path / "runs", device="cpu"), Progress())
    assert Path(data.folder) == entry
