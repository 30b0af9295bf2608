"""A headless Chromium driven over chromedriver's HTTP interface; nothing beyond the library."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One browser session; ``logs`` empties the log it returns, as WebDriver has it."""

    def __init__(self, address: str, capabilities: dict[str, Any]) -> None:
        self._address = address
        self._session = self._ask("POST", "/session", {"capabilities": capabilities})["sessionId"]

    def open(self, page: Path) -> None:
        self._command("POST", "/url", {"url": page.as_uri()})

    def evaluate(self, script: str) -> Any:
        return self._command("POST", "/execute/sync", {"script": script, "args": []})

    def logs(self, kind: str) -> list[dict[str, Any]]:
        return self._command("POST", "/se/log", {"type": kind})

    def devtools(self, command: str, **parameters: Any) -> Any:
        body = {"cmd": command, "params": parameters}
        return self._command("POST", "/goog/cdp/execute", body)

    def view(self, *, width: int, dark: bool = False, scripts: bool = True) -> None:
        """Emulate a screen; ``scripts`` off is a reader with JavaScript switched off."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        self.devtools("Emulation.setScriptExecutionDisabled", value=not scripts)

    def screenshot(self, path: Path) -> None:
        image = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(image["data"]))

    def quit(self) -> None:
        self._command("DELETE", "")

    def _command(self, method: str, path: str, body: Any = None) -> Any:
        return self._ask(method, f"/session/{self._session}{path}", body)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._address + path, data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]


@contextmanager
def browser() -> Iterator[Browser]:
    """A fresh browser with an empty profile; the test is skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    with tempfile.TemporaryDirectory() as profile:
        process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            session = Browser(_address(process), _capabilities(chromium, profile))
            try:
                yield session
            finally:
                session.quit()
        finally:
            process.terminate()
            process.wait(timeout=30)


def _address(process: subprocess.Popen[str]) -> str:
    end = time.monotonic() + 60
    assert process.stdout is not None
    while time.monotonic() < end:
        line = process.stdout.readline()
        if "successfully on port" in line:
            return f"http://127.0.0.1:{line.rstrip().rstrip('.').rpartition(' ')[2]}"
    raise AssertionError("chromedriver did not start within a minute")


def _capabilities(chromium: str, profile: str) -> dict[str, Any]:
    options = {"binary": chromium, "args": [*OPTIONS, f"--user-data-dir={profile}"]}
    logging = {"browser": "ALL", "performance": "ALL"}
    return {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": logging}}
