"""Which code made a result: versions of packages and a digest of our own source."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Everything that can change a number. Order is the order shown in a report.
TRACKED = (
    "proofbox", "torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers",
    "safetensors", "evaluate", "sacrebleu", "rouge-score", "nltk", "scipy", "numpy", "pyarrow",
    "rensa", "gptqmodel", "bitsandbytes", "jinja2", "vllm", "jsonschema",
)  # fmt: skip
# The modules that decide what an adapter learns, and those that decide how it is measured.
PREPARING = ("runner/data", "runner/digests.py")
QUANTIZING = ("runner/quantizing", "runner/commands/quantize_base.py")
LEARNING = (*PREPARING, *QUANTIZING, "runner/base_model", "runner/training")
MEASURING = (
    "evalsuite", *PREPARING, "runner/benchmarks", "runner/base_model", "runner/training/lora.py",
    "runner/target_model.py", "runner/commands/evaluate_subject.py",
    "runner/commands/answering_engine.py", "runner/commands/metric_specs.py",
)  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Version of each tracked package that is installed."""
    found: dict[str, str] = {}
    for name in TRACKED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def code_digest(places: tuple[str, ...]) -> str:
    """SHA-256 over the source in ``places``: modules, or packages with all they hold."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for place in places:
        path = root / place
        for source in _sources(path):
            digest.update(source.relative_to(root).as_posix().encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()


def _sources(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted([*path.rglob("*.py"), *path.rglob("*.jinja")])
