"""The report in a real browser: silent, alone, usable, and inside its screen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, browser

from reports.run_report import write_run_report


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as session:
        yield session


@pytest.fixture(scope="module")
def report(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_run_report(run_folder, path)
    return path


def requests(chromium: Browser) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in chromium.logs("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # chrome: are the browser's own pages and resources, which never leave it; its new tab may still
    # be loading when a test begins.
    asked = [(one["request"]["url"], one["documentURL"]) for one in sent]
    return [url for url, page in asked if not any(u.startswith("chrome:") for u in (url, page))]


def shown(chromium: Browser) -> int:
    samples = "[...document.querySelectorAll('.sample')]"
    return int(chromium.evaluate(f"return {samples}.filter(s => s.checkVisibility()).length"))


def test_no_console_message_and_no_request(chromium: Browser, report: Path) -> None:
    requests(chromium)
    chromium.view(width=1440)
    chromium.open(report)
    chromium.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert chromium.logs("browser") == []
    assert requests(chromium) == [report.as_uri()]


def test_the_policy_stops_what_is_not_ours(chromium: Browser, report: Path) -> None:
    chromium.view(width=1440)
    chromium.open(report)
    chromium.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s)"
    )
    assert chromium.evaluate("return window.ran === undefined")
    assert any("Content Security Policy" in entry["message"] for entry in chromium.logs("browser"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_nothing_is_wider_than_the_screen(
    chromium: Browser, report: Path, width: int, dark: bool
) -> None:
    chromium.view(width=width, dark=dark)
    chromium.open(report)
    chromium.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    size = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    scroll, client = chromium.evaluate(size)
    assert scroll <= client
    background = chromium.evaluate("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(22, 21, 19)") is dark


@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_long_names_of_figures_are_broken(
    chromium: Browser, report: Path, tmp_path: Path, width: int
) -> None:
    text = report.read_text(encoding="utf-8")
    for label in ("Tests passed", "Loss"):
        text = text.replace(label, "prompt_level_strict_acc_with_normalisation_k5")
    page = tmp_path / "long.html"
    page.write_text(text, encoding="utf-8")
    chromium.view(width=width)
    chromium.open(page)
    size = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    scroll, client = chromium.evaluate(size)
    assert scroll <= client


def test_filters_show_what_they_say(chromium: Browser, report: Path) -> None:
    chromium.view(width=1440)
    chromium.open(report)
    total = shown(chromium)
    assert total == 240
    for name in ("regressed", "improved", "different"):
        chromium.evaluate(f"document.querySelector('[data-filter={name}]').click()")
        counted = chromium.evaluate(
            f"return document.querySelector('[data-filter={name}] span').textContent"
        )
        assert shown(chromium) == int(counted)
        said = chromium.evaluate("return document.querySelector('.filters output').textContent")
        assert said == f"{counted} of 240 shown"
    chromium.evaluate("document.querySelector('[data-filter=all]').click()")
    assert shown(chromium) == total


def test_keyboard_reaches_skip_link_sections_filters_and_samples(
    chromium: Browser, report: Path
) -> None:
    chromium.view(width=1440)
    chromium.open(report)
    seen = []
    for _ in range(40):
        for kind in ("keyDown", "keyUp"):
            chromium.devtools("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                              windowsVirtualKeyCode=9)  # fmt: skip
        seen.append(
            chromium.evaluate(
                "const e = document.activeElement;"
                "return e.dataset.filter || e.getAttribute('href') || e.className || e.tagName"
            )
        )
    assert seen[0] == "#gates"
    assert "#reproduce" in seen
    assert "regressed" in seen
    assert "SUMMARY" in seen


def test_reads_without_javascript(chromium: Browser, report: Path) -> None:
    chromium.view(width=1440, scripts=False)
    chromium.open(report)
    chromium.view(width=1440, scripts=True)
    assert not chromium.evaluate("return document.querySelector('.filters').checkVisibility()")
    assert shown(chromium) == 240


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_background(chromium: Browser, report: Path, dark: bool) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 for text."""
    chromium.view(width=1440, dark=dark)
    chromium.open(report)
    for text, ground in (
        ("ink", "paper"), ("soft", "paper"), ("soft", "sunk"), ("pass", "paper"),
        ("fail", "paper"), ("inconclusive", "paper"), ("error", "paper"), ("adapter", "sunk"),
        ("base", "sunk"), ("ink", "mark"), ("paper", "ink"), ("on-both", "both"),
    ):  # fmt: skip
        assert contrast(chromium, text, ground) >= 4.5, (text, ground)


def contrast(chromium: Browser, first: str, second: str) -> float:
    script = """
      const shade = (name) => {
        const hex = getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
        const wide = hex.length === 4 ? hex.replace(/[0-9a-f]/gi, '$&$&') : hex;
        const [r, g, b] = [1, 3, 5].map((i) => parseInt(wide.slice(i, i + 2), 16) / 255)
          .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const [a, b] = [shade('%s'), shade('%s')].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05);
    """
    return float(chromium.evaluate(script % (first, second)))
