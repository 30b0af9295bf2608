"""Writes docs/chat-templates.md from trials: python docs/make_chat_templates.py."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "chat-templates.md"
INTRODUCTION = """# Chat templates

What becomes of every chat template that TRL {trl} ships, each tried with conversations of one, two
and five turns, with and without a system turn, and a tokenizer made for the trial. Made by
`python docs/make_chat_templates.py`; a test holds it equal.

- *completion*, *assistant_turns*: with this `template.loss_on`, either the label contract holds on
  every conversation, or the template (or some of the rows) is refused, by the rule of
  `dataset.violations` that it would break.
- *thinking*: how an answer without reasoning is rendered where `template.thinking` is not set.
  *off*: with `enable_thinking` false; the model would else have to write an empty thinking block.
  *writes …*: the model writes this before every answer; it is supervised, and a generated answer
  begins after it.
- *reasoning*: rows with `reasoning_content`; thinking block and answer are supervised.
- *tool calls*: rows with `tools`, `tool_calls` and a `tool` turn; with *assistant_turns*, the call
  is supervised too.

A template is refused as a whole where the generation prompt is not how the training text begins
(`prompt_prefix`), where no special token of the tokenizer ends an answer (`stop_token`), or where
it does not render texts, as those made for images (`unusable_row`).

| template | completion | assistant_turns | thinking | reasoning | tool calls |
| --- | --- | --- | --- | --- | --- |
"""


def chat_templates_markdown() -> str:
    """The table, one row a template."""
    sys.path.insert(0, str(ROOT))
    from tests.runner.data.labels.trl_templates import NAMES, outcome

    keys = ("completion", "assistant_turns", "thinking", "reasoning", "tools")
    lines = []
    for name in NAMES:
        found = outcome(name)
        cells = (found[key].replace("|", "\\|") for key in keys)
        lines.append(f"| {' | '.join([name, *cells])} |\n")
    return INTRODUCTION.format(trl=version("trl")) + "".join(lines)


if __name__ == "__main__":
    TARGET.write_text(chat_templates_markdown(), encoding="utf-8")
