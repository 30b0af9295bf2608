"""Files behind URLs: a local server that one can look into, stop and make lie."""

from __future__ import annotations

import gzip
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from runner.data.reading import remote_files
from runner.data.reading.row_reading import read_rows
from runner.data.reading.sources import SourceRecord, resolve_source
from runner.data.reading.urls import is_url, shown_url
from runner.errors import DataError, MachineError
from runner.recipe import Dataset
from tests.runner.data.reading.source_rows import COLUMNS, ROWS, json_lines

SECRET = "hunter2"


@dataclass
class Server:
    """What it serves, and what it was asked for."""

    address: str = ""
    content: bytes = json_lines(ROWS).encode()
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"1"'})
    status: int = 200
    promised: int | None = None
    asked: list[str] = field(default_factory=list)
    delay: float = 0

    @property
    def fetched(self) -> int:
        return self.asked.count("GET")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            served.asked.append(self.command)
            time.sleep(served.delay)
            self.send_response(served.status)
            for name, value in served.headers.items():
                self.send_header(name, value)
            size = served.promised or len(served.content)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if body:
                self.wfile.write(served.content)

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        served.address = f"http://127.0.0.1:{http.server_port}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield served
        http.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROOFBOX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def resolve(*urls: str) -> SourceRecord:
    return resolve_source(Dataset(source=urls), Path("/nowhere"))


def rows_of(record: SourceRecord) -> list[dict[str, Any]]:
    return [row.values for row in read_rows(record, COLUMNS)]


def test_a_url_is_fetched_once_and_named_by_its_content(server: Server, cache: Path) -> None:
    url = f"{server.address}/data/rows.jsonl"
    first, second = resolve(url), resolve(url)
    assert rows_of(first) == rows_of(second) == ROWS
    assert first == second
    assert server.fetched == 1
    (file,) = first.files
    assert file.name == url
    assert Path(file.path) == cache / "downloads" / f"{file.sha256}.jsonl"
    assert next(read_rows(first, COLUMNS)).place == f"{url}:1"


def test_its_digest_is_that_of_the_same_file_here(server: Server, tmp_path: Path) -> None:
    (tmp_path / "here.jsonl").write_bytes(server.content)
    here = resolve_source(Dataset(source="here.jsonl"), tmp_path)
    assert resolve(f"{server.address}/rows.jsonl").digest == here.digest


def test_a_compressed_file_is_read_from_its_copy(server: Server) -> None:
    server.content = gzip.compress(server.content)
    assert rows_of(resolve(f"{server.address}/rows.jsonl.gz")) == ROWS


def test_a_file_that_the_server_says_has_changed_is_fetched_again(server: Server) -> None:
    url = f"{server.address}/rows.jsonl"
    first = resolve(url)
    server.content, server.headers = json_lines(ROWS[:2]).encode(), {"ETag": '"2"'}
    assert rows_of(resolve(url)) == ROWS[:2]
    assert rows_of(first) == ROWS  # the old copy lies where it lay


