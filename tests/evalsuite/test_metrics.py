from __future__ import annotations

import inspect
import io
import socket
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.answer_code import python_source
from evalsuite.catalogue import (
    DIVERGENCE_FIGURES,
    FIGURES,
    LOSS_FIGURES,
    METRIC_OPTIONS,
    METRICS,
    RIGHT_OR_WRONG,
    SMALLER_IS_BETTER,
)
from evalsuite.corpus_scores import bleu, chrf
from evalsuite.errors import EvaluationError
from evalsuite.figures import GENERATION, LOSS
from evalsuite.metrics import load_metric, metric_kind
from evalsuite.metrics.item_metric import ItemMetric
from evalsuite.records import CodeExecution, MetricSpec
from runner.recipe import MetricBlock

REFERENCES = [
    "def add(a, b):\n    return a + b",
    "The quick brown fox jumps over the lazy dog.",
    "",
    "Grüße aus Köln — naïve café",
    "one two three\nfour five",
    "x = [1, 2, 3]",
]
ANSWERS = [
    "def add(x, y):\n    return x + y",
    "A quick brown dog jumped over a lazy fox!",
    "something",
    "Gruesse aus Koeln, naive cafe",
    "one three two\nfour six five",
    "",
]


SANDBOX = CodeExecution(backend="subprocess")
NEEDED: dict[str, dict[str, Any]] = {
    "json_schema": {"schema": {"type": "object"}},
    "pass_at_k": {"of": "python_syntax"},
}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load_one(name: str) -> ItemMetric:
        spec = MetricSpec(name=name, options=NEEDED.get(name, {}))
        return load_metric(spec, cache_dir=str(tmp_path), code_execution=SANDBOX)

    return load_one


@pytest.mark.parametrize("name", METRICS)
def test_the_catalogue_is_what_the_metrics_say(name: str, load: Any) -> None:
    metric = load(name)
    assert tuple(metric.figures) == FIGURES[name]
    assert all(figure == GENERATION[key] for key, figure in metric.figures.items())
    assert metric.signature
    assert metric.info.description
    taken = inspect.signature(type(metric)).parameters.values()
    options = {p.name for p in taken if p.kind == inspect.Parameter.KEYWORD_ONLY}
    assert options - {"code_execution"} == set(METRIC_OPTIONS[name])


@pytest.mark.parametrize("name", METRICS)
def test_options_have_the_defaults_that_a_recipe_says(name: str) -> None:
    taken = inspect.signature(metric_kind(MetricSpec(name=name))).parameters
    block = MetricBlock(name=name).model_dump()
    for option in METRIC_OPTIONS[name]:
        assert taken[option].default == block[option]


def test_the_catalogue_knows_which_side_is_better() -> None:
    assert tuple(LOSS) == (*LOSS_FIGURES, *DIVERGENCE_FIGURES)
    for name, figure in {**LOSS, **GENERATION}.items():
        assert figure.higher_is_better == (name not in SMALLER_IS_BETTER)


def test_the_catalogue_knows_which_figures_are_right_or_wrong() -> None:
    binary = {name for name, figure in GENERATION.items() if figure.kind == "binary"}
    assert set(RIGHT_OR_WRONG) == binary


