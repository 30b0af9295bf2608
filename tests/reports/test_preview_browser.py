"""The preview page in a real browser: silent, inert, filtered, usable without mouse or script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, browser
from made_up_preview import LEAKS, PAIRS, PROBLEMS, PageSpec, page_of
from test_browser import requests

from reports.preview_page import write_preview_page

SHOWN = "return [...document.querySelectorAll('.rendered')].filter(r => r.checkVisibility()).length"
HOSTILE_CELL = "<script>window.ran = 1</script>{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as session:
        yield session


@pytest.fixture(scope="module")
def preview(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "preview.html"
    spec = PageSpec(problems=PROBLEMS, pairs=PAIRS, data={"leaks": LEAKS})
    write_preview_page(page_of(spec), path)
    return path


def opened(chromium: Browser, preview: Path, **view: bool) -> Browser:
    chromium.view(width=1440, **view)
    chromium.open(preview)
    return chromium


def test_hostile_rows_run_nothing_and_load_nothing(chromium: Browser, preview: Path) -> None:
    requests(chromium)
    opened(chromium, preview)
    chromium.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert chromium.logs("browser") == []
    assert requests(chromium) == [preview.as_uri()]
    assert chromium.evaluate("return window.ran === undefined")
    counted = "return document.querySelectorAll('main script, main img, main textarea').length"
    assert chromium.evaluate(counted) == 0
    assert chromium.evaluate("return document.title") == "Preview · quickstart"
    text = chromium.evaluate("return document.querySelector('#rows').textContent")
    assert "</script><script>alert(1)</script>" in text
    assert "<script>window.ran = 1</script>" in text
    assert "{{ 7 * 7 }}" in text


def test_a_script_that_got_in_would_not_run(chromium: Browser, tmp_path: Path) -> None:
    """The planted error: an unescaped cell is stopped by the policy, and the log says so."""
    path = tmp_path / "planted.html"
    write_preview_page(page_of(PageSpec()), path)
    page = path.read_text(encoding="utf-8")
    path.write_text(page.replace("<main", f"{HOSTILE_CELL}<main", 1), encoding="utf-8")
    opened(chromium, path)
    assert chromium.evaluate("return window.ran === undefined")
    assert any("Content Security Policy" in entry["message"] for entry in chromium.logs("browser"))


def test_the_filter_shows_what_it_says(chromium: Browser, preview: Path) -> None:
    opened(chromium, preview)
    assert chromium.evaluate(SHOWN) == 42
    for control, value, wanted in (
        ("partition", "test", 20),
        ("partition", "train", 22),
        ("partition", "", 42),
        ("state", "problem", 4),
        ("state", "cut", 1),
        ("state", "dropped", 2),
        ("state", "", 42),
        ("text", "HELD OUT 3", 1),
        ("text", "<script>", 3),
        ("text", "no row holds this", 0),
        ("text", "", 42),
    ):
        choose(chromium, control, value)
        assert chromium.evaluate(SHOWN) == wanted, (control, value)
        said = chromium.evaluate("return document.querySelector('.filters output').textContent")
        assert said == f"{wanted} of 42 shown"
    choose(chromium, "partition", "train")
    choose(chromium, "state", "problem")
    choose(chromium, "text", "row 500")
    assert chromium.evaluate(SHOWN) == 1


def choose(chromium: Browser, control: str, value: str) -> None:
    chromium.evaluate(
        f"const c = document.querySelector('.filters [name={control}]'); c.value = '{value}';"
        "c.dispatchEvent(new Event('input', {bubbles: true}))"
    )


def test_reads_without_javascript(chromium: Browser, preview: Path) -> None:
    opened(chromium, preview, scripts=False)
    chromium.view(width=1440, scripts=True)
    assert not chromium.evaluate("return document.querySelector('.filters').checkVisibility()")
    assert chromium.evaluate(SHOWN) == 42


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_nothing_is_wider_than_the_screen(
    chromium: Browser, preview: Path, width: int, dark: bool
) -> None:
    chromium.view(width=width, dark=dark)
    chromium.open(preview)
    chromium.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    size = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    scroll, client = chromium.evaluate(size)
    assert scroll <= client
    background = chromium.evaluate("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(22, 21, 19)") is dark


def test_keyboard_reaches_skip_link_sections_filters_and_rows(
    chromium: Browser, preview: Path
) -> None:
    opened(chromium, preview)
    seen = []
    for _ in range(30):
        for kind in ("keyDown", "keyUp"):
            chromium.devtools("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                              windowsVirtualKeyCode=9)  # fmt: skip
        seen.append(
            chromium.evaluate(
                "const e = document.activeElement;"
                "return e.name || e.getAttribute('href') || e.className || e.tagName"
            )
        )
    assert seen[0] == "#rows"
    for stop in (
        "#summary",
        "#lengths",
        "#rules",
        "#leaks",
        "text",
        "partition",
        "state",
        "sample-list",
    ):
        assert stop in seen
    assert seen.count("SUMMARY") > 3


def test_supervised_text_is_underlined_and_special_tokens_are_boxed(
    chromium: Browser, preview: Path
) -> None:
    opened(chromium, preview)
    style = "return getComputedStyle(document.querySelector('.tokens {}')).{}"
    assert chromium.evaluate(style.format("mark", "textDecorationLine")) == "underline"
    assert chromium.evaluate(style.format(".special", "outlineStyle")) == "solid"
