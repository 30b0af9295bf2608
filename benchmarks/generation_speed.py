"""How fast answers are generated, by each way that transformers offers alone.

    python benchmarks/generation_speed.py                   # the quickstart's model, on the CPU
    python benchmarks/generation_speed.py --device cuda     # Mistral-7B's shape, random weights

Greedy, 256 prompts of 64 to 192 tokens, 128 new tokens each, nothing ends an answer early:

- one at a time: a batch of one prompt (8 prompts are measured)
- batched: the engine of evalsuite, the adapter as it is loaded
- merged: the same with the adapter merged into the weights
- static cache: `generate` with a cache of fixed size, no compilation
- compiled: the same with torch.compile of the decoding step, as `generate` does it by itself on
  CUDA; the time of compiling is told apart
- graphs: a loop of our own over a cache of fixed size, each step one CUDA graph; with the adapter
  as it is loaded and merged. On a CPU the loop runs without a graph, to be compared with the others

Each way runs once before its clock starts. Prints new tokens per second, how many of the 256
answers equal those of "batched", and the share of the time that reading weights, keys and values
once for each step would take at the measured bandwidth of memory. Writes
benchmarks/generation-speed-<device>.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

Answers = list[tuple[int, ...]]
PAD, NEVER = 0, 3  # ids that stand for padding, and for a stop token that no model here writes
COPIED_BYTES = 2**32


class NoText:
    """Stands in for a tokenizer: the text of answers is not what is measured."""

    def decode(self, _: Sequence[int], *, skip_special_tokens: bool) -> str:
        """No text."""
        del skip_special_tokens
        return ""


def make_model(device: str, rank: int) -> Any:  # noqa: ANN401 - a live model
    """The quickstart's model in float32, or Mistral-7B's shape in bf16; with a random adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    if device == "cpu":
        folder = ROOT / "recipes" / "quickstart" / "model"
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    else:
        config = MistralConfig(vocab_size=32_000, sliding_window=None)
        config._attn_implementation = "sdpa"
        torch.set_default_dtype(torch.bfloat16)
        with torch.device(device):
            base = MistralForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model = get_peft_model(base, LoraConfig(r=rank, target_modules="all-linear")).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.data = weight.data.to(base.dtype)
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.01)
        # Nothing may end an answer early.
        head = base.get_output_embeddings().weight
        if head is not base.get_input_embeddings().weight:
            head[NEVER].zero_()
    return model


def make_prompts(count: int, vocabulary: int) -> list[list[int]]:
    """Prompts of 64 to 192 tokens."""
    chosen = random.Random(0)
    return [
        [chosen.randrange(4, vocabulary) for _ in range(chosen.randint(64, 192))]
        for _ in range(count)
    ]


def by_the_engine(model: Any, prompts: Sequence[list[int]], new: int, batch_tokens: int) -> Answers:  # noqa: ANN401
    """Answers of the engine that evaluations use; it merges the adapter where there is one."""
    from evalsuite.generation import generate_answers
    from evalsuite.records import Decoding

    tokenizer: Any = NoText()
    found = generate_answers(
        model, tokenizer, prompts, decoding=Decoding(max_new_tokens=new), stop_token_ids=(NEVER,),
        pad_token_id=PAD, batch_tokens=batch_tokens, seed=0,
    )  # fmt: skip
    return [answer.token_ids for answer in found]


def unmerged(measure: Callable[[], Answers]) -> Answers:
    """What ``measure`` gives while no adapter is merged."""
    from evalsuite.generation import merged_adapter

    kept = merged_adapter.why_not_merged
    merged_adapter.why_not_merged = lambda _: "for this measurement"
    try:
        return measure()
    finally:
        merged_adapter.why_not_merged = kept


def by_generate(model: Any, prompts: Sequence[list[int]], new: int, *, compiles: bool) -> Answers:  # noqa: ANN401
    """Answers of `generate` with a cache of fixed size."""
    import torch
    from transformers import GenerationConfig

    tokens, attention = left_padded(prompts, model.device)
    settings = GenerationConfig(
        max_new_tokens=new, do_sample=False, pad_token_id=PAD, eos_token_id=NEVER,
        cache_implementation="static", disable_compile=not compiles,
    )  # fmt: skip
    with torch.inference_mode():
        found = model.generate(
            input_ids=tokens, attention_mask=attention, generation_config=settings
        )
    return [tuple(row) for row in found[:, tokens.shape[1] :].tolist()]


