"""Answers to the recipe's sample prompts, for people."""

from __future__ import annotations

from evalsuite.bench import Bench
from evalsuite.generation import Answer, Request
from evalsuite.record_files import write_json


def write_samples(bench: Bench) -> None:
    """Answer the recipe's sample prompts."""
    samples = bench.spec.samples
    answers: list[Answer] = []
    if samples:
        requests = [
            Request(example_id=f"sample {place}", prompt_ids=tokens)
            for place, (_, tokens) in enumerate(samples)
        ]
        answers = bench.answers(
            "samples", requests, bench.spec.sample_decoding, log=bench.log("samples")
        )
    shown = [
        {"prompt": text, "prediction": answer.text, "finished": answer.finished}
        for (text, _), answer in zip(samples, answers, strict=True)
    ]
    write_json(shown, bench.folder / "samples.json")
