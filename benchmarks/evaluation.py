"""Held-out loss and generation: proofbox beside lm-eval, on the same model and the same tokens.

    python benchmarks/evaluation.py                         # the quickstart's model, on the CPU
    python benchmarks/evaluation.py --device cuda           # Mistral-7B's shape, random weights

lm-eval must be importable (the extra ``lm-eval``). Both tools are given the same loaded model and
the same token ids; each measurement runs once before its clock starts, on a few examples.

- loss: the negative log-likelihood of each row's supervised tokens. lm-eval's
  ``loglikelihood`` by its class ``HFLM`` at batch sizes 8 and 64; proofbox's ``score_examples``
  with its batches, padded and packed. The two sums per row are compared.
- generation: new tokens after 256 prompts, greedy, with nothing that ends an answer early.
  lm-eval's ``generate_until`` at batch sizes 8 and 64, on CUDA 64 and 256; proofbox's engine, which
  merges the adapter for the time of decoding. Three rounds over all of them, the median is told.

On CUDA the share of the measured matmul peak is given for the loss: 2 floating-point operations
for each parameter and token, against bf16 products of 8192 by 8192.
Writes benchmarks/evaluation-<device>.json and prints it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
QUICKSTART = ROOT / "recipes" / "quickstart"
PROMPTS, NEVER = 256, 10_000_000  # an id that no model here can write
MEAN_TOKENS, LONGEST, LOSS_ROWS = 175, 934, 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model with an adapter, its tokenizer, and what it is asked."""

    name: str
    model: Any
    tokenizer: Any
    rows: list[Any]
    prompts: list[str]
    new_tokens: int


def _tokenizer() -> Any:  # noqa: ANN401 - transformers' own
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(QUICKSTART / "model")
    tokenizer.pad_token = tokenizer.pad_token or "<unk>"
    return tokenizer


def _adapted(model: Any, rank: int) -> Any:  # noqa: ANN401 - a live model
    """LoRA with weights that are not zero on the query and value projections."""
    import torch
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model, LoraConfig(r=rank, target_modules=["q_proj", "v_proj"]))
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.01)
    return wrapped.eval()


def _questions(tokenizer: Any) -> list[str]:  # noqa: ANN401
    rows = [json.loads(line) for line in (QUICKSTART / "functions.jsonl").open()]
    return [
        str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": row["instruction"]}],
                tokenize=False,
                add_generation_prompt=True,
            )
        )
        for row in rows
    ]


def _example(index: int, tokens: Sequence[int], prompt: int) -> Any:  # noqa: ANN401
    from evalsuite.examples import Example

    return Example(
        example_id=str(index),
        row=index,
        input_ids=tuple(tokens),
        labels=(-100,) * prompt + tuple(tokens[prompt:]),
        prompt_ids=tuple(tokens[:prompt]),
        prompt="",
        answer="",
        supervised_bytes=1,
        tests="",
    )


def quickstart() -> Subject:
    """The embedded model on its own rows, in float32 on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = _tokenizer()
    model = AutoModelForCausalLM.from_pretrained(QUICKSTART / "model", dtype=torch.float32)
    prompts = _questions(tokenizer)
    answers = [json.loads(line)["output"] for line in (QUICKSTART / "functions.jsonl").open()]
    rows = []
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        first = tokenizer(prompt, add_special_tokens=False).input_ids
        rest = tokenizer(answer, add_special_tokens=False).input_ids
        rows.append(_example(index, [*first, *rest], len(first)))
    return Subject(
        name="quickstart, float32",
        model=_adapted(model, 16),
        tokenizer=tokenizer,
        rows=rows[:1000],
        prompts=prompts[:PROMPTS],
        new_tokens=128,
    )


def mistral_7b() -> Subject:
    """Mistral-7B's shape with random weights in bfloat16, on rows of random tokens."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(sliding_window=None)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = MistralForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    tokenizer = _tokenizer()
    chosen = random.Random(0)
    rows = []
    for index in range(LOSS_ROWS):
        length = min(LONGEST, max(16, round(chosen.lognormvariate(4.99, 0.6))))
        tokens = [chosen.randrange(10, config.vocab_size) for _ in range(length)]
        rows.append(_example(index, tokens, length // 2))
    return Subject(
        name="Mistral-7B's shape, random weights, bfloat16",
        model=_adapted(model, 32),
        tokenizer=tokenizer,
        rows=rows,
        prompts=_questions(tokenizer)[:PROMPTS],
        new_tokens=128,
    )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that ``work`` took, the device's included, and what it gave."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


# Loss


def loss_speeds(subject: Subject, batch_tokens: int, sizes: Sequence[int]) -> dict[str, Any]:
    """Tokens per second of each way to the loss, and how far the sums are apart."""
    from evalsuite.loss import score_examples

    tokens = sum(len(row.input_ids) for row in subject.rows)
    found: dict[str, Any] = {"rows": len(subject.rows), "tokens": tokens, "tokens_per_second": {}}
    speeds, sums = found["tokens_per_second"], {}
    for name, pack in (("proofbox, packed", True), ("proofbox, padded", False)):

        def score(rows: Sequence[Any], pack: bool = pack) -> list[float]:
            scored = score_examples(
                subject.model, rows, pad_token_id=0, batch_tokens=batch_tokens, pack=pack
            )
            return [-one.nll for one in scored]

        score(subject.rows[:64])
        seconds, sums[name] = timed(lambda: score(subject.rows))
        speeds[name] = round(tokens / seconds)
    rival = _harness(subject)
    for size in sizes:

        def by_rival(rows: Sequence[Any], size: int = size) -> list[float]:
            asked = [
                (("", ""), list(r.prompt_ids), list(r.input_ids[len(r.prompt_ids) :])) for r in rows
            ]
            found = rival._loglikelihood_tokens(asked, disable_tqdm=True, override_bs=size)
            return [float(one[0]) for one in found]

        name = f"lm-eval, batch {size}"
        by_rival(subject.rows[:64])
        seconds, sums[name] = timed(lambda: by_rival(subject.rows))
        speeds[name] = round(tokens / seconds)
    exact = sums["proofbox, padded"]
    found["largest_relative_difference"] = {
        name: max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(values, exact, strict=True))
        for name, values in sums.items()
    }
    return found


def _harness(subject: Subject) -> Any:  # noqa: ANN401 - lm-eval ships no types
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=subject.model, tokenizer=subject.tokenizer, max_length=2048)