def left_padded(prompts: Sequence[list[int]], device: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Tokens and mask (B, T)."""
    import torch

    width = max(map(len, prompts))
    tokens = torch.full((len(prompts), width), PAD)
    attention = torch.zeros((len(prompts), width), dtype=torch.long)
    for place, prompt in enumerate(prompts):
        tokens[place, width - len(prompt) :] = torch.tensor(prompt)
        attention[place, width - len(prompt) :] = 1
    return tokens.to(device), attention.to(device)


class FixedSteps:
    """Greedy decoding over a cache of fixed size; every step reads and writes the same memory.

    So a step can be captured as one CUDA graph and replayed: no kernel is launched by the host.
    """

    def __init__(self, model: Any, prompts: Sequence[list[int]], new: int) -> None:  # noqa: ANN401
        """Compute the prompts, and make room for ``new`` tokens."""
        import torch
        from transformers import StaticCache

        tokens, attention = left_padded(prompts, model.device)
        rows, width = tokens.shape
        self.model, self.new = model, new
        config = model.config.get_text_config(decoder=True)
        self.cache = StaticCache(config=config, max_cache_len=width + new)
        output = model(
            input_ids=tokens,
            attention_mask=attention,
            position_ids=(attention.cumsum(-1) - 1).clamp(min=0),
            past_key_values=self.cache,
            logits_to_keep=1,
        )
        self.found = torch.zeros((rows, new), dtype=torch.long, device=model.device)
        self.token = output.logits[:, -1].argmax(-1, keepdim=True)  # (B, 1)
        self.found[:, :1] = self.token
        self.position = attention.sum(-1, keepdim=True)  # (B, 1)
        self.mask = torch.zeros((rows, 1, 1, width + new), dtype=torch.bool, device=model.device)
        self.mask[:, 0, 0, :width] = attention.bool()
        self.place = torch.tensor([width], device=model.device)  # of the token that is read
        self.column = torch.tensor([1], device=model.device)  # of the token that is written

    def step(self) -> None:
        """Read the last token of each row, and write the next."""
        self.mask.index_fill_(3, self.place, True)
        output = self.model(
            input_ids=self.token,
            attention_mask=self.mask,
            position_ids=self.position,
            past_key_values=self.cache,
        )
        self.token.copy_(output.logits[:, -1].argmax(-1, keepdim=True))
        self.found.index_copy_(1, self.column, self.token)
        self.place.add_(1)
        self.column.add_(1)
        self.position.add_(1)

    def captured(self) -> Callable[[], None]:
        """Two steps by the host, as warming up; then what replays one step as a graph."""
        import torch

        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self.step()
            self.step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # captures without computing: counters stay as they are
            self.step()
        return graph.replay


def by_graphs(model: Any, prompts: Sequence[list[int]], new: int) -> Answers:  # noqa: ANN401
    """Answers of the loop above."""
    import torch

    with torch.inference_mode():
        steps = FixedSteps(model, prompts, new)
        replay = steps.captured() if model.device.type == "cuda" else steps.step
        for _ in range(new - 3 if model.device.type == "cuda" else new - 1):
            replay()
        return [tuple(row) for row in steps.found.tolist()]


def by_lm_eval(model: Any, prompts: Sequence[str], new: int, batch_size: int) -> float:  # noqa: ANN401
    """Seconds of lm-eval's ``generate_until``, after one that is not counted."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "recipes" / "quickstart" / "model")
    tokenizer.pad_token = tokenizer.pad_token or "<unk>"
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, max_length=512)
    settings = {"until": ["\0"], "max_gen_toks": new, "do_sample": False}

    def ask(texts: Sequence[str]) -> None:
        harness.generate_until(
            [
                Instance(
                    request_type="generate_until", doc={}, arguments=(text, settings), idx=place
                )
                for place, text in enumerate(texts)
            ],
            disable_tqdm=True,
        )

    ask(prompts[:2])
    started = time.perf_counter()
    ask(prompts)
    return time.perf_counter() - started


