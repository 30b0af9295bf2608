from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import EvidenceError
from evalsuite.gates import judge
from evalsuite.record_files import (
    evidence_digest,
    read_evidence,
    read_verdict,
    write_atomically,
    write_evidence,
    write_verdict,
)
from evalsuite.records import Evidence, Gate, Identity, Measurement, PairedDifference


@pytest.fixture
def evidence(identity: Identity) -> Evidence:
    return Evidence(
        measurements=(
            Measurement(
                metric="test.loss", subject="base", value=0.1 + 0.2, standard_error=math.inf,
                low=-math.inf, high=math.inf, degrees_of_freedom=0.0, examples=1, unit="nats",
                higher_is_better=False, method="clustered-ratio",
            ),
        ),
        differences=(
            PairedDifference(
                metric="a.b", difference=1.0, standard_error=0.5, low=0.0, high=2.0,
                degrees_of_freedom=4.0, examples=5, method="binary-items", gained=2, lost=1,
            ),
        ),
        leaked=(),
        identity=identity,
        base_digest="b",
        adapter_digest=None,
    )  # fmt: skip


def test_evidence_comes_back_as_it_was(tmp_path: Path, evidence: Evidence) -> None:
    path = tmp_path / "new" / "evidence.json"
    write_evidence(evidence, path)
    assert read_evidence(path) == evidence
    assert [p.name for p in path.parent.iterdir()] == ["evidence.json"]


def test_evidence_from_before_leaks_were_marked_is_refused(
    tmp_path: Path, evidence: Evidence
) -> None:
    path = tmp_path / "evidence.json"
    write_evidence(evidence, path)
    values = json.loads(path.read_text())
    del values["leaked"]
    path.write_text(json.dumps(values))
    with pytest.raises(EvidenceError, match="key leaked is missing; write the file anew"):
        read_evidence(path)


def test_a_verdict_comes_back_as_it_was(tmp_path: Path, evidence: Evidence) -> None:
    gates = [Gate(metric="a.b", claim="superior"), Gate(metric="c.d", claim="floor", at=0.5)]
    verdict = judge(gates, evidence)
    write_verdict(verdict, tmp_path / "verdict.json")
    assert read_verdict(tmp_path / "verdict.json") == verdict


def test_the_same_record_gives_the_same_bytes(tmp_path: Path, evidence: Evidence) -> None:
    write_evidence(evidence, tmp_path / "one.json")
    write_evidence(read_evidence(tmp_path / "one.json"), tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    json.loads((tmp_path / "one.json").read_text(), parse_constant=pytest.fail)


def test_a_whole_number_of_a_float_field_is_read_back_as_the_same_bytes(
    tmp_path: Path, evidence: Evidence
) -> None:
    """Its digest is in the verdict, and must not depend on whether it was stored in between."""
    whole = replace(evidence.measurements[0], degrees_of_freedom=23)
    counted = replace(evidence, measurements=(whole,))
    write_evidence(counted, tmp_path / "evidence.json")
    assert evidence_digest(read_evidence(tmp_path / "evidence.json")) == evidence_digest(counted)
    assert 'degrees_of_freedom": 23.0' in (tmp_path / "evidence.json").read_text()


def test_nan_is_never_written(tmp_path: Path, evidence: Evidence) -> None:
    spoiled = replace(evidence.measurements[0], value=math.nan)
    with pytest.raises(EvidenceError, match="NaN is never evidence"):
        write_evidence(replace(evidence, measurements=(spoiled,)), tmp_path / "evidence.json")
    assert list(tmp_path.iterdir()) == []


def changed(content: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """``content`` with the dotted ``place`` set to ``value``, or removed if it is `...`."""
    *way, last = place.split(".")
    inside: Any = content
    for step in way:
        inside = inside[int(step)] if step.isdigit() else inside[step]
    if value is ...:
        del inside[last]
    else:
        inside[last] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("measurements.0.value", ..., r"measurements\[0\]: key value is missing"),
        ("differences.0.p_value", ..., r"differences\[0\]: key p_value is missing"),
        ("identity", ..., "key identity is missing"),
        ("surprise", 1, "key surprise is unknown"),
        ("measurements.0.value", "0.3", r"measurements\[0\].value: expected float, found '0.3'"),
        ("measurements.0.value", True, "expected float, found True"),
        ("measurements.0.value", None, "expected float, found None"),
        ("measurements.0.examples", 1.5, "expected int, found 1.5"),
        ("measurements.0.examples", True, "expected int, found True"),
        ("measurements.0.higher_is_better", 1, "expected bool, found 1"),
        ("measurements.0.subject", "teacher", "'teacher' is not one of base, adapter"),
        ("measurements", {}, "measurements: expected a list, found dict"),
        ("identity", [], "identity: expected an object, found list"),
        ("base_digest", None, "base_digest: expected str, found None"),
    ],
)
def test_what_is_not_as_it_should_be(
    tmp_path: Path, evidence: Evidence, place: str, value: Any, message: str
) -> None:
    path = tmp_path / "evidence.json"
    write_evidence(evidence, path)
    path.write_text(json.dumps(changed(json.loads(path.read_text()), place, value)))
    with pytest.raises(EvidenceError, match=message):
        read_evidence(path)


@pytest.mark.parametrize("constant", ["NaN", "Infinity"])
def test_bare_constants_are_refused(tmp_path: Path, evidence: Evidence, constant: str) -> None:
    path = tmp_path / "evidence.json"
    write_evidence(evidence, path)
    path.write_text(path.read_text().replace("0.30000000000000004", constant))
    with pytest.raises(EvidenceError, match=f"{constant} is not a number"):
        read_evidence(path)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), ("{", "not valid JSON")]
)
def test_no_file_or_no_json(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "evidence.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(EvidenceError, match=message):
        read_evidence(path)


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(b"new", path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
