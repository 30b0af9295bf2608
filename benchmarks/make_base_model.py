"""A base model that carries no more than a benchmark of data needs: its tokenizer is real.

    python benchmarks/make_base_model.py rows.jsonl folder

The tokenizer is a byte-level BPE of up to 32,000 tokens, learned from the first rows of a file that
``make_rows.py`` made, with the pre-tokenization of Qwen 2 and Llama 3 and a ChatML template. The
model is a Llama of random weights, as small as one can be, for tools that insist on loading one.
Everything in the folder is in the form that ``transformers`` reads; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

LEARNED_FROM = 50_000  # rows
VOCABULARY = 32_000
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def learned_tokenizer(texts: Iterator[str]) -> Tokenizer:
    """A tokenizer of as many tokens as the texts carry, ``VOCABULARY`` at most."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def row_texts(path: Path) -> Iterator[str]:
    """The columns of the first rows of a JSON Lines file, one after the other."""
    with path.open(encoding="utf-8") as lines:
        for line in islice(lines, LEARNED_FROM):
            yield from json.loads(line).values()


def write_base_model(rows: Path, folder: Path) -> None:
    """Make tokenizer and model, and store them in ``folder``."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned_tokenizer(row_texts(rows)),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
        model_max_length=32_768,
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def main() -> None:
    """Make the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    write_base_model(options.rows, options.folder)


if __name__ == "__main__":
    main()
