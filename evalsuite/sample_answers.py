"""Answers to the recipe's sample prompts, for people."""

from __future__ import annotations

from evalsuite.bench import Bench
from evalsuite.generation import Answer
from evalsuite.record_files import write_json


def write_samples(bench: Bench) -> None:
    """Answer the recipe's sample prompts."""
    samples = bench.spec.samples
    answers: list[Answer] = []
    if samples:
        prompts = [tokens for _, tokens in samples]
        answers = bench.answers("samples", prompts, bench.spec.sample_decoding)
    shown = [
        {"prompt": text, "prediction": answer.text, "finished": answer.finished}
        for (text, _), answer in zip(samples, answers, strict=True)
    ]
    write_json(shown, bench.folder / "samples.json")
