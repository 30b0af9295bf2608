"""Planted attacks: each source ends normally only where the attack has worked.

``{secret}`` is a file of the user's, ``{outside}`` a path that does not exist, ``{port}`` that of a
server on loopback, ``{victim}`` another process of the user's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# by subprocess: "held"; "not by root": held for other users; "not held".
Held = Literal["held", "not by root", "not held"]


@dataclass(frozen=True, slots=True)
class Attack:
    """``name`` is its row in docs/sandbox.md; ``run_unheld`` where it does no harm even unheld."""

    name: str
    source: str
    by_subprocess: Held
    run_unheld: bool = False


ATTACKS = (
    Attack("fork bomb", "import os\nwhile True:\n    os.fork()", "not by root"),
    Attack(
        "thread bomb",
        "import threading, time\nfor _ in range(500):\n"
        "    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        "not by root",
    ),
    Attack(
        "leaving a daemon behind",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(2)\n"
        "    open({outside!r}, 'w').write('x')\n    os._exit(0)",
        "not by root",
    ),
    Attack("10 GB allocation", "x = bytearray(10 * 2**30)", "held"),
    Attack(
        "memory that the address space does not count",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.shmget(0, 1 << 20, 0o1600) >= 0",
        "not held",
    ),
    Attack("endless output", "while True:\n    print('x' * 100_000)", "held"),
    Attack(
        "endless output past Python",
        "import os\nwhile True:\n    os.write(1, b'x' * 100_000)\n    os.write(2, b'x' * 100_000)",
        "held",
    ),
    Attack("one huge file", "open('big', 'wb').write(b'0' * 10**7)", "held"),
    Attack(
        "filling the disk",
        "for i in range(20):\n    open(str(i), 'wb').write(b'0' * 10**6)",
        "not held",
        run_unheld=True,
    ),
    Attack("endless loop", "while True:\n    pass", "held"),
    Attack("sleeping on", "import time\ntime.sleep(600)", "held"),
    Attack(
        "deep recursion",
        "import sys\nsys.setrecursionlimit(10**9)\ndef g(n):\n    return g(n + 1) + 1\ng(0)",
        "held",
    ),
    Attack("reading the home folder", "assert open({secret!r}).read()", "not held", True),
    Attack(
        "reading by a symbolic link",
        "import os\nos.symlink({secret!r}, 'link')\nassert open('link').read()",
        "not held",
        run_unheld=True,
    ),
    Attack("writing outside", "open({outside!r}, 'w').write('x')", "not held", run_unheld=True),
    Attack(
        "changing Python's own library",
        "import os\nopen(os.path.join(os.path.dirname(os.__file__), 'planted.py'), 'w').write('')",
        "not held",
    ),
    Attack(
        "writing by a symbolic link",
        "import os\nos.symlink({outside!r}, 'link')\nopen('link', 'w').write('x')",
        "not held",
        run_unheld=True,
    ),
    Attack(
        "network",
        "import socket\nwith socket.create_connection(('127.0.0.1', {port}), 1) as there:\n"
        "    there.sendall(b'hello')",
        "not held",
        run_unheld=True,
    ),
    Attack("signals to other processes", "import os\nos.kill({victim}, 9)", "not held", True),
    Attack(
        "reading /proc of other processes",
        "assert open('/proc/{victim}/cmdline').read()",
        "not held",
        run_unheld=True,
    ),
    Attack(
        "reading the environment",
        "import os\nassert os.environ['A_TOKEN']",
        "held",
    ),
    Attack(
        "name spaces of its own",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.unshare(0x10000000) == 0",
        "not held",
    ),
    Attack("early exit", "import sys\nsys.exit(0)", "held"),
    Attack("early exit past Python", "import os\nos._exit(0)", "held"),
    Attack(
        "patched exit",
        "import os, sys, builtins\nos._exit = sys.exit = builtins.exit = lambda *a: None\n"
        "os.read = lambda *a: b''\nos.write = lambda *a: 0\nraise SystemExit(0)",
        "held",
    ),
    Attack(
        "printing the success marker",
        "import os\nfor marker in (b'+', b'+' + b'0' * 64, b'passed'):\n"
        "    print(marker.decode(), flush=True)\n    os.write(1, marker)\nos._exit(0)",
        "held",
    ),
    Attack(
        "writing to every descriptor",
        "import os\nfor fd in range(64):\n    try:\n        os.write(fd, b'0' * 64)\n"
        "    except OSError:\n        pass\nos._exit(0)",
        "held",
    ),
    Attack(
        "huge report",
        "class E(Exception):\n    def __str__(self):\n        return 'x' * 10**8\nraise E",
        "held",
    ),
    Attack(
        "endless report",
        "import os\nwhile True:\n    for fd in range(3, 16):\n        try:\n"
        "            os.write(fd, b'x' * 65536)\n        except OSError:\n            pass",
        "held",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Deceit:
    """Code that claims to pass ``tests`` without doing what they ask."""

    name: str
    source: str
    tests: str = "assert f(1) == 2"


DECEITS = (
    Deceit(
        "reading the harness's descriptors",
        "import os\ndef f(x):\n    found = b''\n    for fd in range(3, 16):\n        try:\n"
        "            os.set_blocking(fd, False)\n            found += os.read(fd, 64)\n"
        "        except OSError:\n            pass\n"
        "    for fd in range(3, 16):\n        try:\n            os.write(fd, found)\n"
        "        except OSError:\n            pass\n    os._exit(0)",
    ),
    Deceit(
        "an object that equals everything",
        "class Same:\n    def __eq__(self, other):\n        return True\n"
        "def f(x):\n    return Same()",
    ),
    Deceit(
        "a number that equals everything",
        "class Same(int):\n    def __eq__(self, other):\n        return True\n"
        "def f(x):\n    return Same(7)",
    ),
    Deceit(
        "replacing what the tests call",
        "def f(x):\n    return 0\ndef abs(x):\n    return 0",
        "assert abs(f(1) - 2) < 0.01",
    ),
    Deceit(
        "changing the tests' own names",
        "import sys\ndef f(x):\n    sys._getframe(1).f_globals['expected'] = 7\n    return 7",
        "expected = 2\nassert f(1) == expected",
    ),
)
