from __future__ import annotations

import json
import math
import re
from collections import Counter, namedtuple
from dataclasses import replace
from typing import Any

import pytest

from evalsuite.records import CodeExecution
from evalsuite.sandbox import Execution, Program, run_programs
from evalsuite.sandbox.apart import decode, encode
from tests.conftest import ROOT
from tests.evalsuite.sandbox.attacks import DECEITS, Deceit

Pair = namedtuple("Pair", "a b")


def run(execution: CodeExecution, source: str, tests: str) -> Execution:
    return run_programs([Program(source=source, tests=tests)], execution)[0]


@pytest.fixture
def apart(execution: CodeExecution) -> CodeExecution:
    return replace(execution, tests="apart")


@pytest.mark.parametrize("deceit", DECEITS, ids=lambda deceit: deceit.name)
def test_a_deceit_works_beside_its_tests_and_not_apart(
    deceit: Deceit, execution: CodeExecution, apart: CodeExecution
) -> None:
    assert run(execution, deceit.source, deceit.tests).outcome == "passed"
    assert run(apart, deceit.source, deceit.tests).outcome != "passed"


def test_the_document_says_so() -> None:
    text = (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")
    table = text.partition("| Deceit |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (?!---)(.+?) \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert rows == [(d.name, "not held", "held") for d in DECEITS]


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("def f(x):\n    return x + 1", "assert f(1) == 2 and f(x=1) == 2"),
        ("def f(x):\n    return x * 2", "def check(c):\n    assert c('a') == 'aa'\ncheck(f)"),
        ("def f(items):\n    items.sort()", "a = [3, 1]\nassert f(a) is None\nassert a == [1, 3]"),
        ("def f(d):\n    d['k'] = {1}", "d = {}\nf(d)\nassert d == {'k': {1}}"),
        ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]"),
        ("from math import sqrt\nLIMIT = (1, 2)", "assert sqrt(9) == 3 and LIMIT == (1, 2)"),
        (
            "def f(x):\n    raise ValueError('no')",
            "try:\n    f(1)\nexcept ValueError as error:\n    assert str(error) == 'no'\n"
            "else:\n    raise AssertionError",
        ),
        ("def f(x):\n    print('x')\n    return x", "from answer import f as g\nassert g(1) == 1"),
    ],
)
def test_what_tests_of_functions_do_works_apart(
    apart: CodeExecution, source: str, tests: str
) -> None:
    assert run(apart, source, tests) == Execution(outcome="passed", message="")


@pytest.mark.parametrize(
    ("source", "tests", "outcome"),
    [
        ("def f(x):\n    return x", "assert f(1) == 2", "failed"),
        ("raise KeyError(3)", "assert True", "failed"),
        ("def f(:", "assert True", "failed"),
        ("def f(x):\n    return f", "f(1)", "failed"),
        ("class A:\n    pass", "A()", "failed"),
        ("def f(x):\n    return 'x' * 10**8", "f(1)", "stopped"),
        ("import os\ndef f(x):\n    os._exit(0)", "f(1)", "stopped"),
        ("import os\nos.write(4, b'N')\nos._exit(0)", "assert False", "stopped"),
        ("import os\nos.write(4, b'      99{}')\nos._exit(0)", "assert False", "stopped"),
        ("import os\nwhile True:\n    os.write(4, b'       2{}')", "assert False", "failed"),
        ("def f(x):\n    return 1", "import sys\nsys.exit(0)", "stopped"),
        ("import time\ndef f(x):\n    time.sleep(60)", "f(1)", "timed out"),
        ("def f(x):\n    a = []\n    a.append(a)\n    return a", "f(1)", "failed"),
    ],
)
def test_what_does_not_do_it_does_not_pass(
    apart: CodeExecution, source: str, tests: str, outcome: str
) -> None:
    assert run(apart, source, tests).outcome == outcome


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -7, 2**53, -(10**5000), 1.5, -0.0, math.inf, 1 + 2j, "é\ud800", b"\x00x",
        bytearray(b"y"), [1, [2]], (1, (2,)), {1, "a"}, frozenset({2}), {1: (2,), "a": {"b": []}},
        {"int": "0x1"}, range(3, 9, 2),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_plain_values_come_over_as_they_are(value: Any) -> None:
    over = decode(json.loads(json.dumps(encode(value))))
    assert over == value and type(over) is type(value)


def test_an_endless_call_is_ended(apart: CodeExecution) -> None:
    done = run(apart, "def f(x):\n    while True:\n        pass", "f(1)")
    assert done.outcome in ("stopped", "timed out")  # by CPU time, or under load by the clock


def test_relatives_of_plain_values_come_over_as_those() -> None:
    assert decode(encode(Pair(1, 2))) == (1, 2)
    assert decode(encode(Counter("aab"))) == {"a": 2, "b": 1}
    assert math.isnan(decode(encode(math.nan)))
    assert list(decode(encode(x * x for x in range(3)))) == [0, 1, 4]


@pytest.mark.parametrize("value", [object(), len, int, [object()], {1: len}, ...])
def test_others_do_not_come_over(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot pass between an answer and tests apart"):
        encode(value)
