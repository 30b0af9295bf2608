from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evalsuite.catalogue import SANDBOXES
from evalsuite.errors import SandboxError
from evalsuite.records import CodeExecution
from evalsuite.sandbox import bubblewrap as bubblewrap_module
from evalsuite.sandbox import check_backend, container, describe, load_backend
from evalsuite.sandbox.limits_only import LimitsOnly


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What was found out about the machine is forgotten, before and after."""
    caches = (bubblewrap_module._executable, bubblewrap_module._version_text, container._ask)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def command(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.mark.parametrize("name", ["bubblewrap", "podman", "docker"])
def test_a_backend_that_is_not_installed_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match=f"{name} is not installed: .* on PATH. Install it"):
        check_backend(CodeExecution(backend=name))


def test_every_backend_of_the_catalogue_is_there() -> None:
    for name in SANDBOXES:
        assert load_backend(name).name == name
    assert [name for name in SANDBOXES if not load_backend(name).isolates] == ["subprocess"]
    with pytest.raises(SandboxError, match=r"'chroot' is no backend .* bubblewrap, podman"):
        load_backend("chroot")


def test_an_old_bubblewrap_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "bwrap", "echo bubblewrap 0.6.1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxError, match=r"bubblewrap 0\.6\.1, and 0\.8 or newer is needed"):
        check_backend(CodeExecution(backend="bubblewrap"))


def test_a_kernel_without_name_spaces_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "bwrap: No permissions to create new namespace"
    script = f'[ "$1" = --version ] && exec echo bubblewrap 0.8.0\necho "{said}" >&2\nexit 1'
    command(tmp_path, "bwrap", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxError, match=f"{said}.*unprivileged_userns_clone"):
        check_backend(CodeExecution(backend="bubblewrap"))


def test_an_unknown_machine_is_refused(
    bubblewrap: CodeExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(SandboxError, match="x86_64 or aarch64, and this is Linux with riscv64"):
        check_backend(bubblewrap)


def test_root_cannot_have_a_number_of_processes(
    bubblewrap: CodeExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SandboxError, match=r"does not count processes.*processes to 0"):
        check_backend(replace(bubblewrap, processes=2))


def test_limits_alone_cannot_have_a_number_of_processes(limits_only: CodeExecution) -> None:
    with pytest.raises(SandboxError, match=r"only to none.*processes to 0"):
        check_backend(replace(limits_only, processes=2))


def test_a_service_that_does_not_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, "docker", "echo Cannot connect to the Docker daemon >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxError, match=r"work here \(Cannot connect.*\)\. Start its"):
        check_backend(CodeExecution(backend="docker"))


def test_an_image_that_is_missing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, "podman", '[ "$1" = version ] && exec echo 5.0\necho no such >&2; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxError, match=r"has no image mine:1 .*podman pull mine:1"):
        check_backend(CodeExecution(backend="podman", image="mine:1"))


def test_limits_in_which_nothing_runs_are_refused(limits_only: CodeExecution) -> None:
    with pytest.raises(SandboxError, match=r"did not start a sandbox|harmless program"):
        check_backend(replace(limits_only, memory_mb=1))


def test_a_sandbox_that_does_not_hold_is_refused(
    limits_only: CodeExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LimitsOnly, "isolates", True)
    with pytest.raises(SandboxError, match="it can read the files of this machine"):
        check_backend(limits_only)


def test_the_evidence_names_backend_version_and_limits(
    limits_only: CodeExecution, bubblewrap: CodeExecution
) -> None:
    python = f"Python {platform.python_version()}"
    limits = "tests beside, 1 s, 512 MiB, 0 new processes, files of 1 MiB, 8 MiB of files"
    assert describe(limits_only) == f"subprocess (unsafe: limits only), {python}, {limits}"
    assert describe(bubblewrap).startswith("bubblewrap 0.")
    assert describe(bubblewrap).endswith(f", {python}, {limits}")
    assert describe(replace(bubblewrap, seconds=2)) != describe(bubblewrap)
