"""Every metric equals its reference library on 200 pairs, and the bootstrap's formulas do too."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest

from evalsuite.bootstrap import resampled_totals
from evalsuite.corpus_scores import CORPUS_SCORES
from evalsuite.metrics.item_metric import ItemMetric
from tests.evalsuite.metrics.squad import compute_exact, compute_f1
from tests.evalsuite.metrics.text_pairs import Pairs

Load = Callable[..., ItemMetric]

SQUAD = ("case", "punctuation", "articles", "whitespace")
SACREBLEU = [
    ("bleu", {}),
    ("bleu", {"tokenize": "intl", "lowercase": True}),
    ("bleu", {"tokenize": "char"}),
    ("bleu", {"tokenize": "zh"}),
    ("bleu", {"tokenize": "none"}),
    ("chrf", {}),
    ("chrf", {"word_order": 2}),
    ("chrf", {"word_order": 1, "lowercase": True}),
    ("ter", {}),
    ("ter", {"case_sensitive": True}),
]


def sacrebleu_metric(name: str, options: dict[str, Any], **more: Any) -> Any:
    """The library's own, made apart from ours."""
    from sacrebleu.metrics import BLEU, CHRF, TER

    return {"bleu": BLEU, "chrf": CHRF, "ter": TER}[name](**options, **more)


@pytest.mark.parametrize(("name", "options"), SACREBLEU, ids=str)
def test_figures_of_a_corpus_are_sacrebleus(
    load: Load, pairs: Pairs, name: str, options: dict[str, Any]
) -> None:
    answers, references = pairs
    metric = load(name, **options)
    whole = sacrebleu_metric(name, options).corpus_score(answers, [references])
    found = metric.compute(predictions=answers, references=references)
    assert found == {name: pytest.approx(whole.score, abs=1e-9)}
    assert 1 < whole.score < 99
    assert metric.signature.startswith(f"{whole.name}|nrefs:1|")


@pytest.mark.parametrize(("name", "options"), SACREBLEU, ids=str)
def test_figures_of_single_answers_are_sacrebleus(
    load: Load, pairs: Pairs, name: str, options: dict[str, Any]
) -> None:
    answers, references = pairs
    more = {"effective_order": True} if name == "bleu" else {}
    theirs = sacrebleu_metric(name, options, **more)
    found = load(name, **options).scores(answers, references)[name]
    for answer, reference, score in zip(answers, references, found, strict=True):
        expected = theirs.sentence_score(answer, [reference]).score
        assert score == pytest.approx(expected, abs=1e-9), (answer, reference)


@pytest.mark.parametrize(("name", "options"), SACREBLEU, ids=str)
def test_the_bootstraps_formula_is_sacrebleus_on_every_resample(
    load: Load, pairs: Pairs, name: str, options: dict[str, Any]
) -> None:
    """Also on resamples of so few texts that whole orders of n-grams are missing."""
    answers, references = pairs
    theirs = sacrebleu_metric(name, options)
    metric = load(name, **options)
    figure = metric.figures[name]
    for items in (2, 5, 200):
        rows = metric.statistics(answers[:items], references[:items])[name]
        totals = resampled_totals(np.array(rows), replicates=300)
        expected = [theirs._compute_score_from_stats([*map(int, row)]).score for row in totals]
        if figure.kind == "ratio":
            kept = totals[:, 1] > 0
            found = 100.0 * totals[kept, 0] / totals[kept, 1]
            expected = [score for score, keep in zip(expected, kept, strict=True) if keep]
        else:
            found = CORPUS_SCORES[str(figure.formula)](totals)
        assert found == pytest.approx(expected, abs=1e-9)


def test_resampling_texts_is_resampling_their_statistics(load: Load, pairs: Pairs) -> None:
    answers, references = pairs
    drawn = np.random.default_rng(0).integers(0, len(answers), len(answers))
    again = [answers[i] for i in drawn], [references[i] for i in drawn]
    for name in ("bleu", "chrf", "ter"):
        metric = load(name)
        rows = np.array(metric.statistics(answers, references)[name])[drawn]
        whole = sacrebleu_metric(name, {}).corpus_score(again[0], [again[1]]).score
        direct = metric.compute(predictions=again[0], references=again[1])[name]
        assert direct == pytest.approx(whole, abs=1e-9)
        assert rows.tolist() == metric.statistics(*again)[name]


def test_token_f1_is_squads(load: Load, pairs: Pairs) -> None:
    answers, references = pairs
    found = load("token_f1").scores(answers, references)["token_f1"]
    expected = [compute_f1(r, a) for a, r in zip(answers, references, strict=True)]
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0.1 < np.mean(found) < 0.9


def test_exact_match_ignoring_what_squad_ignores_is_squads(load: Load, pairs: Pairs) -> None:
    answers, references = pairs
    found = load("exact_match", ignore=SQUAD).scores(answers, references)["exact_match"]
    expected = [float(compute_exact(r, a)) for a, r in zip(answers, references, strict=True)]
    assert found == expected
    strict = load("exact_match").scores(answers, references)["exact_match"]
    assert 0 < sum(strict) < sum(found) < len(found)


@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_is_the_librarys(load: Load, pairs: Pairs, stemmer: bool) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    answers, references = pairs
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stemmer)
    found = load("rouge", stemmer=stemmer).scores(answers, references)
    for place, (answer, reference) in enumerate(zip(answers, references, strict=True)):
        for name, score in scorer.score(target=reference, prediction=answer).items():
            assert found[name][place] == score.fmeasure


def test_json_schema_is_jsonschemas(load: Load) -> None:
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "n": {"$ref": "#/$defs/count"}},
        "$defs": {"count": {"type": "integer", "minimum": 0}},
        "additionalProperties": False,
    }
    values = [
        {"name": name, **more} if name is not None else dict(more)
        for name in ("Ada", "", 3, None)
        for more in ({}, {"n": 0}, {"n": -1}, {"n": 1.5}, {"n": True}, {"other": 1})
    ]
    values += [None, True, 0, "Ada", [], [{"name": "Ada"}]]  # type: ignore[list-item]
    answers = [json.dumps(value) for value in values]
    found = load("json_schema", schema=schema).scores(answers, answers)["json_schema"]
    validator = jsonschema.Draft202012Validator(schema)
    assert found == [float(validator.is_valid(value)) for value in values]
    assert set(found) == {0.0, 1.0}


def test_pass_at_k_is_the_binomial_formula() -> None:
    from evalsuite.metrics.pass_at_k import pass_at_k

    for answers in (1, 2, 5, 20, 200):
        for right in range(answers + 1):
            for k in {1, 2, answers // 2, answers} - {0}:
                if k <= answers:
                    none = math.comb(answers - right, k) / math.comb(answers, k)
                    assert pass_at_k(answers, right, k) == pytest.approx(1 - none, abs=1e-12)