def test_all_metrics_in_one_combination_without_a_network(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import evaluate

    def refuse(*_: object) -> None:
        raise AssertionError("a metric wanted the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    together = evaluate.combine([load(name) for name in METRICS])
    found = together.compute(
        predictions=ANSWERS,
        references=REFERENCES,
        tests=["assert add(1, 2) == 3"] * len(ANSWERS),
        example_id=["a", "a", "b", "b", "c", "c"],
        outcomes=[1.0, 0.0, 0.0, 0.0, 1.0, 1.0],
    )
    assert set(found) == {figure for name in METRICS for figure in FIGURES[name]}
    assert found["exact_match"] == 0.0
    assert found["tests_passed"] == pytest.approx(1 / 6)
    assert found["pass@1"] == pytest.approx(0.5)
    assert found["ter"] > 1.0


def test_tests_passed_computes_by_itself(load: Any) -> None:
    metric = load("tests_passed")
    found = metric.compute(
        predictions=["def f():\n    return 1", "def f():\n    return 2"],
        references=["", ""],
        tests=["assert f() == 1"] * 2,
    )
    assert found == {"tests_passed": 0.5}


def test_exact_match_normalises_as_declared(load: Any) -> None:
    metric = load("exact_match")
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    scores = metric.scores([f" {composed}\n", "a  b", "A"], [decomposed, "a b", "a"])
    assert scores == {"exact_match": [1.0, 0.0, 0.0]}


def test_chrf_is_sacrebleus(load: Any) -> None:
    from sacrebleu.metrics.chrf import CHRF

    metric = load("chrf")
    whole = CHRF().corpus_score(ANSWERS, [REFERENCES]).score
    found = metric.compute(predictions=ANSWERS, references=REFERENCES)["chrf"]
    assert found == pytest.approx(whole, abs=1e-9)
    assert metric.compute(predictions=REFERENCES[:2], references=REFERENCES[:2])["chrf"] == 100.0
    items = metric.scores(ANSWERS, REFERENCES)["chrf"]
    for answer, reference, item in zip(ANSWERS, REFERENCES, items, strict=True):
        expected = CHRF().sentence_score(answer, [reference]).score
        assert item == pytest.approx(expected, abs=1e-9)
    assert found != pytest.approx(np.mean(items), abs=0.5), "a corpus score is no mean of items"


def test_chrf_with_references_in_the_wrong_shape_would_be_another_number(load: Any) -> None:
    """lighteval passed one list per item where sacrebleu wants one stream of n references."""
    from sacrebleu.metrics.chrf import CHRF

    wrong = CHRF().corpus_score(ANSWERS[:1], [[r] for r in REFERENCES]).score
    metric = load("chrf")
    found = metric.compute(predictions=ANSWERS, references=REFERENCES)["chrf"]
    assert abs(found - wrong) > 1.0


def test_chrf_of_nothing_in_common() -> None:
    assert chrf(np.zeros((1, 18))).tolist() == [0.0]
    assert chrf(np.tile([4.0, 4.0, 0.0], 6)[None]).tolist() == [0.0]


def test_bleu_of_nothing_in_common() -> None:
    assert bleu(np.zeros((1, 10))).tolist() == [0.0]
    nothing = [4.0, 4.0, 0.0, 0.0, 0.0, 0.0, 4.0, 3.0, 2.0, 1.0]
    short = [3.0, 3.0, 3.0, 2.0, 1.0, 0.0, 3.0, 2.0, 1.0, 0.0]  # no 4-gram at all
    assert bleu(np.array([nothing, short])).tolist() == [0.0, 0.0]


def test_chrf_carries_its_signature(load: Any) -> None:
    assert "nc:6|nw:0" in load("chrf").signature


def test_json_valid(load: Any) -> None:
    answers = ['{"a": [1, null]}', " 3\n", '"x"', "NaN", "[1,]", "", "{'a': 1}", "1 2", "[" * 9999]
    scores = load("json_valid").scores(answers, answers)["json_valid"]
    assert scores == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_schemas_are_not_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: io.BytesIO(b"true"))
    schema = {"items": {"$ref": "https://example.org/x.json"}}
    metric = load_metric(
        MetricSpec(name="json_schema", options={"schema": schema}), cache_dir=str(tmp_path)
    )
    assert metric.scores(["{}", "]"], ["", ""])["json_schema"] == [1.0, 0.0]
    with pytest.raises(EvaluationError, match=r"refers to https://example.org/x.json, which is"):
        metric.scores(["[1]"], [""])
    with pytest.raises(EvaluationError, match="json_schema: this is no JSON Schema"):
        load_metric(MetricSpec(name="json_schema", options={"schema": {"type": 3}}))
    with pytest.raises(EvaluationError, match="json_schema needs its option schema"):
        load_metric("json_schema")


def test_token_f1_of_no_words(load: Any) -> None:
    scores = load("token_f1").scores(["the", "The!", "a dog"], ["an", "dog", "A dog!"])["token_f1"]
    assert scores == [1.0, 0.0, 1.0]


def test_python_syntax(load: Any) -> None:
    answers = [
        " def f():\n    return 1",
        "```python\ndef f():\n    return 1\n```\nThat is all.",
        "Here:\n```\nx = 1\n```",
        "```py\nx = 1",
        "def f(:",
        "",
        "# nothing but a comment",
        "x = 1\0",
        "(" * 5000,
        "'\\d' is 1",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = load("python_syntax").scores(answers, answers)["python_syntax"]
    assert scores == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_the_source_is_the_first_fenced_block() -> None:
    answer = "Use\n```python\na = '```'\n```\nor\n```\nb\n```"
    assert python_source(answer) == "a = '```'"
    assert python_source("  x = 1\n") == "x = 1"


@pytest.mark.parametrize("after", ["python", ' python title="a.py"', "c++", "{.python}", "\r"])
def test_whatever_stands_after_the_opening_fence(after: str) -> None:
    """Planted: only a word was known, and the text after the block was taken for the code."""
    assert python_source(f"Use\n```{after}\nx = 1\n```\nThat is it.") == "x = 1"


def test_a_number_beyond_all_numbers_follows_no_schema(tmp_path: Path) -> None:
    spec = MetricSpec(name="json_schema", options={"schema": {"multipleOf": 0.5}})
    metric = load_metric(spec, cache_dir=str(tmp_path))
    assert metric.scores(["1e999", "1.5"], ["", ""]) == {"json_schema": [0.0, 1.0]}


def test_code_is_run_nowhere_unless_it_is_said_where(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"name where in evaluation\.code_execution"):
        load_metric("tests_passed", cache_dir=str(tmp_path))


def test_an_example_without_tests_is_an_error(load: Any) -> None:
    with pytest.raises(EvaluationError, match="example 1 of the task has no tests"):
        load("tests_passed").scores(["x", "y"], ["", ""], tests=["assert 1", " "])


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("exact_match", {"ignore": ["colour"]}, "exact_match cannot ignore 'colour'"),
        ("rouge", {"stemer": True}, "rouge does not take 'stemer'; its options are stemmer"),
        ("token_f1", {"place": "x"}, "token_f1 does not take 'place'; its options are none"),
    ],
)
def test_options_that_a_metric_does_not_take(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(EvaluationError, match=told):
        load_metric(MetricSpec(name=name, options=options))


def test_an_unknown_metric_has_a_nearest_name() -> None:
    with pytest.raises(EvaluationError, match=r"'rogue' is not known.*Did you mean rouge\?"):
        load_metric("rogue")
