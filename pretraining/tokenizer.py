"""The tokenizer: byte-level BPE with a Mistral-style chat template.

    python -m pretraining.tokenizer --out recipes/quickstart/model

Every byte is in the vocabulary, so any Unicode text survives a round trip. Special tokens are
`<unk>` (also the padding token, so that padding is never taken for the end), `<s>` and `</s>`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pretraining.corpus import documents
from pretraining.dataset import held_out

VOCABULARY = 1024
SHARDS = 20
CONTEXT = 2048
# Words with the space or underscore before them, single digits (numbers are copied digit by
# digit), punctuation, white space. A run of white space leaves its last space to the next word.
_PIECES = r"[ _]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# The text that begins a sequence is in the template and nowhere else: the tokenizer itself adds
# none, so a rendered conversation has one `<s>` whether or not special tokens are asked for.
CHAT_TEMPLATE = """\
{%- set state = namespace(system='', turn='user') -%}
{%- if not messages -%}
    {{- raise_exception('The conversation has no messages.') -}}
{%- endif -%}
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message['role'] == 'system' and loop.first -%}
        {%- set state.system = message['content'] + '\\n\\n' -%}
    {%- elif message['role'] != state.turn -%}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/... \
after an optional system message; message ' + loop.index|string + ' has the role ' + \
message['role'] + ' where ' + state.turn + ' is due.') -}}
    {%- elif message['role'] == 'user' -%}
        {{- '[INST] ' + state.system + message['content'] + ' [/INST]' -}}
        {%- set state.system = '' -%}
        {%- set state.turn = 'assistant' -%}
    {%- else -%}
        {{- ' ' + message['content'] + eos_token -}}
        {%- set state.turn = 'user' -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and state.turn == 'user' -%}
    {{- raise_exception('An answer can be generated only after a user message.') -}}
{%- endif -%}
"""


def train_tokenizer(texts: Iterator[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A tokenizer of ``vocabulary`` tokens trained on ``texts``, with the chat template."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        AddedToken(text, special=True, normalized=False) for text in ("<unk>", "<s>", "</s>")
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<unk>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def main() -> None:
    """Train the tokenizer on the first shards of the corpus and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("recipes/quickstart/model"))
    out: Path = parser.parse_args().out
    excluded = held_out()
    texts = (text for shard in range(SHARDS) for text in documents(shard, excluded))
    tokenizer = train_tokenizer(texts)
    tokenizer.save_pretrained(out)
    print(f"{out}: {len(tokenizer)} tokens")


if __name__ == "__main__":
    main()
