"""Which held-out rows a verdict was given on, noted in the ledger and counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from evalsuite.catalogue import on_all_rows
from evalsuite.ledger import Look, count_looks, note_looks
from evalsuite.record_files import json_text, to_json
from evalsuite.records import Gate, Looks, Verdict
from evalsuite.stored_results import StoredResults, read_results


def with_looks(
    verdict: Verdict,
    ledger: Path,
    *,
    results: Path,
    memberships: Mapping[str, str],
    recipe: str,
    run_id: str,
) -> Verdict:
    """Note in ``ledger`` what the gates looked at, and tell which look at it this was.

    Args:
        verdict: A verdict on one run's evidence.
        ledger: The recipe's ledger of looks; made where it is not there.
        results: The judged subject's per-example results, ``evaluation/adapter``.
        memberships: Digest of the membership of each partition and set of rows by its name.
        recipe: Name of the recipe.
        run_id: Id of the run.

    Raises:
        EvidenceError: The ledger or the results are damaged.
        OSError: The ledger cannot be written.
    """
    stored = read_results(results)
    gates = [result.gate for result in verdict.gates]
    partitions = {
        group: _partition(stored, group, memberships)
        for group in sorted({_group(gate.metric) for gate in gates})
        if group in dict(stored.groups())
    }
    # So finely that looks of the same second keep their order.
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    looks = {
        digest: Look(
            date=now,
            recipe=recipe,
            run_id=run_id,
            partition=name,
            partition_digest=digest,
            verdict=verdict.verdict,
            evidence_digest=verdict.evidence_digest,
            gates_digest=_digest_of(
                gate for gate in gates if partitions.get(_group(gate.metric), ("", ""))[1] == digest
            ),
        )
        for name, digest in partitions.values()
    }
    every = note_looks(ledger, list(looks.values()))
    counted = {name: count_looks(every, looks[digest].key) for name, digest in partitions.values()}
    return replace(
        verdict,
        looks=tuple(Looks(group=name, count=count) for name, count in sorted(counted.items())),
    )


def _digest_of(gates: Iterable[Gate]) -> str:
    """SHA-256 of gates, in whatever order they were declared."""
    texts = sorted(json_text(to_json(gate)) for gate in gates)
    return hashlib.sha256("".join(texts).encode()).hexdigest()


def _group(metric: str) -> str:
    return on_all_rows(metric).rpartition(".")[0]


def _partition(
    stored: StoredResults, group: str, memberships: Mapping[str, str]
) -> tuple[str, str]:
    """Name and digest of the rows that ``group`` was measured on: a partition, or its own."""
    results = dict(stored.groups())[group]
    name = str(results.conditions.get("data", group))
    if name in memberships:
        return name, memberships[name]
    ids = "".join(f"{example}\n" for example in results.example_ids)
    return group, hashlib.sha256(ids.encode()).hexdigest()
