"""Pretrains the embedded base model on the grammar's text.

    python -m pretraining.pretrain --steps 4000 --device cuda --out recipes/quickstart/model

The text is made while training goes on (`pretraining.corpus`), each step sees new text, and no
program in it behaves as one of the data set's. The folder must hold the tokenizer already
(`pretraining.tokenizer`). On one device and one set of library versions the result depends on
nothing but the arguments.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    GenerationConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from pretraining.corpus import documents
from pretraining.dataset import held_out
from pretraining.tokenizer import CONTEXT

BLOCK = 512  # tokens of one training sequence; documents are packed end to end
FIRST_SHARD = 1_000  # the first shards trained the tokenizer
SEED = 20


def model_config(
    tokenizer: PreTrainedTokenizerFast, layers: int, intermediate: int
) -> MistralConfig:
    """A Mistral of about 3.7 million parameters (7.4 MB in bfloat16)."""
    return MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        sliding_window=None,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


class ShardTokens:
    """Makes one shard of the corpus as token ids; called in worker processes."""

    def __init__(self, tokenizer_folder: Path, excluded: frozenset[str]) -> None:
        self._folder = tokenizer_folder
        self._excluded = excluded

    def __call__(self, shard: int) -> NDArray[np.uint16]:
        """`<s>` document `</s>` after one another, as one array (tokens,)."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        tokenizer = PreTrainedTokenizerFast.from_pretrained(self._folder)
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        texts = list(documents(shard, self._excluded))
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return np.array([i for text in ids for i in (bos, *text, eos)], dtype=np.uint16)


def batches(make: ShardTokens, batch: int, workers: int) -> Iterator[torch.Tensor]:
    """Endless batches (batch, BLOCK) of new text, the same for any number of workers."""
    with get_context("spawn").Pool(workers) as pool:
        shards = count(FIRST_SHARD)
        pending = deque(pool.apply_async(make, (next(shards),)) for _ in range(3 * workers))
        kept: NDArray[np.uint16] = np.empty(0, dtype=np.uint16)
        while True:
            kept = np.concatenate((kept, pending.popleft().get()))
            pending.append(pool.apply_async(make, (next(shards),)))
            while len(kept) >= batch * BLOCK:
                rows = kept[: batch * BLOCK].reshape(batch, BLOCK)
                yield torch.from_numpy(rows.astype(np.int64))
                kept = kept[batch * BLOCK :]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first 200 steps, then a cosine down to a twentieth of ``peak``."""
    warm = min(1.0, (step + 1) / min(200, max(1, steps // 10)))
    return peak * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def pretrain(
    model: MistralForCausalLM,
    source: Iterator[torch.Tensor],
    *,
    steps: int,
    peak: float,
    device: torch.device,
) -> list[float]:
    """Trains in place with AdamW (bfloat16 autocast on CUDA); returns the loss of every step."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        fused=device.type == "cuda",
    )
    model.train()
    losses: list[torch.Tensor] = []
    begun = time.monotonic()
    for step in range(steps):
        rows = next(source).to(device, non_blocking=True)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        if step % 250 == 249 or step == steps - 1:
            speed = (step + 1) * rows.numel() / (time.monotonic() - begun)
            print(f"step {step + 1} loss {loss.item():.4f} {speed:,.0f} tokens/s", flush=True)
    return torch.stack(losses).float().cpu().tolist()


def save(model: MistralForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes the weights in bfloat16, the configurations and the tokenizer."""
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def main() -> None:
    """Pretrain and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64, help=f"sequences of {BLOCK} tokens a step")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--intermediate", type=int, default=640)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 1))
    parser.add_argument("--tokenizer", type=Path, default=Path("recipes/quickstart/model"))
    parser.add_argument("--out", type=Path, default=Path("recipes/quickstart/model"))
    parser.add_argument("--losses", type=Path, help="a JSON file for the loss of every step")
    options = parser.parse_args()
    torch.manual_seed(SEED)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(options.tokenizer)
    model = MistralForCausalLM(model_config(tokenizer, options.layers, options.intermediate))
    device = torch.device(options.device)
    model.to(device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters on {device}", flush=True)
    source = batches(ShardTokens(options.tokenizer, held_out()), options.batch, options.workers)
    losses = pretrain(model, source, steps=options.steps, peak=options.learning_rate, device=device)
    save(model, tokenizer, options.out)
    if options.losses:
        options.losses.write_text(json.dumps(losses), encoding="utf-8")


if __name__ == "__main__":
    main()
