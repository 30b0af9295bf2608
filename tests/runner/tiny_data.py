"""Tiny tokenizers and recipes, made in the test."""

from __future__ import annotations

import json
from functools import cache

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from runner.recipe import Recipe

CORPUS = [
    "def add(a, b):\n    return a + b\n",
    "Write a function that adds two numbers. [INST] and [/INST] mark a turn.\n\n",
    "The answer is 42, and the sum of 3 and 4 is 7. user assistant system Question: Answer:",
    "naïve café, Ελληνικά, русский, 日本語, العربية 🙂",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
EXTRA = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]

TEMPLATES = {
    "mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}"
        "{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
    "chatml": (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] "
        "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + "
        "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "llama2": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'].strip() + ' [/INST]' }}{% elif m['role'] == 'assistant' %}"
        "{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "plain": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ 'Question: ' + m['content'] + '\nAnswer:' }}{% elif m['role'] == 'assistant' %}"
        "{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
}


@cache
def _byte_level(trim_offsets: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=False, trim_offsets=trim_offsets
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS * 3,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=SPECIAL + EXTRA,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return tokenizer


@cache
def _sentencepiece() -> Tokenizer:
    """Byte fallback and a space put before every text, as Llama 2's and Mistral's tokenizers do."""
    trained = Tokenizer(models.BPE())
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.normalizer = normalizer
    trained.train_from_iterator(
        CORPUS * 3, trainers.BpeTrainer(vocab_size=350, show_progress=False)
    )
    model = json.loads(trained.to_str())["model"]
    tokens = [*SPECIAL, *EXTRA, *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def make_tokenizer(template: str | None, kind: str = "bytes") -> PreTrainedTokenizerFast:
    """A tokenizer with a chat template of TEMPLATES, or the template itself, or none."""
    backend = {
        "bytes": lambda: _byte_level(trim_offsets=False),
        "trimmed": lambda: _byte_level(trim_offsets=True),
        "nfc": lambda: _byte_level(trim_offsets=False),
        "sentencepiece": _sentencepiece,
        "metaspace": _sentencepiece,
    }[kind]()
    copy = Tokenizer.from_str(backend.to_str())
    if kind == "nfc":
        copy.normalizer = normalizers.NFC()
    if kind == "metaspace":  # puts a space before a text, but not after special tokens
        copy.normalizer = normalizers.Sequence([])
        copy.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    if kind == "trimmed":
        copy.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=copy,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=EXTRA,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATES.get(template, template) if template else None
    return tokenizer


def make_recipe(source: str | list[str] = "rows.jsonl", **blocks: object) -> Recipe:
    """A recipe over ``source`` with blocks ``dataset``, ``template`` and others filled in."""
    dataset = {"source": source, **blocks.pop("dataset", {})}
    return Recipe.model_validate(
        {
            "version": 1,
            "name": "tiny",
            "model": {"base": "tiny"},
            "training": {"max_steps": 1},
            "dataset": dataset,
            **blocks,
        }
    )
