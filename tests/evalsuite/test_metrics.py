from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.answer_code import python_source
from evalsuite.catalogue import FIGURES, LOSS_FIGURES, METRICS, SMALLER_IS_BETTER
from evalsuite.corpus_scores import chrf
from evalsuite.errors import EvaluationError
from evalsuite.figures import GENERATION, LOSS
from evalsuite.metrics import load_metric
from evalsuite.metrics.item_metric import ItemMetric

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


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load_one(name: str) -> ItemMetric:
        return load_metric(name, cache_dir=str(tmp_path))

    return load_one


@pytest.mark.parametrize("name", METRICS)
def test_the_catalogue_is_what_the_metrics_say(name: str, load: Any) -> None:
    metric = load(name)
    assert tuple(metric.figures) == FIGURES[name]
    assert metric.signature
    assert metric.info.description


def test_the_catalogue_knows_which_side_is_better() -> None:
    assert tuple(LOSS) == LOSS_FIGURES
    for name, figure in {**LOSS, **GENERATION}.items():
        assert figure.higher_is_better == (name not in SMALLER_IS_BETTER)


def test_all_metrics_in_one_combination_without_a_network(tmp_path: Path, load: Any) -> None:
    import evaluate

    together = evaluate.combine([load(n) for n in METRICS if n != "tests_passed"])
    found = together.compute(predictions=ANSWERS, references=REFERENCES)
    assert set(found) == {f for n in METRICS if n != "tests_passed" for f in FIGURES[n]}
    assert found["exact_match"] == 0.0


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


def test_rouge_is_the_librarys(load: Any) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
    found = load("rouge").scores(ANSWERS, REFERENCES)
    for place, (answer, reference) in enumerate(zip(ANSWERS, REFERENCES, strict=True)):
        for name, score in scorer.score(target=reference, prediction=answer).items():
            assert found[name][place] == score.fmeasure


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


def test_chrf_carries_its_signature(load: Any) -> None:
    assert "nc:6|nw:0" in load("chrf").signature


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


def test_an_example_without_tests_is_an_error(load: Any) -> None:
    with pytest.raises(EvaluationError, match="example 1 of the task has no tests"):
        load("tests_passed").scores(["x", "y"], ["", ""], tests=["assert 1", " "])


def test_an_unknown_metric_has_a_nearest_name() -> None:
    with pytest.raises(EvaluationError, match=r"'rogue' is not known.*Did you mean rouge\?"):
        load_metric("rogue")