@pytest.mark.parametrize(
    ("headers", "fetched"),
    [({}, 2), ({"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}, 1), ({"Content-MD5": "x"}, 1)],
)
def test_a_copy_is_reused_only_where_the_server_tells_versions_apart(
    server: Server, headers: dict[str, str], fetched: int
) -> None:
    server.headers = headers
    url = f"{server.address}/rows.jsonl"
    resolve(url)
    resolve(url)
    assert server.fetched == fetched


@pytest.mark.parametrize("status", [500, 503, 0])
def test_the_copy_is_used_and_that_is_said_where_the_server_is_out_of_reach(
    server: Server, status: int
) -> None:
    url = f"{server.address}/rows.jsonl"
    first = resolve(url)
    if status:
        server.status = status
        second = resolve(url)
        said = f"the server answered {status}"
    else:
        url = "http://127.0.0.1:1/rows.jsonl"
        with pytest.raises(MachineError, match=r"cannot be reached \(Client\w+\), and there is no"):
            resolve(url)
        entry = remote_files.cache_folder() / "downloads" / "urls"
        (known,) = entry.iterdir()
        known.rename(known.with_stem(remote_files.text_digest(url)))
        second = resolve(url)
        said = "the server cannot be reached"
    assert rows_of(second) == ROWS
    assert second.digest == first.digest
    (note,) = second.notes
    assert said in note
    assert "the copy fetched earlier is used" in note


def test_a_silent_server_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "READ_TIMEOUT", 0.2)
    server.delay = 2
    started = time.monotonic()
    with pytest.raises(MachineError, match="cannot be reached"):
        resolve(f"{server.address}/silent.jsonl")
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_no_reason_to_use_the_copy(server: Server, status: int) -> None:
    url = f"{server.address}/rows.jsonl"
    resolve(url)
    server.status = status
    with pytest.raises((DataError, MachineError), match=f"the server answered {status}"):
        resolve(url)


def test_a_file_that_comes_in_part_is_not_kept(server: Server, cache: Path) -> None:
    server.promised = len(server.content) + 10
    with pytest.raises(MachineError):
        resolve(f"{server.address}/rows.jsonl")
    assert not [path for path in (cache / "downloads").iterdir() if path.is_file()]


def test_a_damaged_entry_or_a_lost_copy_is_fetched_again(server: Server, cache: Path) -> None:
    url = f"{server.address}/rows.jsonl"
    (file,) = resolve(url).files
    Path(file.path).unlink()
    assert rows_of(resolve(url)) == ROWS
    (entry,) = (cache / "downloads" / "urls").iterdir()
    entry.write_text("{")
    assert rows_of(resolve(url)) == ROWS
    assert server.fetched == 3


# Credentials


def _said(call: Any) -> str:
    with pytest.raises((DataError, MachineError)) as caught:
        call()
    chain = [caught.value, caught.value.__cause__]
    return " ".join(map(str, chain))


def test_credentials_are_never_shown(server: Server, cache: Path) -> None:
    host = server.address.removeprefix("http://")
    url = f"http://ada:{SECRET}@{host}/rows.jsonl?X-Amz-Signature={SECRET}#{SECRET}"
    record = resolve(url)
    assert SECRET not in json.dumps(record.as_json()) + record.name + str(record)
    server.status = 500
    assert SECRET not in " ".join(resolve(url).notes)
    server.status = 403
    said = _said(lambda: resolve(url))
    assert "the server answered 403" in said
    assert SECRET not in said
    server.status, server.content = 200, b"{\n"
    server.headers = {}
    said = _said(lambda: rows_of(resolve(url)))
    assert f"http://{host}/rows.jsonl:1:2" in said
    assert SECRET not in said
    kept = [path for path in cache.rglob("*") if path.is_file()]
    assert all(SECRET not in f"{path.name} {path.read_text()}" for path in kept)
    said = _said(lambda: resolve(url.replace("rows.jsonl", "rows.txt")))
    assert "is none of the kinds" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "url",
    [
        f"simplecache::https://ada:{SECRET}@h.org/a.jsonl",
        f"zip://a.jsonl::https://ada:{SECRET}@h.org/a.zip",
        f"a.zip::https://ada:{SECRET}@h.org/a.zip",
    ],
)
def test_urls_in_one_are_refused_and_never_shown(url: str) -> None:
    said = _said(lambda: resolve(url))
    assert "Name the URL itself" in said
    assert SECRET not in said
    with pytest.raises(ValueError, match="several URLs"):
        shown_url(url)


def test_urls_are_shown_without_user_query_and_fragment() -> None:
    assert shown_url(f"https://ada:{SECRET}@h.org:8/a.csv?b=c#d") == "https://h.org:8/a.csv"
    assert shown_url("sftp://ada@h.org/a.csv") == "sftp://h.org/a.csv"
    assert shown_url(f"s3://key:{SECRET}@bucket/a.csv") == "s3://bucket/a.csv"
    assert shown_url("abfs://container@account/a.csv") == "abfs://container@account/a.csv"
    assert is_url("s3://a/b.csv")
    assert not is_url("a/b.csv")
    assert not is_url("C:data.csv")


# Other protocols


def test_other_protocols_of_fsspec_will_do(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json_lines(ROWS))
    assert rows_of(resolve(f"file://{tmp_path}/a.jsonl")) == ROWS
    memory = fsspec.filesystem("memory")
    memory.pipe({"/set/b.jsonl": b"", "/set/a.jsonl": json_lines(ROWS).encode()})
    memory.pipe("/set/b.jsonl", json_lines(ROWS[:1]).encode())
    record = resolve("memory://set/*.jsonl")
    assert rows_of(record) == [*ROWS, ROWS[0]]
    assert [file.name for file in record.files] == [
        "memory:///set/a.jsonl",
        "memory:///set/b.jsonl",
    ]
    memory.pipe("/set/b.jsonl", json_lines(ROWS[1:]).encode())
    assert rows_of(resolve("memory://set/*.jsonl")) == [*ROWS, *ROWS[1:]]
    with pytest.raises(DataError, match="matches no file"):
        resolve("memory://set/*.csv")
    with pytest.raises(DataError, match="no such file"):
        resolve("memory://set/none.csv")


@pytest.mark.parametrize(("url", "extra"), [("s3://b/a.csv", "s3"), ("gs://b/a.csv", "gcs")])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, url: str, extra: str
) -> None:
    for module in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, module, None)
    for protocol in ("s3", "gs"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol, raising=False)
    with pytest.raises(MachineError, match=rf"pip install 'proofbox\[{extra}\]'"):
        resolve(url)


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="a URL that cannot be read"):
        resolve("http://[::1/a.csv")


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(DataError, match="unknown protocol 'htps'"):
        resolve("htps://example.org/a.csv")
