"""The release: its statement, its card, the same bytes again, and the Hub."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlparse

import pytest

from evalsuite.record_files import read_evidence
from runner.cli import guarded
from runner.commands.release import release
from runner.commands.verify import verify
from runner.errors import UsageError
from runner.hub_upload import push_release
from runner.run_folder import RunFolder
from runner.statement import CHECKSUMS, NOT_SUBJECTS, STATEMENT, statement_of
from runner.stored_json import read_json
from runner.training.adapter_files import folder_digest
from tests.conftest import ROOT


def digests(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_the_statement_is_in_totos_and_about_every_file(released_run: RunFolder) -> None:
    statement = read_json(released_run.release / STATEMENT)
    assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert urlparse(statement["predicateType"]).scheme  # a TypeURI (RFC 3986)
    subjects = {s["name"]: s["digest"] for s in statement["subject"]}
    files = digests(released_run.release)
    assert subjects == {n: {"sha256": d} for n, d in files.items() if n not in NOT_SUBJECTS}
    assert {"adapter_model.safetensors", "README.md", "report.html", "lock.json"} <= set(subjects)


def test_the_statement_says_what_was_decided(released_run: RunFolder) -> None:
    predicate = read_json(released_run.release / STATEMENT)["predicate"]
    files = digests(released_run.release)
    verdict = read_json(released_run.verdict)
    assert predicate["verdict"]["result"] == "PASS"
    assert predicate["gates"] == verdict["gates"]
    assert predicate["evidence"] == {"sha256": files["evidence.json"]}
    assert predicate["evidence"]["sha256"] == verdict["evidence_digest"]
    assert predicate["judged"]["adapterDigest"] == folder_digest(released_run.adapter)
    assert predicate["released"]["adapterDigest"] == folder_digest(released_run.adapter)
    assert predicate["released"]["tokenizerDigest"] == folder_digest(released_run.tokenizer)
    lock = read_json(released_run.lock)
    assert predicate["base"]["digest"] == lock["model"]["digest"]
    assert predicate["versions"] == lock["versions"]


def test_the_statement_names_a_base_that_the_run_quantized(release_copy: Path) -> None:
    lock = json.loads((release_copy / "lock.json").read_text())
    made = {
        "digest": "7" * 64, "quantization": {"bits": 4}, "calibration_digest": "8" * 64,
        "versions": {"gptqmodel": "7.6.0"},
    }  # fmt: skip
    parts = {"adapter_files": ["adapter_config.json"], "tokenizer_files": ["tokenizer.json"]}
    before = statement_of(release_copy, fit="judged", **parts)["predicate"]
    assert "quantizedBase" not in before
    (release_copy / "lock.json").write_text(json.dumps({**lock, "quantized": made}))
    after = statement_of(release_copy, fit="judged", **parts)["predicate"]
    assert after["base"] == before["base"]
    assert after["quantizedBase"] == {
        "digest": "7" * 64, "quantization": {"bits": 4}, "calibrationDigest": "8" * 64,
        "versions": {"gptqmodel": "7.6.0"},
    }  # fmt: skip


def test_sha256sum_checks_a_release(released_run: RunFolder) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", CHECKSUMS],
        cwd=released_run.release, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_same_evidence_gives_the_same_bytes(run_copy: RunFolder) -> None:
    before = digests(run_copy.release)
    shutil.rmtree(run_copy.release)
    assert guarded(lambda: release(run_copy.path, final=False)) == 0
    assert digests(run_copy.release) == before


def test_the_card_is_valid_and_holds_every_figure(released_run: RunFolder) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(released_run.release / "README.md")
    measured = {
        m.metric: m
        for m in read_evidence(released_run.evidence).measurements
        if m.subject == "adapter"
    }
    results = card.data.eval_results
    assert {f"{r.dataset_config}.{r.metric_type}" for r in results} == set(measured)
    for result in results:
        m = measured[f"{result.dataset_config}.{result.metric_type}"]
        assert result.metric_value == m.value
        assert result.metric_args["interval_95"] == [m.low, m.high]


def test_a_final_fit_says_that_it_was_not_judged(run_copy: RunFolder, capsys: Any) -> None:
    """Its files are its own; evidence and verdict are those of the gated run."""
    final = run_copy.final
    final.path.mkdir()
    for name in ("adapter", "tokenizer"):
        shutil.copytree(run_copy.path / name, final.path / name)
    content = bytearray((final.adapter / "adapter_model.safetensors").read_bytes())
    content[-1] ^= 1
    (final.adapter / "adapter_model.safetensors").write_bytes(bytes(content))
    digest = folder_digest(final.adapter)
    for name in ("training.json", "reload.json"):
        record = {**read_json(run_copy.path / name), "adapter_digest": digest}
        (final.path / name).write_text(json.dumps(record))
    assert guarded(lambda: release(run_copy.path, final=True)) == 0
    predicate = read_json(final.release / STATEMENT)["predicate"]
    assert predicate["released"]["fit"] == "final"
    assert predicate["released"]["adapterDigest"] == digest
    assert predicate["judged"]["adapterDigest"] == folder_digest(run_copy.adapter)
    assert guarded(lambda: verify(final.release, key=None)) == 0
    said = json.loads((final.release / "final" / "training.json").read_text())
    said["adapter_digest"] = "0" * 64
    (final.release / "final" / "training.json").write_text(json.dumps(said))
    assert guarded(lambda: verify(final.release, key=None)) == 1


@pytest.mark.parametrize("name", ["listings/leaked.parquet", "data.json", "report.html"])
def test_a_missing_record_is_named(name: str, run_copy: RunFolder, capsys: Any) -> None:
    (run_copy.path / name).unlink()
    before = digests(run_copy.release)
    code = guarded(lambda: release(run_copy.path, final=False))
    if name == "report.html":  # is written again
        assert code == 0
        return
    assert code == 4
    assert name in capsys.readouterr().err
    assert digests(run_copy.release) == before


def better_evidence(run: RunFolder) -> None:
    """A figure that the per-example records do not give."""
    evidence = read_json(run.evidence)
    evidence["differences"][0]["difference"] -= 1.0
    run.evidence.write_text(json.dumps(evidence))


def older_verdict(run: RunFolder) -> None:
    """The run was stopped after it was weighed again, and before it was judged."""
    verdict = read_json(run.verdict)
    verdict["evidence_digest"] = "0" * 64
    run.verdict.write_text(json.dumps(verdict))


def failed_verdict(run: RunFolder) -> None:
    """Judged by other code, which thought otherwise."""
    verdict = read_json(run.verdict)
    verdict["verdict"] = verdict["gates"][0]["verdict"] = "FAIL"
    run.verdict.write_text(json.dumps(verdict))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (better_evidence, "evidence.json: test.loss.difference is"),
        (older_verdict, "verdict.json: was given on other evidence"),
        (failed_verdict, "verdict.json: verdict is FAIL but must be PASS, when judged again"),
    ],
)
def test_what_would_not_verify_is_not_packed(
    change: Callable[[RunFolder], None], said: str, run_copy: RunFolder, capsys: Any
) -> None:
    change(run_copy)
    before = digests(run_copy.release)
    assert guarded(lambda: release(run_copy.path, final=False)) == 4
    assert said in capsys.readouterr().err
    assert digests(run_copy.release) == before


class FakeHub:
    """Records what it is asked; keeps one repository."""

    def __init__(self, *, private: bool = True) -> None:
        self.private = private
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))

    def model_info(self, repo_id: str) -> Any:
        return type("Info", (), {"private": self.private})

    def upload_folder(self, **options: Any) -> Any:
        self.calls.append(("upload_folder", options))
        return type("Commit", (), {"commit_url": "https://hub.invalid/commit/1"})


def push(hub: FakeHub, folder: Path, **options: Any) -> str:
    return push_release(folder, "org/name", message="m", api=hub, **options)  # type: ignore[arg-type] # a fake


def test_a_push_is_private_unless_it_is_asked_for(released_run: RunFolder) -> None:
    hub = FakeHub()
    assert push(hub, released_run.release, public=False) == "https://hub.invalid/commit/1"
    (_, created), (_, uploaded) = hub.calls
    assert created == {
        "repo_id": "org/name", "repo_type": "model", "private": True, "exist_ok": True
    }  # fmt: skip
    assert uploaded["folder_path"] == str(released_run.release)
    assert uploaded["delete_patterns"] == "*"
    hub = FakeHub(private=False)
    push(hub, released_run.release, public=True)
    assert hub.calls[0][1]["private"] is False


def test_a_public_repository_is_not_filled_by_accident(released_run: RunFolder) -> None:
    hub = FakeHub(private=False)
    with pytest.raises(UsageError, match=r"is public already\. Add --public"):
        push(hub, released_run.release, public=False)
    assert [name for name, _ in hub.calls] == ["create_repo"]


def test_nothing_is_pushed_without_a_pass(run_copy: RunFolder, capsys: Any) -> None:
    verdict = read_json(run_copy.verdict)
    verdict["gates"][0]["gate"]["margin"] = 50.0
    run_copy.verdict.write_text(json.dumps(verdict))
    code = guarded(lambda: release(run_copy.path, final=False, push="org/name"))
    assert code == 1
    said = capsys.readouterr()
    assert "not released. The verdict is FAIL" in said.err
    assert "Hub" not in said.err  # it was not even asked
    assert said.out == ""


def test_offline_is_said_with_what_to_do(run_copy: RunFolder, capsys: Any) -> None:
    """The test suite sets HF_HUB_OFFLINE."""
    assert guarded(lambda: release(run_copy.path, final=False, push="org/name")) == 4
    said = capsys.readouterr().err
    assert "the Hub cannot be reached from here" in said
    assert f"The release is packed at {run_copy.release}" in said
    assert guarded(lambda: verify(run_copy.release, key=None)) == 0


@pytest.mark.parametrize("name", ["name", "a/b/c", "../x", "org/na me"])
def test_a_wrong_name_is_a_wrong_use(name: str, run_copy: RunFolder, capsys: Any) -> None:
    assert guarded(lambda: release(run_copy.path, final=False, push=name)) == 2
    assert "--push" in capsys.readouterr().err


def test_public_needs_a_place(run_copy: RunFolder) -> None:
    assert guarded(lambda: release(run_copy.path, final=False, public=True)) == 2


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub's HTTP interface as a commit of small files needs."""

    status: ClassVar[int]
    files: ClassVar[dict[str, bytes]]
    asked: ClassVar[list[tuple[str, str | None]]]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer("GET", b"")

    def do_POST(self) -> None:
        self.answer("POST", self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def answer(self, method: str, body: bytes) -> None:
        path = urlparse(self.path).path
        type(self).asked.append((f"{method} {path}", self.headers.get("Authorization")))
        if type(self).status != 200:
            self.send(type(self).status, {"error": "no"})
        else:
            self.send(200, self.found(path, body))

    def found(self, path: str, body: bytes) -> Any:
        if path.endswith("/repos/create"):
            return {"url": f"http://{self.headers['Host']}/org/name", "name": "org/name"}
        if path.endswith("/validate-yaml"):
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            kept = {"uploadMode": "regular", "shouldIgnore": False}
            return {"files": [{"path": name, **kept} for name in names]}
        if "/commit/" in path:
            self.commit(body)
            url = f"http://{self.headers['Host']}/org/name/commit/{'1' * 40}"
            return {"commitUrl": url, "commitOid": "1" * 40}
        return self.listed(tree="/tree/" in path)

    def listed(self, *, tree: bool) -> Any:
        files = type(self).files
        if tree:
            return [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in files.items()
            ]
        siblings = [{"rfilename": name} for name in files]
        return {
            "_id": "1", "id": "org/name", "modelId": "org/name", "private": True, "sha": "1" * 40,
            "siblings": siblings, "tags": [], "downloads": 0, "likes": 0,
        }  # fmt: skip

    def commit(self, body: bytes) -> None:
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                type(self).files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "deletedFile":
                type(self).files.pop(value["path"], None)

    def send(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[tuple[type[Hub], str]]:
    handler = type(
        "OneHub", (Hub,), {"status": 200, "files": {"old.bin": b"left over"}, "asked": []}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def push_by_command(run: RunFolder, endpoint: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret",
        "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "runner", "release", run.path, "--push", "org/name"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_arrives_at_the_hub_verifies(
    run_copy: RunFolder, hub: tuple[type[Hub], str], tmp_path: Path
) -> None:
    handler, endpoint = hub
    done = push_by_command(run_copy, endpoint)
    assert done.returncode == 0, done.stderr
    assert f"{endpoint}/org/name/commit/{'1' * 40}" in done.stdout
    assert {token for _, token in handler.asked} == {"Bearer hf_secret"}
    assert "hf_secret" not in done.stdout + done.stderr
    assert "old.bin" not in handler.files
    downloaded = tmp_path / "downloaded"
    for name, content in handler.files.items():
        (downloaded / name).parent.mkdir(parents=True, exist_ok=True)
        (downloaded / name).write_bytes(content)
    assert digests(downloaded) == digests(run_copy.release)
    assert guarded(lambda: verify(downloaded, key=None)) == 0


@pytest.mark.parametrize(("status", "words"), [(401, "hf auth login"), (500, "answered 500")])
def test_a_hub_that_refuses_is_explained(
    run_copy: RunFolder, hub: tuple[type[Hub], str], status: int, words: str
) -> None:
    handler, endpoint = hub
    handler.status = status
    done = push_by_command(run_copy, endpoint)
    assert done.returncode == 4
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "hf_secret" not in done.stderr
