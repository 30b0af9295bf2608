"""Templates and filters of a recipe that somebody else wrote cannot take all time or memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.data.reading.row_filter import RowFilter
from runner.data.reading.row_template import RowError, RowTemplate

HUGE = [
    "'a' * 9999999999",
    "9999999999 * 'a'",
    "[1] * 9999999999",
    "(1, 2) * 9999999999",
    "10 ** (10 ** 10)",
    "(10 ** 999) ** 999",
    "3 * (7 ** 3000) * (7 ** 3000)",
    "'%9999999999d' % 1",
    "'%s%%' % ('%99999999d' % 1)",
    "'a' | center(9999999999)",
    "'a\\nb' | indent(9999999999)",
    "'%9999999999d' | format(1)",
    "[1] | batch(9999999999, 'x') | list",
    "[1] | slice(9999999999) | list",
    "{'a': 1} | tojson(9999999999)",
    "'a'.ljust(9999999999)",
    "'a'.center(9999999999)",
    "'1'.zfill(9999999999)",
    "'\\t'.expandtabs(9999999999)",
    "'{:9999999999}'.format(1)",
    "'{:{w}}'.format(1, w=9999999999)",
    "'{x:9999999999}'.format_map({'x': 1})",
    "range(9999999999) | list",
    "('a' * 9999999).replace('', 'b' * 9999)",
    "('a' * 9999999).replace('a', 'b' * 9999, 9999999)",
    "('a' * 9999999) | replace('a', 'b' * 9999)",
    "('b' * 9999999).join('a' * 9999)",
    "range(99999) | map('string') | join('b' * 9999999)",
    "([{'x': 'b' * 9999999}] * 99999) | join(attribute='x')",
    "('a' * 9999999) + ('a' * 9999999)",
    "[1] * 9999999 + [1] * 9999999",
]
CODE = """
import resource, sys, time
from runner.data.reading.row_filter import RowFilter
from runner.data.reading.row_template import RowError, RowTemplate
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
started = time.process_time()
for text in sys.argv[1:]:
    for call in (
        lambda: RowTemplate("t", "{{ " + text + " }}").render({}),
        lambda: RowFilter("f", "(" + text + ") == 1").passes({}),
    ):
        try:
            call()
        except RowError as error:
            print(error)
print(time.process_time() - started < 2)
"""


def test_nothing_huge_is_made_when_a_template_is_compiled_or_rendered() -> None:
    """In a process of its own, with little memory: where this fails it hangs or is killed."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *HUGE],
        cwd=Path(__file__).parents[4], capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    *errors, fast = done.stdout.splitlines()
    assert fast == "True"
    assert len(errors) == 2 * len(HUGE)
    refused = [e for e in errors if "SecurityError" in e and "more than 10,000,000" in e]
    assert len(refused) == len(errors) - 2
    assert all("OverflowError" in e for e in errors if e not in refused)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ '-' * 20 }}", "-" * 20),
        ("{{ 3 * 4 }} {{ 2 ** 10 }} {{ 1.5 * 2 }} {{ 2 ** 0.5 > 1 }}", "12 1024 3.0 True"),
        ("{{ '%05.1f|%s' % (2.5, 'x') }} {{ 7 % 4 }}", "002.5|x 3"),
        ("{{ '{:>4}'.format('x') }}{{ 'x'.ljust(3) }}|", "   xx  |"),
        ("{{ 'a\nb' | indent(2) }}{{ 'x' | center(3) }}", "a\n  b x "),
        ("{{ [1, 2, 3] | batch(2) | list }}", "[[1, 2], [3]]"),
        ("{{ 'x' * 0 }}{{ 'x' * -5 }}{{ [] * 3 }}", "[]"),
        ("{{ 'aaa' | replace('a', 'b', 2) }}{{ 'aaa'.replace('a', 'bb') }}", "bbabbbbbb"),
        ("{{ 121 | replace(1, 3) }}{{ 'x'.replace('', '-', 1) }}", "323-x"),
        ("{{ [1, 'b'] | join('-') }}{{ ', '.join(['a', 'b']) }}{{ [] | join }}", "1-ba, b"),
        ("{{ [{'x': 1}, {'x': 2}] | join(',', attribute='x') }}{{ 'ab' | join('.') }}", "1,2a.b"),
        ("{{ 'a' + 'b' }}{{ 1 + 2.5 }}{{ [1] + [2] }}", "ab3.5[1, 2]"),
        ("{{ {'a': 'é'} | tojson }}", '{"a": "\\u00e9"}'),
    ],
)
def test_what_is_small_is_computed_as_ever(template: str, text: str) -> None:
    assert RowTemplate("t", template).render({}) == text


@pytest.mark.parametrize(
    "call",
    [
        lambda: RowTemplate("t", "{{ [1, 2] | random }}"),
        lambda: RowTemplate("t", "{{ lipsum() }}").render({}),
        lambda: RowFilter("f", "[true, false] | random"),
    ],
)
def test_chance_has_no_place_in_a_row(call: Callable[[], object]) -> None:
    with pytest.raises(Exception, match=r"random|lipsum"):
        call()


def test_a_template_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(Exception, match="not a Jinja"):
        RowTemplate("t", "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")


def test_the_sandbox_holds() -> None:
    for text in ("''.__class__.__mro__", "x.append(1)", "cycler.__init__.__globals__"):
        with pytest.raises(RowError, match="SecurityError"):
            RowTemplate("t", "{{ " + text + " }}").render({"x": []})
