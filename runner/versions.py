"""Which code made a result: versions of packages and a digest of our own source."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Everything that can change a number. Order is the order shown in a report.
TRACKED = (
    "proofbox", "torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers",
    "safetensors", "evaluate", "sacrebleu", "rouge-score", "scipy", "numpy", "gptqmodel",
    "bitsandbytes",
)  # fmt: skip
# The modules that decide what an adapter learns, and those that decide how it is measured.
PREPARING = (
    "runner/sources.py", "runner/row_files.py", "runner/row_faults.py", "runner/formats.py",
    "runner/row_template.py", "runner/partition.py", "runner/special_tokens.py",
    "runner/chat_template.py", "runner/chat_templates/chatml.jinja", "runner/tokenization.py",
    "runner/labelled_rows.py", "runner/label_contract.py", "runner/partition_files.py",
    "runner/prepared_data.py", "runner/prepared_cache.py", "runner/example_maker.py",
    "runner/preparation.py", "runner/padding.py", "runner/digests.py",
)  # fmt: skip
LEARNING = (
    *PREPARING, "runner/model.py",
    "runner/quantization.py", "runner/lora.py", "runner/step_schedule.py", "runner/trainer.py",
    "runner/trainer_setup.py", "runner/training.py",
)  # fmt: skip
MEASURING = ("evalsuite",)


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
    """SHA-256 over the source in ``places``: modules, or packages with all their modules."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for place in places:
        path = root / place
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(source.relative_to(root).as_posix().encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()
