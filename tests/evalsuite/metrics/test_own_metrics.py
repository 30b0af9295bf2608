"""Metrics of a file, of a package, of the evaluate library; and metrics under other names."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from evalsuite import metrics
from evalsuite.errors import EvaluationError
from evalsuite.metrics import load_metric, metric_signature
from evalsuite.metrics.loaded_metric import LoadedMetric
from evalsuite.records import MetricSpec

FILE = '''
from __future__ import annotations

from evalsuite.figures import Figure
from evalsuite.metrics.item_metric import ItemMetric


class Length(ItemMetric):
    """How long answers are."""

    description = "Characters of the answer, in units of `unit`."
    figures = {"length": Figure(kind="mean", unit="characters", higher_is_better=False)}

    def __init__(self, *, unit: float = 1.0, **settings):
        self.unit = unit
        super().__init__(**settings)

    @property
    def signature(self) -> str:
        return "len"

    def scores(self, predictions, references, **columns):
        return {"length": [len(answer) / self.unit for answer in predictions]}


class NoMetric:
    pass
'''
FOLDER = """
import datasets
import evaluate


class Overlap(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Share of characters in common.",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references, least=0.0):
        common = [len(set(p) & set(r)) for p, r in zip(predictions, references)]
        every = [len(set(p) | set(r)) for p, r in zip(predictions, references)]
        shares = [c / e if e else 1.0 for c, e in zip(common, every)]
        return {"overlap": sum(s for s in shares if s >= least) / len(shares), "all": shares}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A metric as the evaluate library wants it: a folder with a module of its name."""
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path / "modules"))
    place = tmp_path / "overlap"
    place.mkdir()
    (place / "overlap.py").write_text(FOLDER)
    return place


def test_a_metric_of_a_file_takes_options(file: Path, tmp_path: Path) -> None:
    spec = MetricSpec(name="Length", file=file, options={"unit": 2.0})
    metric = load_metric(spec, cache_dir=str(tmp_path))
    assert metric.scores(["four", ""], ["", ""]) == {"length": [2.0, 0.0]}
    assert metric.compute(predictions=["four"], references=[""]) == {"length": 2.0}


def test_the_content_of_a_file_is_part_of_its_signature(file: Path, tmp_path: Path) -> None:
    spec = MetricSpec(name="Length", file=file)
    metric = load_metric(spec, cache_dir=str(tmp_path))
    before = metric_signature(spec, metric)
    assert before.startswith("mine.py:Length sha256 ")
    assert str(tmp_path) not in before
    with_options = MetricSpec(name="Length", file=file, options={"unit": 3.0})
    assert metric_signature(with_options, metric) != before
    file.write_text(FILE.replace("len(answer)", "2 * len(answer)"))
    changed = load_metric(spec, cache_dir=str(tmp_path))
    assert metric_signature(spec, changed) != before
    assert changed.scores(["four"], [""]) == {"length": [8.0]}


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("Missing", {}, r"mine\.py:Missing has no such class"),
        ("NoMetric", {}, r"mine\.py:NoMetric is no subclass of ItemMetric"),
        ("Length", {"size": 1}, "Length does not take 'size'; its options are unit"),
    ],
)
def test_what_a_file_does_not_hold(
    file: Path, name: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(EvaluationError, match=told):
        load_metric(MetricSpec(name=name, file=file, options=options))


def test_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import a_module_that_is_nowhere\n")
    with pytest.raises(EvaluationError, match=r"broken\.py cannot be imported: ModuleNotFound"):
        load_metric(MetricSpec(name="X", file=path))
    with pytest.raises(EvaluationError, match="there is no such file to take a metric from"):
        load_metric(MetricSpec(name="X", file=tmp_path / "nowhere.py"))


def test_a_metric_of_an_installed_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point = EntryPoint(
        name="theirs", value="evalsuite.metrics.token_f1:TokenF1", group="proofbox.metrics"
    )
    monkeypatch.setattr(metrics, "entry_points", lambda group: [point])
    metric = load_metric("theirs", cache_dir=str(tmp_path))
    assert metric.scores(["a b"], ["b"]) == {"token_f1": [1.0]}
    assert metric_signature("theirs", metric) == f"options {{}}, {metric.signature}"
    with pytest.raises(EvaluationError, match=r"'their' is not known.*Did you mean theirs\?"):
        load_metric("their")


def test_a_local_metric_of_the_evaluate_library(folder: Path, tmp_path: Path) -> None:
    spec = MetricSpec(name=f"hub:{folder}", options={"figure": "overlap"})
    metric = load_metric(spec, cache_dir=str(tmp_path / "cache"))
    found = metric.scores(["ab", "x"], ["abcd", "y"])
    assert found == {"overlap": [0.5, 0.0]}
    assert metric.figures["overlap"].kind == "mean"
    assert metric.figures["overlap"].higher_is_better
    assert metric.compute(predictions=["ab"], references=["ab"]) == {"overlap": 1.0}
    signature = metric_signature(spec, metric)
    assert "overlap, sha256 " in signature
    assert str(tmp_path) not in signature


def test_options_and_side_of_a_metric_of_the_evaluate_library(folder: Path, tmp_path: Path) -> None:
    options = {"figure": "overlap", "smaller_is_better": True, "options": {"least": 0.6}}
    spec = MetricSpec(name=f"hub:{folder}", options=options, renamed="shared")
    metric = load_metric(spec, cache_dir=str(tmp_path / "cache"))
    assert metric.scores(["ab"], ["abcd"]) == {"shared": [0.0]}
    assert not metric.figures["shared"].higher_is_better


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"figure": "share"}, "gives overlap, all, and no share"),
        ({"figure": "all"}, "all is list, not one number"),
        ({}, "name the key of its result that counts"),
        ({"figure": "overlap", "options": {"most": 1}}, "cannot score the answer 'ab'"),
    ],
)
def test_what_a_metric_of_the_evaluate_library_cannot_give(
    folder: Path, tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(EvaluationError, match=told):
        load_metric(
            MetricSpec(name=f"hub:{folder}", options=options), cache_dir=str(tmp_path / "cache")
        ).scores(["ab"], ["ab"])


def test_a_metric_on_the_hub_is_asked_for_by_its_revision(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> None:
    import evaluate

    asked: list[tuple[str, Any]] = []
    load = evaluate.load

    def record(place: str, **settings: Any) -> Any:
        asked.append((place, settings["revision"]))
        return load(str(folder), cache_dir=settings["cache_dir"])

    monkeypatch.setattr("evaluate.load", record)
    options = {"figure": "overlap", "revision": "v1"}
    load_metric(MetricSpec(name="hub:owner/x", options=options), cache_dir=str(tmp_path))
    assert asked == [("owner/x", "v1")]


def test_a_metric_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"hub:.*nowhere cannot be loaded"):
        LoadedMetric(str(tmp_path / "nowhere"), figure="x", cache_dir=str(tmp_path))


def test_renamed_metrics_score_as_before(tmp_path: Path) -> None:
    def load(name: str, renamed: str | None = None) -> Any:
        return load_metric(MetricSpec(name=name, renamed=renamed), cache_dir=str(tmp_path))

    texts = ["one two", "three"], ["one", "three four"]
    assert load("bleu", "b").statistics(*texts) == {"b": load("bleu").statistics(*texts)["bleu"]}
    assert load("bleu", "b").figures == {"b": load("bleu").figures["bleu"]}
    short = load("rouge", "short").scores(*texts)
    assert short == {f"short_{k}": v for k, v in load("rouge").scores(*texts).items()}
    import evaluate

    together = evaluate.combine([load("chrf"), load("chrf", "again"), load("ter", "edits")])
    found = together.compute(predictions=texts[0], references=texts[1])
    assert set(found) == {"chrf", "again", "edits"}
    assert found["chrf"] == found["again"]
