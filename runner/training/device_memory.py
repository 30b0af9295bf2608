"""Memory of the device that computes: the most that was in use, and what is free."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_PROCESS = Path("/proc/self")
_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def restart_peak(device: str) -> None:
    """Count the peak from what is in use now; where the system cannot, it stays the process's."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    try:
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")  # proc(5): resets VmHWM
    except OSError:  # not Linux, or not allowed in this container
        return


def peak_memory(device: str) -> int:
    """Most bytes in use at once since the last restart: of the GPU, or of this process."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        lines = (_PROCESS / "status").read_text(encoding="ascii").splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def free_bytes(device: str) -> int:
    """What this process may still take: of the GPU, or of the machine's memory."""
    if device == "cpu":
        return _available_bytes(_CGROUPS)
    import torch

    free, _ = torch.cuda.mem_get_info()
    # What PyTorch has reserved and not given out is free for it.
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def _available_bytes(cgroups: Path) -> int:
    """Of the machine's memory, or of the container's where it has less."""
    import psutil

    found = int(psutil.virtual_memory().available)
    for limit, used in _LIMITS:
        try:
            texts = [(cgroups / name).read_text(encoding="ascii").strip() for name in (limit, used)]
        except OSError:
            continue
        if texts[0] != "max":
            used_now = int(texts[1]) - _given_back_on_demand((cgroups / used).parent)
            found = min(found, max(int(texts[0]) - used_now, 0))
    return found


def _given_back_on_demand(cgroup: Path) -> int:
    """Pages of files that were read and can be dropped; the kernel counts them as used."""
    try:
        lines = (cgroup / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    counted = dict(line.split() for line in lines)
    return int(counted.get("total_inactive_file", counted.get("inactive_file", 0)))


def memory_in_use() -> int:
    """Bytes of this process that are in the machine's memory now."""
    import psutil

    return int(psutil.Process().memory_info().rss)
