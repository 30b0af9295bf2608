"""The HTML report of a run: structure, facts, determinism, hostile text, size."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from made_up_run import HOSTILE, TASK, problem, write_problems

from evalsuite.record_files import read_evidence, read_verdict, write_verdict
from evalsuite.records import Gate, Looks
from reports.errors import ReportError
from reports.run_report import write_run_report
from reports.stored_run import read_run
from reports.visible_text import visible

MakeRun = Callable[..., Path]
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "rect"}


class Page(HTMLParser):
    """A page as lists of elements and texts; every tag must be closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.raw:
            self.raw[self._open[-1]].append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag
            and all(value in (attributes.get(key) or "").split() for key, value in wanted.items())
        ]


def report_of(folder: Path, tmp_path: Path) -> str:
    out = tmp_path / "report.html"
    write_run_report(folder, out)
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def html(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report_of(run_folder, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_is_one_file_that_loads_nothing(page: Page) -> None:
    links = [a[k] for _, a in page.elements for k in ("href", "src", "srcset", "action") if k in a]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    assert not page.all("img")
    assert not page.all("link")
    assert not page.all("iframe")
    assert "@import" not in page.raw["style"][0]
    assert "url(" not in page.raw["style"][0]


def test_policy_names_exactly_the_inline_style_and_script(page: Page) -> None:
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        assert len(page.all(kind)) == 1
        digest = hashlib.sha256("".join(page.raw[kind]).encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_no_inline_handler_or_style_attribute(page: Page) -> None:
    for tag, attributes in page.elements:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag


def test_ids_are_unique_and_every_reference_has_its_target(page: Page) -> None:
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in ids
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids  # type: ignore[index]


def test_every_chart_has_a_name_a_description_and_a_table_twin(html: str, page: Page) -> None:
    charts = page.all("svg", role="img")
    assert len(charts) >= 10
    assert html.count("<title ") == len(charts)
    assert html.count("<desc ") == len(charts)
    figures = re.findall(r"<figure>.*?</figure>", html, re.DOTALL)
    assert figures
    for figure in figures:
        assert "<svg" in figure
        assert "<table" in figure
        assert re.search(r"<figcaption>[^<]+</figcaption>", figure)


def test_charts_stay_small(html: str) -> None:
    sizes = [len(chart) for chart in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]
    assert max(sizes) < 16_000


def test_headings_do_not_skip_a_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_banner_says_verdict_reason_run_and_how_to_verify(page: Page) -> None:
    banner = page.text[:1500]
    assert "RELEASE" in banner
    assert "All 3 gates pass." in banner
    assert "proofbox gate runs/quickstart/4be1c07a92d3" in banner


@pytest.mark.parametrize(
    ("gates", "word"),
    [
        ((Gate(metric="test.loss", claim="ceiling", at=0.01),), "BLOCKED"),
        ((Gate(metric=f"{TASK}.tests_passed", claim="floor", at=0.83),), "INCONCLUSIVE"),
        ((Gate(metric="test.nothing", claim="superior"),), "ERROR"),
        ((), "INCONCLUSIVE"),
    ],
)
def test_banner_word(make_run: MakeRun, tmp_path: Path, gates: tuple[Gate, ...], word: str) -> None:
    html = report_of(make_run(gates=gates), tmp_path)
    assert re.search(rf"<h1>.*<span>{word}</span></h1>", html, re.DOTALL)


def test_failing_gates_come_first(make_run: MakeRun, tmp_path: Path) -> None:
    gates = (
        Gate(metric="test.loss", claim="superior", margin=0.05),
        Gate(metric=f"{TASK}.tests_passed", claim="floor", at=0.83),
        Gate(metric="test.loss", claim="ceiling", at=0.01),
        Gate(metric="test.nothing", claim="superior"),
    )
    html = report_of(make_run(gates=gates), tmp_path)
    kinds = re.findall(r'<tbody role="rowgroup" class="gate (\w+)">', html)
    assert kinds == ["error", "fail", "inconclusive", "pass"]


def test_gate_tells_claim_line_and_numbers(page: Page) -> None:
    assert "Loss better than the base by more than 0.05" in page.text
    assert "Tests passed above 50%" in page.text
    assert "ROUGE-L less than 0.02 worse than the base" in page.text
    assert f"{TASK}.tests_passed floor at 0.5" in page.text


def test_losses_are_those_of_the_evidence(run_folder: Path, page: Page) -> None:
    evidence = read_evidence(run_folder / "evidence.json")
    measured = evidence.measurement("test.loss", "adapter")
    difference = evidence.difference("test.loss")
    assert measured is not None
    assert difference is not None
    assert f"{measured.value:.3f} [{measured.low:.3f}, {measured.high:.3f}]" in page.text
    minus = f"\N{MINUS SIGN}{-difference.difference:.3f} [\N{MINUS SIGN}{-difference.low:.3f}"
    assert minus in page.text
    assert "▲ better" in page.text


def test_shares_read_as_percentages_and_differ_by_points(run_folder: Path, page: Page) -> None:
    evidence = read_evidence(run_folder / "evidence.json")
    found = evidence.difference(f"{TASK}.tests_passed")
    assert found is not None
    assert f"+{100 * found.difference:.1f} points" in page.text
    assert f"{found.gained} gained for {found.lost} lost" in page.text


def test_every_section_is_there(page: Page) -> None:
    sections = [a["id"] for a in page.all("section") if "id" in a]
    assert sections == [
        "gates", "loss", "benchmarks", "samples", "prompts", "data", "speed", "reproduce",
    ]  # fmt: skip
    for words in (
        "Validation loss fell from",
        "Rows that broke a rule",
        "functions.jsonl:18 train too_long dropped 2,310 tokens 2,310",
        "3,002 source rows of format alpaca, found by its columns",
        "2 rows left out (unusable_row 1, too_long 1)",
        "2 of 5 rules broken: unusable_row, too_long",
        "the stop token is supervised error",
        "898 MiB",
        "Training ran at 5,198 real tokens/s",
        "How it was trained",
        "Device cpu, float32",
        "Computed for padding 12.0% Supervised 58.0%",
        "Computed at once at most 2,048 tokens",
        "Time of the steps 1 min 34 s Time in all 1 min 41 s, with validation",
        "torch 2.13.0",
        "optimizer paged_adamw_32bit needs CUDA",
    ):
        assert words in page.text


def test_the_list_of_problem_rows_may_be_missing_but_not_damaged(
    run_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    listed = folder / "listings" / "problems.parquet"
    listed.write_bytes(b"PAR1 no more")
    with pytest.raises(ReportError, match=r"problems\.parquet: cannot be read"):
        report_of(folder, tmp_path)
    listed.unlink()
    page = Page(report_of(folder, tmp_path))
    assert "Rows that broke a rule" not in page.text
    assert "2 of 5 rules broken" in page.text


def test_many_problem_rows_are_cut_and_counted(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    many = [problem(n, "train", "r", "kept") for n in range(450)]
    write_problems(folder / "listings", [*many, problem(900, "train", "rare", "kept")])
    page = Page(report_of(folder, tmp_path))
    assert "251 more rows in listings/problems.parquet of the run folder." in page.text
    assert "functions.jsonl:199 train r kept" in page.text
    assert "functions.jsonl:200 train" not in page.text
    assert "functions.jsonl:901 train rare kept" in page.text


def test_supervised_tokens_are_marked(html: str) -> None:
    marked = "".join(re.findall(r"<mark>(.*?)</mark>", html, re.DOTALL))
    assert "return" in marked
    assert "&lt;/s&gt;" in marked
    assert "INST" not in marked


def test_same_records_give_the_same_bytes_anywhere(run_folder: Path, tmp_path: Path) -> None:
    first = report_of(run_folder, tmp_path)
    elsewhere = tmp_path / "another" / "place"
    shutil.copytree(run_folder, elsewhere)
    timings = json.loads((elsewhere / "timings.json").read_text())
    (elsewhere / "timings.json").write_text(json.dumps(timings | {"report": 99.0}))
    assert report_of(elsewhere, tmp_path / "other") == first


def test_report_may_be_read_by_others(run_folder: Path, tmp_path: Path) -> None:
    report_of(run_folder, tmp_path)
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "report.html").stat().st_mode == plain.stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain", "report.html"]


def test_names_no_machine_and_no_person(run_folder: Path, html: str) -> None:
    assert "alice" not in html
    assert "/home" not in html
    assert str(run_folder.parent.parent) not in html
    assert "base: …/tiny" in html


def test_hostile_answers_are_there_as_text_only(html: str, page: Page) -> None:
    panes = page.text
    for answer in HOSTILE:
        assert " ".join(visible(answer[:200]).split()) in panes
    for raw in ("<script>alert", "<img", "<style>body", "\x1b", "\u202e", "\x00"):
        assert raw not in html.partition("<main")[2].partition("<script>")[0]
    assert "49" not in re.findall(r"<pre>(\{\{.*?)</pre>", html)[0]
    assert "16,000 more characters" in panes


def test_quickstart_sized_report_is_below_a_megabyte(html: str) -> None:
    assert len(html.encode()) < 1_000_000


def test_a_megabyte_in_one_answer_is_cut(make_run: MakeRun, tmp_path: Path) -> None:
    html = report_of(make_run(answers=["y" * 1_000_000]), tmp_path)
    assert len(html.encode()) < 1_000_000
    assert "996,000 more characters" in html


def test_at_most_300_samples_and_the_rest_counted(make_run: MakeRun, tmp_path: Path) -> None:
    html = report_of(make_run(examples=420), tmp_path)
    assert html.count('<details class="sample ') == 300
    assert "120 more examples are left out here" in html
    assert len(html.encode()) < 1_000_000


def test_changed_samples_come_first(html: str) -> None:
    changes = re.findall(r'<details class="sample (\w+)"', html)
    assert changes == sorted(changes, key=["regressed", "improved", "even"].index)
    assert {"regressed", "improved", "even"} == set(changes)


def test_report_without_a_base(make_run: MakeRun, tmp_path: Path) -> None:
    gate = Gate(metric=f"{TASK}.tests_passed", claim="floor", at=0.5)
    page = Page(report_of(make_run(base=False, gates=(gate,)), tmp_path))
    assert "RELEASE" in page.text
    assert "gained for" not in page.text


def test_report_of_one_example_has_infinite_intervals(make_run: MakeRun, tmp_path: Path) -> None:
    page = Page(report_of(make_run(examples=1), tmp_path))
    assert "INCONCLUSIVE" in page.text
    assert "∞" in page.text


def test_figures_that_are_not_known_are_not_shown(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "quickstart" / "older"
    shutil.copytree(make_run(), folder)
    page = Page(report_of(folder, tmp_path))
    assert "Of the device's peak" not in page.text
    assert "Of peak" not in page.text
    known = [{**point, "utilization": 0.7} for point in history_of(folder)]
    change(folder / "training.json", history=known, utilization=0.703, devices=2, strategy="fsdp")
    page = Page(report_of(folder, tmp_path))
    assert "Of the device's peak 70.3%" in page.text
    assert "Device 2 x cpu, float32, fsdp" in page.text
    assert "Step Real tokens/s Of peak Padding Supervised Peak memory" in page.text
    older = ("wall_seconds", "padding", "supervised", "utilization", "micro_batch_tokens", "dtype")
    bare = [
        {k: p[k] for k in ("step", "loss", "learning_rate", "tokens_per_second")}
        for p in history_of(folder)
    ]
    drop(folder / "training.json", *older)
    change(folder / "training.json", history=bare)
    page = Page(report_of(folder, tmp_path))
    assert "Computed for padding" not in page.text
    assert "Training ran at 5,198 real tokens/s" in page.text


def history_of(folder: Path) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = json.loads((folder / "training.json").read_text())["history"]
    return history


def drop(path: Path, *keys: str) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in record.items() if k not in keys}))


def test_report_without_tasks_samples_or_curve(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "quickstart" / "bare"
    shutil.copytree(make_run(gates=()), folder)
    change(folder / "training.json", history=[], validation=[])
    evidence = json.loads((folder / "evidence.json").read_text())
    for key in ("measurements", "differences"):
        evidence[key] = [m for m in evidence[key] if not m["metric"].startswith(TASK)]
    (folder / "evidence.json").write_text(json.dumps(evidence))
    for subject in ("base", "adapter"):
        (folder / "evaluation" / subject / f"{TASK}.parquet").unlink()
        (folder / "evaluation" / subject / "samples.json").unlink()
    page = Page(report_of(folder, tmp_path))
    sections = [a["id"] for a in page.all("section") if "id" in a]
    assert sections == ["gates", "loss", "data", "speed", "reproduce"]
    assert "The recipe declares no gates" in page.text


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_missing_record_is_named(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "training.json").unlink()
    with pytest.raises(ReportError, match=r"training\.json: this file is missing"):
        read_run(folder)


def test_a_missing_key_is_named(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    lock = json.loads((folder / "lock.json").read_text())
    del lock["model"]["digest"]
    (folder / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(ReportError, match=r"lock\.json: model\.digest: Field required"):
        read_run(folder)


def test_nan_is_refused(run_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run_folder, tmp_path / "run")
    change(folder / "training.json", seconds=float("nan"))
    with pytest.raises(ReportError, match=r"training\.json: seconds"):
        read_run(folder)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="not a run folder"):
        write_run_report(tmp_path, tmp_path / "out" / "report.html")
    assert not (tmp_path / "out").exists()


def test_answers_of_different_examples_are_not_paired(make_run: MakeRun, tmp_path: Path) -> None:
    folder = shutil.copytree(make_run(), tmp_path / "run")
    other = make_run(examples=239)
    shutil.copy(
        other / "evaluation" / "base" / f"{TASK}.parquet",
        folder / "evaluation" / "base" / f"{TASK}.parquet",
    )
    with pytest.raises(ReportError, match="239 examples on one side, 240 on the other"):
        write_run_report(folder, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_where_code_ran_is_said_and_unsafe_is_called_so(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    assert "code ran in" not in Page(report_of(folder, tmp_path)).text
    summary = folder / "evaluation" / "adapter" / "summary.json"
    for place, unsafe in (("bubblewrap 0.8.0, 3 s", False), ("subprocess (unsafe: …)", True)):
        summary.write_text(json.dumps({"generation": {TASK: {"code_execution": place}}}))
        text = Page(report_of(folder, tmp_path)).text
        assert f"The answers' code ran in {place}." in text
        assert ("Unsafe" in text) == unsafe


def test_looks_warnings_and_the_release_are_in_the_report(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder = make_run(name="looked-at")
    verdict = read_verdict(folder / "verdict.json")
    of_release = replace(verdict.gates[0], gate=replace(verdict.gates[0].gate, against="release"))
    told = replace(
        verdict,
        gates=(of_release, *verdict.gates[1:]),
        looks=(Looks(group="test", count=4),),
        warnings=("test.loss: 2 seeds <differ>",),
    )
    write_verdict(told, folder / "verdict.json")
    html = report_of(folder, tmp_path)
    assert "look 4 at test" in html
    assert "Warning: test.loss: 2 seeds &lt;differ&gt;" in html
    assert "better than the last release" in html
