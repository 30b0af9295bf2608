"""The most memory that was used, what is free, and a heap that gives back."""

from __future__ import annotations

import mmap
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from runner.training import device_memory
from runner.training.device_memory import free_bytes, memory_in_use, peak_memory, restart_peak

HUNDRED = 100 * 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="tells of /proc")


@linux
def test_the_peak_is_that_since_its_restart() -> None:
    before = memory_in_use()
    block = mmap.mmap(-1, HUNDRED)  # pages of its own: a heap may have some left from before
    block[::4096] = b"1" * len(block[::4096])  # a page is there once it is written to
    assert peak_memory("cpu") >= before + HUNDRED * 0.9
    block.close()
    assert peak_memory("cpu") >= before + HUNDRED * 0.9
    restart_peak("cpu")
    assert peak_memory("cpu") < before + HUNDRED * 0.5


@linux
def test_without_proc_the_peak_is_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(device_memory, "_PROCESS", tmp_path / "nowhere")
    restart_peak("cpu")
    assert peak_memory("cpu") >= memory_in_use() * 0.5


@pytest.mark.parametrize(
    ("limit", "used"),
    [
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ],
)
def test_a_containers_limit_is_what_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, used: str
) -> None:
    monkeypatch.setattr(device_memory, "_CGROUPS", tmp_path)
    unlimited = free_bytes("cpu")
    (tmp_path / limit).parent.mkdir(exist_ok=True)
    (tmp_path / used).write_text("400000\n")
    (tmp_path / limit).write_text("1000000\n")
    assert free_bytes("cpu") == 600_000 < unlimited
    # The kernel counts files that were read, and would drop them for whoever needs the room.
    stat = (tmp_path / used).parent / "memory.stat"
    name = "inactive_file" if used == "memory.current" else "total_inactive_file"
    stat.write_text(f"anon 5\n{name} 150000\n")
    assert free_bytes("cpu") == 750_000
    (tmp_path / used).write_text("2000000\n")
    assert free_bytes("cpu") == 0


def test_no_limit_is_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(device_memory, "_CGROUPS", tmp_path)
    assert free_bytes("cpu") > 400_000


# Every other block of 2 MB is freed: none of the rest is at the end of the heap.
HELD = """
import ctypes, sys
sys.path.insert(0, {root!r})
from runner.training.device_memory import memory_in_use
from runner.training.heap import return_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
large = libc.malloc(30 << 20); libc.free(large)  # from now on the heap keeps blocks of 2 MB
if sys.argv[1] == "returning":
    assert return_freed_memory()
blocks = [libc.malloc(2 << 20) for _ in range(60)]
for block in blocks:
    ctypes.memset(block, 1, 2 << 20)
full = memory_in_use()
for block in blocks[::2]:
    libc.free(block)
print(full - memory_in_use())
"""


@linux
@pytest.mark.parametrize(("how", "returned"), [("keeping", False), ("returning", True)])
def test_freed_memory_goes_back_where_memory_matters(how: str, returned: bool) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", HELD.format(root=str(root)), how],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (int(done.stdout) > 50 * 2**20) is returned


# Eight blocks are written and freed, twenty times; the pages that it took are printed.
TAKING_TURNS = """
import ctypes, resource, sys
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if sys.argv[1] == "keep":
    from runner.training.heap import keep_freed_memory
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks = [libc.malloc(8 << 20) for _ in range(8)]
    for block in blocks: ctypes.memset(block, 1, 8 << 20)
    for block in blocks: libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_freed_memory_is_taken_again_without_the_system() -> None:
    def pages(mode: str) -> int:
        command = [sys.executable, "-c", TAKING_TURNS, mode]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert pages("keep") < 1.5 * (64 << 20) / resource.getpagesize()
    assert pages("keep") < pages("default") / 5
