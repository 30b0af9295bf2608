"""A seccomp filter for bubblewrap: system calls that no test of an answer needs.

It closes what name spaces and resource limits leave open: memory that the address space does not
count (shared memory segments, memory files), name spaces of the program's own, and parts of the
kernel that have let programs out before. Where no new processes are allowed it also denies those,
which holds for root too: the kernel does not count root's processes against RLIMIT_NPROC.

Format: classic BPF over ``struct seccomp_data`` (seccomp(2)); numbers are those of
``asm/unistd_64.h`` and ``asm-generic/unistd.h``.
"""

from __future__ import annotations

import errno
import platform
import struct

# name -> number on x86_64, on aarch64; None where the machine has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # memory beyond the address space
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194),
    "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "userfaultfd": (323, 282),
    # name spaces and mounts
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    # other processes, keys, tracing, asynchronous calls
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438), "kcmp": (312, 272), "process_madvise": (440, 440),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "fanotify_init": (300, 262), "lookup_dcookie": (212, 18),
    # the machine itself
    "init_module": (175, 105), "delete_module": (176, 106), "finit_module": (313, 273),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "acct": (163, 89), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162), "syslog": (103, 116), "vhangup": (153, 58),
    "personality": (135, 92), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "uselib": (134, None), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "mbind": (237, 235), "set_mempolicy": (238, 237),
}  # fmt: skip
_NEW_PROCESSES: dict[str, tuple[int | None, int | None]] = {
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None),
}  # fmt: skip
_CLONE, _CLONE3 = (56, 220), (435, 435)
# CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h).
_NEW_NAME_SPACES = 0x7E020080
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_X32 = 0x40000000  # the other set of numbers that x86_64 has
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data


def is_known_machine() -> bool:
    """Whether the filter knows this machine's numbers."""
    return platform.machine() in _ARCHITECTURES


def system_call_filter(*, new_processes: bool) -> bytes:
    """The filter for this machine, as ``bwrap --seccomp`` reads it.

    Args:
        new_processes: Whether the program may start processes and threads.
    """
    column, architecture = _ARCHITECTURES[platform.machine()]
    denied = {**_DENIED, **({} if new_processes else _NEW_PROCESSES)}
    numbers = [row[column] for row in denied.values()]
    checks = [_check(number) for number in numbers if number is not None]
    # Without clone3, whose flags a filter cannot read, the C library uses clone.
    checks.append(_Check(_EQUAL, _CLONE3[column], "missing"))
    if new_processes:
        checks += [
            _Check(_EQUAL, _CLONE[column], "", otherwise="allow"),
            _Check(_LOAD, _FIRST_ARGUMENT, ""),
            _Check(_ANY_BIT, _NEW_NAME_SPACES, "deny"),
        ]
    start = [
        _Check(_LOAD, _ARCHITECTURE, ""),
        _Check(_EQUAL, architecture, "", otherwise="kill"),
        _Check(_LOAD, _NUMBER, ""),
        _Check(_AT_LEAST, _X32, "deny"),
    ]
    return _assemble([*start, *checks])


class _Check:
    """One instruction: where it goes if it holds and otherwise; "" is the next one."""

    def __init__(self, code: int, operand: int, then: str, *, otherwise: str = "") -> None:
        self.code, self.operand, self.then, self.otherwise = code, operand, then, otherwise


def _check(number: int) -> _Check:
    return _Check(_EQUAL, number, "deny")


def _assemble(checks: list[_Check]) -> bytes:
    ends = {
        "allow": _ALLOW,
        "deny": _ERRNO | errno.EPERM,
        "missing": _ERRNO | errno.ENOSYS,
        "kill": _KILL_PROCESS,
    }
    places = {name: len(checks) + index for index, name in enumerate(ends)}
    lines = []
    for index, check in enumerate(checks):
        jumps = [places[w] - index - 1 if w else 0 for w in (check.then, check.otherwise)]
        lines.append(struct.pack("=HBBI", check.code, *jumps, check.operand))
    lines += [struct.pack("=HBBI", _RETURN, 0, 0, value) for value in ends.values()]
    return b"".join(lines)
