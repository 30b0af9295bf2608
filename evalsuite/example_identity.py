"""What tells the examples of one evaluation from those of another: digests stored with results."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from evalsuite.examples import Example


def example_conditions(
    examples: Sequence[Example], template_digest: str | None
) -> dict[str, str | None]:
    """Digests that two results must share to be compared, beside the examples' ids.

    ``data_digest`` is over prompts, reference answers and tests as text; the token digests are over
    what the model was given, and which of it was supervised.
    """
    return {
        "data_digest": _digest(
            text.encode() for e in examples for text in (e.example_id, e.prompt, e.answer, e.tests)
        ),
        "template_digest": template_digest,
        "prompt_tokens_digest": _digest(_numbers(e.prompt_ids) for e in examples),
        "supervised_tokens_digest": _digest(
            _numbers(part) for e in examples for part in (e.input_ids, e.labels)
        ),
    }


def _numbers(tokens: Sequence[int]) -> bytes:
    return np.asarray(tokens, dtype="<i8").tobytes()


def _digest(parts: Iterable[bytes]) -> str:
    """SHA-256 of parts, each after its length, so that no two lists of parts give the same."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