def bandwidth(device: Any) -> float:  # noqa: ANN401
    """Bytes per second that this device reads and writes when it copies."""
    import torch

    count = COPIED_BYTES // 4 if device.type == "cuda" else COPIED_BYTES // 64
    source = torch.empty(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    synchronize(device)
    started = time.perf_counter()
    for _ in range(4):
        target.copy_(source)
    synchronize(device)
    return 8 * count / (time.perf_counter() - started)


def synchronize(device: Any) -> None:  # noqa: ANN401
    """Wait until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def least_seconds(model: Any, prompts: Sequence[list[int]], new: int, speed: float) -> float:  # noqa: ANN401
    """Seconds for reading all weights, and every row's keys and values, once for each step."""
    from evalsuite.generation.transformers_engine import cache_bytes_per_token

    weights = sum(w.numel() * w.element_size() for w in model.parameters())
    tokens = sum(len(prompt) + step for prompt in prompts for step in range(new))
    return (weights * new + tokens * cache_bytes_per_token(model)) / speed


def main() -> None:
    """Measure every way that this device has."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--only", nargs="*", default=None, help="names of ways")
    given = parser.parse_args()
    model = make_model(given.device, given.rank)
    new, vocabulary = given.new_tokens, model.config.vocab_size
    prompts = make_prompts(given.prompts, vocabulary)
    whole = given.prompts * (max(map(len, prompts)) + new)
    ways: dict[str, tuple[Callable[[Sequence[list[int]]], Answers], Sequence[list[int]]]] = {
        "one at a time": (
            lambda asked: unmerged(lambda: by_the_engine(model, asked, new, 1)),
            prompts[:8],
        ),
        "batched": (
            lambda asked: unmerged(lambda: by_the_engine(model, asked, new, whole)),
            prompts,
        ),
        "merged": (lambda asked: by_the_engine(model, asked, new, whole), prompts),
        "static cache": (lambda asked: by_generate(model, asked, new, compiles=False), prompts),
        "graphs": (lambda asked: by_graphs(model, asked, new), prompts),
        "graphs, merged": (lambda asked: merged(model, asked, new, by_graphs), prompts),
        "static cache, merged": (
            lambda asked: merged(model, asked, new, lambda *a: by_generate(*a, compiles=False)),
            prompts,
        ),
        "compiled, merged": (
            lambda asked: merged(model, asked, new, lambda *a: by_generate(*a, compiles=True)),
            prompts,
        ),
    }
    if given.device == "cpu":
        del ways["compiled, merged"]  # `generate` compiles on CUDA alone
    speed = bandwidth(model.device)
    least = least_seconds(model, prompts, new, speed)
    name = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"
    report: dict[str, Any] = {
        "device": name, "torch": torch.__version__, "prompts": len(prompts), "new_tokens": new,
        "gigabytes_per_second": speed / 1e9,
        "limit_of_memory_bandwidth": len(prompts) * new / least, "ways": {},
    }  # fmt: skip
    expected: Answers | None = None
    for label, (way, asked) in ways.items():
        if given.only and label not in given.only:
            continue
        started = time.perf_counter()
        way(asked if "compiled" in label else asked[: max(2, len(asked) // 8)])
        synchronize(model.device)
        first = time.perf_counter() - started
        started = time.perf_counter()
        found = way(asked)
        synchronize(model.device)
        seconds = time.perf_counter() - started
        if label == "batched":
            expected = found
        made = sum(map(len, found))
        rate = made / seconds
        same = None if expected is None else sum(map(tuple.__eq__, found, expected))
        report["ways"][label] = {
            "new_tokens_per_second": rate,
            "seconds": seconds,
            "warming_up": first,
            "answers": len(found),
            "share_of_the_limit": rate / report["limit_of_memory_bandwidth"],
            "equal_to_batched": same,
        }
        print(label, json.dumps(report["ways"][label]), flush=True)
    if given.device == "cpu":
        report["lm_eval"] = beside_lm_eval(model, given.prompts, new)
    (HERE / f"generation-speed-{given.device}.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def merged(
    model: Any,  # noqa: ANN401
    prompts: Sequence[list[int]],
    new: int,
    way: Callable[[Any, Sequence[list[int]], int], Answers],
) -> Answers:
    """What ``way`` gives with the adapter merged; merging and restoring are measured too."""
    from evalsuite.generation.merged_adapter import merged_adapter

    with merged_adapter(model):
        return way(model, prompts, new)


def beside_lm_eval(model: Any, count: int, new: int) -> dict[str, float] | None:  # noqa: ANN401
    """Seconds for the quickstart's own prompts: lm-eval by batch size, and the engine."""
    try:
        import lm_eval  # noqa: F401 - whether it is there
    except ImportError:
        return None
    from transformers import AutoTokenizer

    folder = ROOT / "recipes" / "quickstart"
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    with (folder / "functions.jsonl").open() as file:
        texts = [json.loads(line)["instruction"] for line in file][:count]
    seconds = {
        f"lm-eval, batches of {size}": by_lm_eval(model, texts, new, size) for size in (8, 64)
    }
    ids = [tokenizer(text)["input_ids"] for text in texts]
    by_the_engine(model, ids[:8], new, 4096)
    started = time.perf_counter()
    by_the_engine(model, ids, new, 16_384)
    return {**seconds, "proofbox": time.perf_counter() - started}


if __name__ == "__main__":
    main()
