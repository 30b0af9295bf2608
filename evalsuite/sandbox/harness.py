"""What runs inside a sandbox: an answer's code, then its tests, then the report.

This file is handed to the interpreter as text, so it imports nothing but the standard library. The
job comes first on standard input and the nonce after it. The nonce is read only when the tests have
ended, so that it is nowhere in the process while the answer runs: printing a marker, `sys.exit`,
`os._exit` or replaced functions cannot claim success. The report goes to what was standard output:
``+`` when the answer's code is about to run, then the nonce, or ``!`` and the first line of an
exception.

The answer and its tests share one interpreter. An answer that searches it for the two descriptors
of this file can read the nonce early and report it, and objects of the answer can lie to the tests
about being equal. `evalsuite.sandbox.apart` is the way to run them that holds both.
"""

from __future__ import annotations

import os
import sys

LONGEST_MESSAGE = 300  # characters


def main() -> None:
    """Run the one job."""
    # Kept as local names: the answer may replace those of the modules.
    read, write, leave, run, build = os.read, os.write, os._exit, exec, compile

    def take(descriptor: int, count: int) -> bytes:
        parts = []
        while count:
            part = read(descriptor, count)
            if not part:
                leave(3)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    import marshal  # json would double the time of a start

    job = marshal.loads(take(0, int(take(0, 8))))
    more = {"__name__": "apart"}
    if job["role"]:
        run(build(job["apart"], "apart", "exec"), more)
    secret, result = os.dup(0), os.dup(1)
    _leave_pipes()
    _limit(job["limits"])
    write(result, b"+")
    module = type(sys)("answer")
    sys.modules["answer"] = module
    try:
        if job["role"]:
            more[job["role"]](job, module.__dict__, secret, result, take)  # type: ignore[operator]  # a function of that text
        else:
            for part in ("source", "tests"):
                run(build(job[part], part, "exec"), module.__dict__)
    except Exception as error:  # noqa: BLE001 - whatever the answer raises
        line = (type(error).__name__ + ": " + str(error)).splitlines()[0]
        write(result, ("!" + line[:LONGEST_MESSAGE]).encode("utf-8", "replace"))
    else:
        write(result, take(secret, 64))
    leave(0)


def _leave_pipes() -> None:
    """Nothing to read; what is printed is not kept, and counts as a file for the limits."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    printed = os.open(".printed", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(".printed")  # noqa: PTH108 - pathlib would cost a quarter of the start
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    os.close(printed)


def _limit(limits: dict[str, int]) -> None:
    import resource

    for name, limit in limits.items():
        if hasattr(resource, name):  # some are Linux's own
            resource.setrlimit(getattr(resource, name), (limit, limit))


if __name__ == "__main__":
    main()
