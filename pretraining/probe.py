"""Fine-tunes the base with several LoRA settings and counts the tests passed.

    python -m pretraining.probe --only 0 1

Plain torch and peft, without proofbox, to see whether grammar, size and steps leave room between
recipes before a recipe is written. The split is the recipe's: by position, 80/10/10.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralForCausalLM, PreTrainedTokenizerFast

Row = dict[str, Any]
IGNORED = -100
ATTENTION = ("q_proj", "v_proj")
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One LoRA fine-tuning."""

    r: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = LINEAR
    learning_rate: float = 3e-3
    steps: int = 350
    batch: int = 8

    def __str__(self) -> str:
        targets = "all-linear" if self.targets == LINEAR else "+".join(self.targets)
        return (
            f"r={self.r} alpha={self.alpha} {targets} lr={self.learning_rate:g} "
            f"{self.steps}x{self.batch}"
        )


SETTINGS = (
    Setting(),
    Setting(steps=100),
    Setting(steps=200),
    Setting(steps=700),
    Setting(learning_rate=5e-4),
    Setting(learning_rate=1e-2),
    Setting(r=4, alpha=8),
    Setting(r=32, alpha=64),
    Setting(targets=ATTENTION),
    Setting(targets=ATTENTION, r=32, alpha=64),
    Setting(targets=ATTENTION, r=4, alpha=8),
    Setting(batch=4),
    Setting(batch=16),
)


def read_rows(data: Path, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    """Rows with prompt and answer as token ids."""
    rows = []
    for line in data.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        said = row["instruction"] + ("\n\n" + row["input"] if row["input"] else "")
        turns = [{"role": "user", "content": said}, {"role": "assistant", "content": row["output"]}]
        prompt, whole = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (
                tokenizer.apply_chat_template(
                    turns[:1], tokenize=False, add_generation_prompt=True
                ),
                tokenizer.apply_chat_template(turns, tokenize=False),
            )
        )
        rows.append({**row, "prompt": prompt, "whole": whole})
    return rows


def adapter(setting: Setting) -> LoraConfig:
    """The LoRA configuration of a setting."""
    return LoraConfig(
        r=setting.r,
        lora_alpha=setting.alpha,
        lora_dropout=0.0,
        target_modules=list(setting.targets),
        task_type="CAUSAL_LM",
    )


def collate(rows: list[Row], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Right-padded inputs, mask and labels on the answers, each (batch, longest)."""
    longest = max(len(row["whole"]) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for place, row in enumerate(rows):
        length, start = len(row["whole"]), len(row["prompt"])
        ids[place, :length] = torch.tensor(row["whole"])
        labels[place, start:length] = ids[place, start:length]
        mask[place, :length] = 1
    named = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    return {name: tensor.to(device) for name, tensor in named.items()}


def fine_tune(model: torch.nn.Module, rows: list[Row], setting: Setting, pad: int) -> float:
    """Trains the adapter in place (cosine schedule, 5% warm-up); returns seconds per step."""
    device = next(model.parameters()).device
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=setting.learning_rate, weight_decay=0.0)
    warm = max(1, setting.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / setting.steps))
        ),
    )
    rng = Random(1)
    order: list[int] = []
    model.train()
    begun = time.monotonic()
    for _ in range(setting.steps):
        if len(order) < setting.batch:
            order += rng.sample(range(len(rows)), len(rows))
        batch = [rows[order.pop(0)] for _ in range(setting.batch)]
        model(**collate(batch, pad, device)).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return (time.monotonic() - begun) / setting.steps


@torch.no_grad()
def held_out_loss(model: torch.nn.Module, rows: list[Row], pad: int) -> float:
    """Mean negative log-likelihood per answer token, in nats."""
    model.eval()
    device, total, tokens = next(model.parameters()).device, 0.0, 0
    for first in range(0, len(rows), 50):
        batch = collate(rows[first : first + 50], pad, device)
        logits = model(**batch).logits[:, :-1].float()
        labels = batch["labels"][:, 1:]
        total += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        ).item()
        tokens += int((labels != IGNORED).sum())
    return total / tokens


@torch.no_grad()
def answers(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, rows: list[Row], longest: int
) -> list[str]:
    """Greedy answers, batches of 100 with padding on the left."""
    model.eval()
    device, pad, texts = next(model.parameters()).device, tokenizer.pad_token_id, []
    for first in range(0, len(rows), 100):
        prompts = [row["prompt"] for row in rows[first : first + 100]]
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        out = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=longest, do_sample=False
        )
        texts += tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    return texts


def passes(case: tuple[str, str]) -> bool:
    """Runs an answer and then its tests for at most two seconds; called in worker processes."""

    def expire(_signal: int, _frame: object) -> None:
        raise TimeoutError

    answer, tests = case
    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(f"{answer.strip()}\n{tests}", "answer", "exec"), {})
    except BaseException:  # noqa: BLE001 - whatever generated code raises, it did not pass
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    return True


def limit_memory() -> None:
    """At most 2 GiB for a worker that runs generated code."""
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))


def pass_rate(texts: list[str], rows: list[Row]) -> float:
    """Share of the answers that pass all their tests."""
    cases = [(text, row["tests"]) for text, row in zip(texts, rows, strict=True)]
    with multiprocessing.get_context("spawn").Pool(2, limit_memory) as pool:
        return sum(pool.map(passes, cases)) / len(cases)


def measure(options: argparse.Namespace, setting: Setting | None) -> dict[str, Any]:
    """The figures of the base (no setting) or of one fine-tuning."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(options.model)
    rows = read_rows(options.data, tokenizer)
    train, test = rows[: len(rows) * 8 // 10], rows[len(rows) * 9 // 10 :]
    torch.manual_seed(1)
    model = MistralForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    model.to(options.device)
    seconds = 0.0
    if setting:
        model = get_peft_model(model, adapter(setting))
        seconds = fine_tune(model, train, setting, tokenizer.pad_token_id)
    loss = held_out_loss(model, test, tokenizer.pad_token_id)
    texts = answers(model, tokenizer, test, options.max_new_tokens)
    rate = pass_rate(texts, test)
    return {
        "setting": str(setting) if setting else "base",
        "test loss": round(loss, 4),
        "tests passed": round(rate, 4),
        "seconds per step": round(seconds, 4),
    }


def main() -> None:
    """Measure the base and every setting; one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("recipes/quickstart/model"))
    parser.add_argument("--data", type=Path, default=Path("recipes/quickstart/functions.jsonl"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--only", type=int, nargs="*", help="places of the settings to measure")
    parser.add_argument("--no-base", action="store_true", help="leave the base out")
    options = parser.parse_args()
    chosen = SETTINGS if options.only is None else [SETTINGS[place] for place in options.only]
    for setting in chosen if options.no_base else (None, *chosen):
        print(json.dumps(measure(options, setting)), flush=True)


if __name__ == "__main__":
    main()
