"""Every chat template that the installed TRL ships: the label contract holds, or it is refused."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from runner.data.chat_template import ChatTemplate, probe_chat_template, render_conversation
from runner.data.label_contract import Contract, check_rows
from runner.data.row_template import RowError
from runner.data.tokenization import label, tokenize
from runner.errors import DataError
from tests.runner.tiny_data import make_tokenizer

SPEC = find_spec("trl")
assert SPEC is not None and SPEC.submodule_search_locations is not None
FOLDER = Path(SPEC.submodule_search_locations[0]) / "chat_templates"
NAMES = sorted(p.stem for p in FOLDER.glob("*.jinja") if not p.stem.endswith("_training"))
# What the templates write as one token: <|...|>, <start_of_turn> and the like. DeepSeek writes them
# with the full-width bar, U+FF5C.
BAR = "[|\uff5c]"
MARKER = re.compile(rf"<{BAR}[^<>\s]+{BAR}>|<(?:start|end)_of_(?:turn|image)>|<\|?turn\|?>")
# Outcome by template, so that a change of TRL's or of ours is seen; on all others the contract
# holds. These write text between the generation prompt and the answer (thinking blocks, channels),
# or their generation prompt does not begin the training text, or their messages hold images.
REFUSED = frozenset(
    [
        "deepseek_r1_distill",
        "deepseekv3",
        "glm4moe",
        "gptoss",
        "idefics3",
        "llava_next",
        "muse_glimmer",
        "nemotron_3_5_lightning",
        "nemotron_3_nano",
        "nemotron_3_super",
        "nemotron_3_ultra",
        "qwen3",
        "qwen3_5_think",
        "qwen3_6",
        "qwen3_8",
        "smolvlm",
    ]
)
# Training twins that render another text than their template, so that masks cannot be compared.
OTHER_TEXT = frozenset({"llama3", "qwen3_5_nothink"})


def conversation(turns: int, *, system: bool) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": "Be brief."}] if system else []
    for turn in range(turns):
        messages += [
            {"role": "user", "content": f"Question {turn}: what is {turn} + 1?"},
            {"role": "assistant", "content": f"It is {turn + 1}.\nNo doubt."},
        ]
    return messages


CONVERSATIONS = [conversation(n, system=s) for n in (1, 2, 5) for s in (False, True)]


@cache
def tokenizer_for(name: str) -> Any:
    text = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    tokenizer = make_tokenizer(None)
    markers = sorted(set(MARKER.findall(text)))
    tokenizer.add_tokens([AddedToken(m, special=True, normalized=False) for m in markers])
    tokenizer.chat_template = text
    return tokenizer


@cache
def probed(name: str) -> ChatTemplate | str:
    """The template, or why it is refused as a whole."""
    tokenizer = tokenizer_for(name)
    try:
        return probe_chat_template(tokenizer.chat_template, tokenizer)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("loss_on", ["completion", "assistant_turns"])
@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds_or_the_template_is_refused(name: str, loss_on: Any) -> None:
    chat = probed(name)
    if isinstance(chat, str):
        assert chat.startswith("template.chat"), chat
        assert name in REFUSED, chat
        return
    assert name not in REFUSED
    tokenizer = tokenizer_for(name)
    contract = Contract(chat=chat, loss_on=loss_on, tokenizer=tokenizer, vocabulary=len(tokenizer))
    kept = []
    for messages in CONVERSATIONS:
        try:
            kept.append(render_conversation(tokenizer, chat, messages, loss_on=loss_on))
        except RowError as error:
            # The row is refused by name, for what this template does to systems or earlier turns.
            assert str(error)
            assert len(messages) > 2
    assert kept, "not even one plain turn is rendered"
    results = check_rows([label(list(range(len(kept))), tokenize(tokenizer, kept))], contract)
    assert {result.rule: result.violations for result in results if result.violations} == {}


@pytest.mark.parametrize("name", [n for n in NAMES if (FOLDER / f"{n}_training.jinja").is_file()])
def test_masks_agree_with_trl_s_own_generation_marks(name: str) -> None:
    """TRL's training twins mark the assistant's tokens with {% generation %}."""
    chat = probed(name)
    if isinstance(chat, str):
        pytest.skip("refused as a whole")
    tokenizer = tokenizer_for(name)
    training = (FOLDER / f"{name}_training.jinja").read_text(encoding="utf-8")
    compared = 0
    for messages in CONVERSATIONS:
        try:
            rendered = render_conversation(tokenizer, chat, messages, loss_on="assistant_turns")
        except RowError:
            continue
        theirs = tokenizer.apply_chat_template(
            messages, chat_template=training, return_dict=True, return_assistant_tokens_mask=True
        )
        rows = label([0], tokenize(tokenizer, [rendered]))
        if list(rows.input_ids.row(0)) != theirs["input_ids"]:
            continue  # the twin renders another text
        ours = {i for i, value in enumerate(rows.labels.tolist()) if value != -100}
        marked = {i for i, value in enumerate(theirs["assistant_masks"]) if value}
        # TRL may also mark what follows the stop token: white space, or (cohere2, phi3) one more
        # special token, which a model that has stopped never comes to write.
        assert ours <= marked, f"supervised here and not there: {sorted(ours - marked)}"
        extra = [theirs["input_ids"][i] for i in sorted(marked - ours)]
        rest = tokenizer.decode(extra, skip_special_tokens=True)
        assert rest.strip() == ""
        compared += 1
    assert compared > 0 or name in OTHER_TEXT
