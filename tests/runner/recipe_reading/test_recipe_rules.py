"""Rules across keys: each on its own, and all of them on recipes that are wrong in places."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import Fault
from runner.recipe import Recipe
from runner.recipe_reading import format_columns, metric_rules
from runner.recipe_reading.document import parse_document
from runner.recipe_reading.recipe_file import recipe_faults

FULL = Path(__file__).parents[3] / "recipes" / "mistral-7b-gptq-code.yaml"


def _small(**blocks: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "small",
        "dataset": {"source": "data/train.jsonl"},
        "model": {"base": "models/tiny"},
        "training": {"max_steps": 100},
        **blocks,
    }


def _faults(recipe: dict[str, Any]) -> list[Fault]:
    return recipe_faults(parse_document(json.dumps(recipe, indent=1), suffix=".json", file="x"))


def _told(recipe: dict[str, Any]) -> list[str]:
    return [f"{fault.key}: {fault.message}" for fault in _faults(recipe)]


def _task(**keys: Any) -> dict[str, Any]:
    return {"name": "answers", "metrics": ["rouge"], **keys}


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("seed", "42", "It is text because of its quotes: write 42 without them."),
        ("seed", "2k", "Did you mean 2000?"),
        ("seed", "0x", "Did you mean 0?"),
        ("seed", "9" * 100 + "x", "is not a whole number"),
        ("version", "yes", "Version of the recipe format; this proofbox reads 1."),
        (
            "model",
            "x" * 100,
            "is not a block of keys (base, revision, dtype, pad_token, trust_remote_code)",
        ),
        ("evaluation", None, "Add keys under it, or remove it."),
        ("name", True, "Put it in quotes."),
    ],
)
def test_what_was_probably_meant(key: str, value: Any, hint: str) -> None:
    (told,) = _told({**_small(), key: value})
    assert told.endswith(hint)


def test_the_item_that_is_listed_twice_is_found_in_a_long_list() -> None:
    loss = [f"test{i}" for i in range(20_000)] + ["test0"]
    faults = _faults(_small(evaluation={"loss": loss}))
    assert "evaluation.loss[20000]" in {fault.key for fault in faults}


def test_a_small_recipe_breaks_no_rule() -> None:
    assert _told(_small()) == []


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_shares_may_miss_one_by_rounding_alone(share: float) -> None:
    partition = {"train": share, "validation": 0.9 - share, "test": 0.1}
    assert _told(_small(dataset={"source": "x.csv", "partition": partition})) == []


def test_a_wrong_share_is_told_once() -> None:
    partition = {"train": "most", "validation": 0.9}
    told = _told(_small(dataset={"source": "x.csv", "partition": partition}))
    assert told == ["dataset.partition.train: 'most' is not a number"]


def test_a_misspelt_key_is_not_told_as_missing_too() -> None:
    assert _told(_small(training={"max_step": 3})) == [
        "training.max_step: unknown key. Did you mean max_steps?"
    ]


def test_a_wrong_metric_name_is_not_told_again_by_its_gate() -> None:
    evaluation = {"generation": [_task(metrics=["rogue"])]}
    gates = [{"metric": "answers.rougeL", "claim": "superior"}]
    assert len(_told(_small(evaluation=evaluation, gates=gates))) == 1


def test_a_slip_in_one_task_leaves_the_others_checked() -> None:
    evaluation: dict[str, Any] = {
        "generation": [
            _task(limit=-1),
            _task(metrics=["tests_passed"]),
            _task(name="more", decoding={"top_p": 0.9}),
        ]
    }
    evaluation["code_execution"] = {"backend": "bubblewrap"}
    keys = [fault.key for fault in _faults(_small(evaluation=evaluation))]
    assert keys == [
        "evaluation.generation[0].limit",
        "evaluation.generation[1].name",
        "evaluation.generation[1].metrics[0]",
        "evaluation.generation[2].decoding.top_p",
    ]


def test_neutral_values_of_greedy_decoding_are_no_fault() -> None:
    decoding = {"do_sample": False, "temperature": 1.0, "top_p": 1, "top_k": 0}
    assert _told(_small(evaluation={"generation": [_task(decoding=decoding)]})) == []


def test_null_takes_a_key_out() -> None:
    gates = [{"metric": "test.loss", "claim": "ceiling", "at": 1, "margin": None}]
    assert _told(_small(training={"max_steps": None, "epochs": 1}, gates=gates)) == []


def test_gates_may_judge_everything_that_is_measured() -> None:
    evaluation = {"loss": ["test"], "generation": [_task(metrics=["rouge", "chrf"])]}
    figures = ["test.loss", "test.perplexity", "test.bits_per_byte", "test.token_accuracy"]
    figures += [f"answers.{name}" for name in ("rouge1", "rouge2", "rougeL", "rougeLsum", "chrf")]
    gates = [{"metric": figure, "claim": "superior"} for figure in figures]
    assert _told(_small(evaluation=evaluation, gates=gates)) == []


def test_metrics_of_plugins_are_known_and_may_yield_any_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint(name="meteor", value="theirs:Meteor", group="proofbox.metrics")
    metric_rules.plugin_metrics.cache_clear()
    monkeypatch.setattr(metric_rules, "entry_points", lambda group: [point])
    evaluation = {"generation": [_task(metrics=["meteor"])]}
    gates = [
        {"metric": f"{name}.meteor4", "claim": "ceiling", "at": 1.0} for name in ("answers", "test")
    ]
    keys = [fault.key for fault in _faults(_small(evaluation=evaluation, gates=gates))]
    metric_rules.plugin_metrics.cache_clear()
    assert keys == ["gates[1].metric"]


def test_a_template_is_parsed_and_never_run() -> None:
    user = "{{ instruction }}{{ 'x' * 99999999999 }}{{ 'x' | center(99999999999) }}"
    assert _told(_small(template={"user": user})) == []


@pytest.mark.parametrize(
    "user", ["{{" + "(" * 20_000, "{% if a %}" * 9_000, "{{ a" + "+1" * 40_000]
)
def test_a_hostile_template_is_a_fault(user: str) -> None:
    told = _told(_small(template={"user": user}))
    assert len(told) == 1
    assert "Jinja" in told[0]


@pytest.mark.parametrize(
    "expression", ["(" * 20_000, "a" + "+1" * 40_000, "a" + " | x" * 9_000, "'a' * "]
)
def test_a_hostile_filter_is_a_fault(expression: str) -> None:
    sources = [{"path": "x.csv", "filter": expression}]
    for dataset in ({"source": "x.csv", "filter": expression}, {"source": sources}):
        told = _told(_small(dataset=dataset))
        assert len(told) == 1
        assert "Jinja" in told[0]


def test_a_filter_is_parsed_and_never_run() -> None:
    dataset = {"source": "x.csv", "filter": "'x' * 99999999999 == 10 ** (10 ** 10)"}
    assert _told(_small(dataset=dataset)) == []


def test_formats_of_plugins_are_known_and_their_columns_are_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint(name="poem", value="theirs:Poem", group="proofbox.formats")
    format_columns.plugin_formats.cache_clear()
    monkeypatch.setattr(format_columns, "entry_points", lambda group: [point])
    dataset = {"source": "x.csv", "format": "poem", "columns": {"text": "a", "prompt": "b"}}
    known = _told(_small(dataset=dataset, template={"user": "{{ b }}"}))
    near = _told(_small(dataset={**dataset, "format": "poems"}))
    format_columns.plugin_formats.cache_clear()
    assert known == []
    assert near == [
        "dataset.format: 'poems' is not a format. There are alpaca, messages, poem, "
        "prompt_completion, sharegpt, text. Did you mean poem?"
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://ada:hunter2@h.org/a.csv",
        "https://hunter2@h.org/a.csv",
        "s3://key:hunter2@bucket/a.csv",
        "https://h.org/a.csv?sig=hunter2&se=1",
        "https://h.org/a.csv?x=1&AWSAccessKeyId=hunter2",
        "https://h.org/a.csv?access_token=hunter2",
        "https://h.org/a.csv?accessToken=hunter2",
        "https://h.org/a.csv?authtoken=hunter2",
        "https://h.org/a.csv?auth=hunter2",
        "https://h.org/a.csv?password=hunter2",
        "https://h.org/a.csv?apikey=hunter2",
        "https://h.org/a.csv?X-Goog-Credential=hunter2",
        "https://h.org/a.csv?x-api-key=hunter2",
        "https://h.org/a.csv?client_secret=hunter2",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    for source in (url, [url], [{"path": url}]):
        (told,) = _told(_small(dataset={"source": source}))
        assert "a recipe is stored with each of its runs" in told
        assert "hunter2" not in told


@pytest.mark.parametrize(
    "url",
    [
        "https://h.org/a.csv?download=1",
        "https://h.org/a.csv?author=ada&design=3&tokenizer=x&max_tokens=9&keys=2&signal=1",
        "abfs://c@a/b.csv",
        "http://[::1/a.csv",
        "http://[::1]:80/a.csv",
        "s3://a/b.csv",
    ],
)
def test_a_url_without_a_secret_is_no_fault(url: str) -> None:
    assert _told(_small(dataset={"source": [url]})) == []


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::https://ada:hunter2@h.org/a.jsonl",
        "zip://a.jsonl::https://ada:hunter2@h.org/a.zip",
        "https://h.org/a.jsonl?x=1::https://ada:hunter2@h.org/b.jsonl",
        "data/a.zip::https://ada:hunter2@h.org/a.zip",
    ],
)
def test_urls_in_one_are_refused_and_not_repeated(url: str) -> None:
    for source in (url, [url], [{"path": url}]):
        (told,) = _told(_small(dataset={"source": source}))
        assert told.endswith("not read here. Name the URL itself.")
        assert "hunter2" not in told


@pytest.mark.parametrize("loss_on", ["completion", "all"])
def test_truncation_needs_several_answers(loss_on: str) -> None:
    template = {"loss_on": loss_on, "too_long": "truncate"}
    assert _told(_small(template=template)) == [
        "template.too_long: this only drops here: an answer is kept whole or not at all. "
        "Write drop, or loss_on: assistant_turns."
    ]
    assert _told(_small(template={**template, "loss_on": "assistant_turns"})) == []


def test_partitions_of_sources_count_as_rows() -> None:
    sources = [{"path": "a.csv"}, {"path": "b.csv", "partition": "test"}]
    partition = {"train": 0.9, "validation": 0.1, "test": 0}
    evaluation = {"loss": ["test"], "generation": [_task(data="test")]}
    dataset = {"source": sources, "partition": partition}
    assert _told(_small(dataset=dataset, evaluation=evaluation)) == []


def test_a_slip_in_one_source_is_told_once_and_leaves_the_rest_checked() -> None:
    sources = [{"path": "a.csv", "wieght": 2}, {"path": "b.csv", "partition": "tset"}]
    dataset = {"source": sources, "partition": {"train": 1, "validation": 0, "test": 0}}
    recipe = _small(dataset=dataset, training={"max_steps": 1, "epochs": 1})
    assert [fault.key for fault in _faults(recipe)] == [
        "dataset.source[0].wieght",
        "dataset.source[1].partition",
        "training.epochs",
    ]


@pytest.mark.parametrize(
    "expression", ["(" * 50_000, "(a|" * 20_000, "a{99999999999}", "(?P<x", "*"]
)
def test_a_hostile_regular_expression_is_a_fault(expression: str) -> None:
    told = _told(_small(lora={"target_modules": expression}))
    assert len(told) == 1
    assert "regular expression" in told[0]


# Any one or more values of the full recipe replaced by anything


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    steps = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for step in steps:
        yield from _paths(value[step], (*path, step))


WHOLE = yaml.safe_load(
    FULL.read_text(encoding="utf-8").replace("3e-4", "0.0003").replace("1e-3", "0.001")
)
PATHS = [path for path in _paths(WHOLE) if path]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 200)
    | st.floats(-2, 200)
    | st.text(max_size=5)
    | st.sampled_from(
        ["auto", "none", "gptq", "test", "loss", "{{ output }}", "{% x", "cpu", "messages"]
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from([str(p[-1]) for p in PATHS]), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(deadline=None, max_examples=250)
@given(st.lists(st.tuples(st.sampled_from(PATHS), ANYTHING), min_size=1, max_size=4))
def test_a_recipe_with_anything_in_it_is_judged(changes: list[tuple[Any, Any]]) -> None:
    recipe = copy.deepcopy(WHOLE)
    for path, value in changes:
        block = recipe
        try:
            for step in path[:-1]:
                block = block[step]
            block[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    faults = _faults(recipe)
    assert all(fault.message and fault.line >= 1 for fault in faults)
    assert len(set(map(str, faults))) == len(faults)
    if not faults:
        Recipe.model_validate(recipe)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: ".".join(map(str, path)))
def test_the_full_recipe_without_any_one_key_is_judged(path: tuple[Any, ...]) -> None:
    recipe = copy.deepcopy(WHOLE)
    block = recipe
    for step in path[:-1]:
        block = block[step]
    del block[path[-1]]
    faults = _faults(recipe)
    if not faults:
        Recipe.model_validate(recipe)
