"""A completions server on loopback that answers with the tiny model, or as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from evalsuite.records import ServerSpec

Body = dict[str, Any]
# What a test says instead: (status, body, headers); None lets the server answer by itself.
Say = Callable[[int, Body], "tuple[int, Any, dict[str, str]] | None"]


class Server(ThreadingHTTPServer):
    """Keeps every request; ``complete`` makes the choice of a completion from its body."""

    def __init__(self, complete: Callable[[Body], Body], say: Say | None, models: list[str] | None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.complete, self.say, self.models = complete, say, models
        self.asked: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.under_way, self.most_at_once = 0, 0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no error of the server's."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.server.models is None:
            return self._send(404, {"error": {"message": "no such page"}}, {})
        listed = [{"id": name, "object": "model"} for name in self.server.models]
        return self._send(200, {"object": "list", "data": listed}, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            place = len(self.server.asked)
            self.server.asked.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.under_way += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.under_way)
        try:
            said = self.server.say(place, body) if self.server.say else None
            if said is None:
                time.sleep(0.002)
                said = (200, self.server.complete(body), {})
        finally:
            with self.server.lock:
                self.server.under_way -= 1
        self._send(*said)

    def _send(self, status: int, content: Any, headers: dict[str, str]) -> None:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def serving(
    complete: Callable[[Body], Body], *, say: Say | None = None, models: list[str] | None = None
) -> Iterator[tuple[Server, ServerSpec]]:
    """A running server, and how a recipe describes it."""
    server = Server(complete, say, models)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server, ServerSpec(
            url=f"http://127.0.0.1:{server.server_port}/v1", base_model="tiny",
            adapter_model="tiny-adapter", timeout=20, retries=2, concurrency=4,
        )  # fmt: skip
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
