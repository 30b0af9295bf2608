"""Kill -9 at random moments of a recipe; everything must come out the same, byte for byte.

    python benchmarks/resume.py [--recipe quickstart] [--kills 10] [--seed 0]

One undisturbed run gives the reference. Then, for every kill, a fresh run is started, killed with
SIGKILL at a random moment of its duration, and the same command is run again; and one more run is
killed while it trains and has its newest checkpoint truncated before it goes on.
Compared are the adapter's and the evidence's bytes and the names of the released files, and nothing
half-written may be left behind. Writes benchmarks/resume.json; exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def start(recipe: str, runs: Path) -> subprocess.Popen[bytes]:
    """The command a user types, without its output."""
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "run", recipe, "--runs", str(runs)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def finish(recipe: str, runs: Path) -> dict[str, str]:
    """Run to the end and return digests of the adapter, the evidence and the release."""
    code = start(recipe, runs).wait()
    if code not in (0, 1, 3):
        raise SystemExit(f"the run under {runs} ended with exit code {code}")
    (run,) = runs.glob("*/*/lock.json")
    weights = run.parent / "adapter" / "adapter_model.safetensors"
    released = sorted(p.name for p in (run.parent / "release").rglob("*"))
    return {
        "adapter": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "evidence": hashlib.sha256((run.parent / "evidence.json").read_bytes()).hexdigest(),
        "released": hashlib.sha256("\n".join(released).encode()).hexdigest(),
        "left behind": ", ".join(sorted(p.name for p in run.parent.rglob(".*"))),
    }


def kill_after(recipe: str, runs: Path, seconds: float) -> bool:
    """Start and kill -9 the process after ``seconds``; False if it had ended before."""
    process = start(recipe, runs)
    time.sleep(seconds)
    alive = process.poll() is None
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def kill_and_truncate(recipe: str, runs: Path) -> str:
    """Kill once two checkpoints are there, and cut the newest one's weights in half."""
    process = start(recipe, runs)
    sealed: list[Path] = []
    while len(sealed) < 2:
        if process.poll() is not None:
            raise SystemExit("the run ended before it had two checkpoints")
        time.sleep(0.02)
        sealed = list(runs.glob("*/*/checkpoints/checkpoint-*/sealed.json"))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    newest = max((p.parent for p in sealed), key=lambda p: int(p.name.split("-")[1]))
    weights = newest / "adapter_model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    return newest.name


def resumed_from(runs: Path) -> list[int]:
    """Steps after which the training was continued."""
    (record,) = runs.glob("*/*/training.json")
    steps: list[int] = json.loads(record.read_text())["resumed_from"]
    return steps


def main() -> None:
    """Run everything, print a line for each kill, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        os.environ["PROOFBOX_CACHE"] = str(Path(place) / "cache")
        started = time.monotonic()
        reference = finish(options.recipe, Path(place) / "undisturbed")
        seconds = time.monotonic() - started
        print(f"undisturbed: {seconds:.0f} s, adapter {reference['adapter'][:16]}", flush=True)
        kills: list[dict[str, object]] = []
        while len(kills) < options.kills:
            number = len(kills)
            runs = Path(place) / f"killed-{number}"
            # An empty cache, so that the base evaluation can be hit too.
            os.environ["PROOFBOX_CACHE"] = str(Path(place) / f"cache-{number}")
            moment = moments.uniform(0.02, 0.98) * seconds
            if not kill_after(options.recipe, runs, moment):
                shutil.rmtree(runs)  # it was over before: draw another moment
                continue
            digest = finish(options.recipe, runs)
            kills.append(
                {"seconds": round(moment, 1), "same": digest == reference,
                 "resumed_from": resumed_from(runs)}
            )  # fmt: skip
            print(f"killed after {moment:5.1f} s: {kills[-1]}", flush=True)
        runs = Path(place) / "truncated"
        name = kill_and_truncate(options.recipe, runs)
        same = finish(options.recipe, runs) == reference
        truncated = {"checkpoint": name, "same": same, "resumed_from": resumed_from(runs)}
        print(f"newest checkpoint truncated: {truncated}", flush=True)
    result = {
        "recipe": options.recipe, "undisturbed_seconds": round(seconds, 1), "kills": kills,
        "truncated": truncated,
    }  # fmt: skip
    (ROOT / "benchmarks" / "resume.json").write_text(json.dumps(result, indent=1) + "\n")
    if not (same and all(kill["same"] for kill in kills)):
        raise SystemExit("something differs from the undisturbed run")


if __name__ == "__main__":
    main()
