"""Every chat template that the installed TRL ships, tried with tiny tokenizers and conversations.

``docs/make_chat_templates.py`` makes its table from here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from runner.data.formats.conversation import Conversation
from runner.data.labels.chat_template import ChatTemplate, LossOn, probe_chat_template
from runner.data.labels.label_contract import Contract, ContractCheck
from runner.data.labels.labelled_rows import LabelledRows
from runner.data.labels.rendering import render_conversation
from runner.data.labels.text_encoder import TextEncoder
from runner.data.labels.tokenization import label, tokenize
from runner.data.reading.row_template import RowError
from runner.errors import DataError
from tests.runner.tiny_data import make_tokenizer

SPEC = find_spec("trl")
assert SPEC is not None and SPEC.submodule_search_locations is not None
FOLDER = Path(SPEC.submodule_search_locations[0]) / "chat_templates"
NAMES = sorted(p.stem for p in FOLDER.glob("*.jinja") if not p.stem.endswith("_training"))
TRAINING = [name for name in NAMES if (FOLDER / f"{name}_training.jinja").is_file()]
# What the templates write as one token: <|...|>, <|...>, <...|>, <start_of_turn> and the like.
# DeepSeek writes them with the full-width bar, U+FF5C.
BAR = "[|\uff5c]"
MARKER = re.compile(
    rf"<{BAR}[^<>\s]+{BAR}>|<(?:start|end)_of_(?:turn|image)>|<\|[a-z_]+>|<[a-z_]+\|>"
)
TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Its name."},
                    "days": {"type": "integer", "description": "How many days."},
                },
                "required": ["city"],
            },
        },
    },
)
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "type": "function",
            "id": "call00001",
            "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}},
        }
    ],
}
RESULT = {
    "role": "tool",
    "name": "get_weather",
    "tool_call_id": "call00001",
    "content": "sun, 21 degrees",
}


def talk(turns: int, *, system: bool, reasoning: bool = False) -> Conversation:
    """A conversation of so many turns; ``reasoning`` is before the last answer."""
    messages: list[dict[str, Any]] = []
    if system:
        messages.append({"role": "system", "content": "Be brief."})
    for turn in range(turns):
        messages += [
            {"role": "user", "content": f"Question {turn}: what is {turn} + 1?"},
            {"role": "assistant", "content": f"It is {turn + 1}.\nNo doubt."},
        ]
    if reasoning:
        messages[-1]["reasoning_content"] = "One more is\nthe next number."
    return Conversation(messages=tuple(messages))


PLAIN = [talk(n, system=s) for n in (1, 2, 5) for s in (False, True)]
REASONED = [talk(n, system=False, reasoning=True) for n in (1, 2)]
ASKED = {"role": "user", "content": "Weather?"}
TOLD = {"role": "assistant", "content": "Sunny."}
CALLING = [
    Conversation(messages=(ASKED, CALL), tools=TOOLS),
    Conversation(messages=(ASKED, CALL, RESULT, TOLD), tools=TOOLS),
]


@cache
def template_text(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


@cache
def tokenizer_for(name: str) -> Any:
    """A tokenizer made here, with the template's own markers as special tokens."""
    tokenizer = make_tokenizer(None)
    markers = sorted(set(MARKER.findall(template_text(name))))
    tokenizer.add_tokens([AddedToken(m, special=True, normalized=False) for m in markers])
    tokenizer.chat_template = template_text(name)
    return tokenizer


@cache
def probed(name: str, thinking: bool | None = None) -> ChatTemplate | str:
    """The template, or why it is refused as a whole."""
    try:
        return probe_chat_template(template_text(name), tokenizer_for(name), thinking)
    except DataError as error:
        return str(error)


@dataclass(frozen=True)
class Tried:
    """What became of conversations: the indices of those kept, why others were refused."""

    kept: list[int]
    refused: dict[int, str]
    labelled: LabelledRows
    broken: dict[str, list[int]]


def tried(
    name: str, chat: ChatTemplate, conversations: Sequence[Conversation], loss_on: LossOn
) -> Tried:
    """Render, label and check conversations."""
    tokenizer = tokenizer_for(name)
    rendered, refused = {}, {}
    for index, conversation in enumerate(conversations):
        try:
            rendered[index] = render_conversation(chat, conversation, loss_on=loss_on)
        except RowError as error:
            refused[index] = str(error)
    kept = list(rendered)
    labelled = label(kept, tokenize(TextEncoder(tokenizer), list(rendered.values())))
    contract = Contract(chat=chat, loss_on=loss_on, tokenizer=tokenizer, vocabulary=len(tokenizer))
    return Tried(kept, refused, labelled, ContractCheck(contract).check(labelled))


# The outcome in words, for the table in docs/


def outcome(name: str) -> dict[str, str]:
    """The table's row of a template: what holds, what is refused and by which rule."""
    chat = probed(name)
    if isinstance(chat, str):
        rule = re.search(r"\(rule (\w+)\)", chat)
        assert rule is not None, chat
        refused = f"refused: {rule.group(1)}"
        return dict.fromkeys(("completion", "assistant_turns"), refused) | {
            "thinking": "",
            "reasoning": "",
            "tools": "",
        }
    return {
        "completion": _plain(tried(name, chat, PLAIN, "completion")),
        "assistant_turns": _plain(tried(name, chat, PLAIN, "assistant_turns")),
        "thinking": _thinking(chat),
        "reasoning": _all_or_none(tried(name, chat, REASONED, "completion")),
        "tools": _all_or_none(tried(name, chat, CALLING, "assistant_turns")),
    }


def _plain(found: Tried) -> str:
    assert found.broken == {}
    several = [i for i in found.refused if len(PLAIN[i].messages) > 3 and i % 2 == 0]
    without = ["a system turn"] if any(i % 2 for i in found.refused) and not several else []
    without += ["several turns"] if several else []
    return f"holds, not with {' or '.join(without)}" if without else "holds"


def _thinking(chat: ChatTemplate) -> str:
    written = chat.lead.strip()
    if written:
        return f"writes `{written}`"
    return "off" if chat.thinking is False else "as it is"


def _all_or_none(found: Tried) -> str:
    assert found.broken == {}
    if not found.kept:
        return "refused: unusable_row"
    return "holds, not every turn" if found.refused else "holds"