# Generation


def generation_speeds(
    subject: Subject, batch_tokens: int, sizes: Sequence[int], repeats: int = 3
) -> dict[str, Any]:
    """New tokens per second of each way to answers: the median of some rounds over all ways."""
    from evalsuite.generation import generate_answers
    from evalsuite.records import Decoding

    decoding = Decoding(max_new_tokens=subject.new_tokens)
    ids = [subject.tokenizer(p, add_special_tokens=False).input_ids for p in subject.prompts]

    def ours(prompts: Sequence[Any]) -> int:
        answers = generate_answers(
            subject.model,
            subject.tokenizer,
            prompts,
            decoding=decoding,
            stop_token_ids=[NEVER],
            pad_token_id=0,
            batch_tokens=batch_tokens,
            seed=1,
        )
        return sum(len(answer.token_ids) for answer in answers)

    rival = _harness(subject)

    def theirs(size: int) -> int:
        rival.batch_size_per_gpu = size
        return _rival_tokens(rival, subject, subject.prompts, subject.new_tokens)

    ways: dict[str, Callable[[], int]] = {"proofbox": lambda: ours(ids)}
    ways |= {f"lm-eval, batch {size}": partial(theirs, size) for size in sizes}
    ways[f"lm-eval, batch {sizes[-1]}"]()  # its first time is slower, and so is ours
    ours(ids)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            took, made = timed(work)
            seconds[name].append(took)
            if made != len(ids) * subject.new_tokens:
                raise SystemExit(f"{name}: {made} new tokens, which is other work")
    new = len(ids) * subject.new_tokens
    return {
        "prompts": len(ids),
        "new_tokens_each": subject.new_tokens,
        "seconds": seconds,
        "new_tokens_per_second": {name: round(new / median(s)) for name, s in seconds.items()},
    }


def _rival_tokens(rival: Any, subject: Subject, prompts: Sequence[str], new: int) -> int:  # noqa: ANN401
    from lm_eval.api.instance import Instance

    options = {"until": [], "max_gen_toks": new, "min_new_tokens": new, "do_sample": False}
    asked = [
        Instance(request_type="generate_until", doc={}, arguments=(text, dict(options)), idx=index)
        for index, text in enumerate(prompts)
    ]
    rival.generate_until(asked, disable_tqdm=True)
    return len(prompts) * new


# The device


def matmul_peak() -> float:
    """Measured bf16 operations per second of products of 8192 by 8192."""
    import torch

    size, times = 8192, 30
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    seconds, _ = timed(lambda: [a @ b for _ in range(times)])
    return 2 * size**3 * times / seconds


def main() -> None:
    """Measure, print and store."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", choices=["loss", "generation"])
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    cuda = options.device == "cuda"
    subject = mistral_7b() if cuda else quickstart()
    found: dict[str, Any] = {
        "model": subject.name,
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if options.only != "generation":
        found["loss"] = loss_speeds(subject, 32_768 if cuda else 4096, (8, 64))
    if options.only != "loss":
        sizes = (64, 256) if cuda else (8, 64)
        found["generation"] = generation_speeds(subject, 131_072 if cuda else 65_536, sizes)
    if cuda and "loss" in found:
        peak = matmul_peak()
        parameters = sum(p.numel() for p in subject.model.get_base_model().parameters())
        fastest = found["loss"]["tokens_per_second"]["proofbox, packed"]
        found["matmul_peak_tflops"] = round(peak / 1e12)
        found["loss_share_of_peak"] = round(2 * parameters * fastest / peak, 3)
    path = options.result or HERE / f"evaluation-{options.device}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
