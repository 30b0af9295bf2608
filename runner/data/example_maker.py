"""Rows to labelled examples: the one path that training, evaluation and preview share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.chat_template import (
    ChatTemplate,
    RenderedConversation,
    render_conversation,
    resolve_chat_template,
)
from runner.data.formats import RowFormat, row_format
from runner.data.labelled_rows import LabelledRows
from runner.data.padding import refuse_padding_that_ends
from runner.data.row_faults import RowFaults
from runner.data.row_template import RowError
from runner.data.tokenization import (
    TokenizedConversation,
    label,
    supervise_all,
    tokenize,
    truncate,
)
from runner.digests import digest_of_json
from runner.recipe import Recipe, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeExamples:
    """The examples of a batch of rows. ``too_long`` and ``truncated`` are (row, tokens) pairs.

    A row that was too long is not among ``labelled``; neither is a row that has a fault.
    """

    labelled: LabelledRows
    too_long: tuple[tuple[int, int], ...]
    truncated: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class ExampleMaker:
    """Makes examples as one recipe says, batch after batch; counts what is worth a note."""

    row_format: RowFormat
    template: Template
    chat: ChatTemplate
    tokenizer: PreTrainedTokenizerBase
    template_digest: str
    faults: RowFaults = field(default_factory=RowFaults)
    cut: int = 0
    trimmed: int = 0
    empty: int = 0

    def make(self, numbers: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> MadeExamples:
        """Examples of ``rows``, whose row numbers in the source are ``numbers``.

        A row that cannot be rendered goes into ``faults``.
        """
        rendered = [
            (n, r) for n, row in zip(numbers, rows, strict=True) if (r := self._render(n, row))
        ]
        tokenized = tokenize(self.tokenizer, [conversation for _, conversation in rendered])
        kept: list[tuple[int, TokenizedConversation]] = []
        too_long, truncated = [], []
        for (number, _), conversation in zip(rendered, tokenized, strict=True):
            length = len(conversation.input_ids)
            fitted = self._fit(conversation)
            if fitted is None:
                too_long.append((number, length))
                continue
            if fitted is not conversation:
                truncated.append((number, length))
            self.cut += fitted.cut
            kept.append((number, fitted))
        return MadeExamples(
            labelled=self._label(kept), too_long=tuple(too_long), truncated=tuple(truncated)
        )

    def _render(self, number: int, row: Mapping[str, Any]) -> RenderedConversation | None:
        try:
            conversation = self.row_format.conversation(row)
            rendered = render_conversation(
                self.tokenizer, self.chat, conversation, loss_on=self.template.loss_on
            )
        except RowError as error:
            self.faults.add(str(error), f"row {number}")
            return None
        self.trimmed += rendered.trimmed
        self.empty += not rendered.answers[-1].text.strip()
        return rendered

    def _fit(self, conversation: TokenizedConversation) -> TokenizedConversation | None:
        if len(conversation.input_ids) <= self.template.max_length:
            return conversation
        if self.template.too_long != "truncate":
            return None
        return truncate(self.tokenizer, conversation, self.template.max_length)

    def _label(self, kept: Sequence[tuple[int, TokenizedConversation]]) -> LabelledRows:
        conversations = [conversation for _, conversation in kept]
        if self.template.loss_on == "all":
            conversations = [supervise_all(self.tokenizer, c) for c in conversations]
        return label([number for number, _ in kept], conversations)

    def notes(self) -> tuple[str, ...]:
        """What a reader of the run should know about its text, in sentences."""
        counted = (
            (self.cut, "whose text is tokenized in pieces, cut where the generation prompt ends"),
            (self.trimmed, "with an answer whose outer white space the chat template trims"),
            (self.empty, "with an answer that has no visible character"),
        )
        return (
            *(f"rows {what}: {count:,}" for count, what in counted if count),
            *template_notes(self.chat, self.tokenizer),
        )


def example_maker(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, base_folder: Path
) -> ExampleMaker:
    """The maker for a recipe.

    Raises:
        DataError: its templates are broken, its format is unknown, or its padding token is the
            token that stops an answer.
    """
    made = row_format(recipe.dataset.format, recipe.dataset.columns, recipe.template)
    chat = resolve_chat_template(recipe.template, tokenizer, base_folder)
    if tokenizer.pad_token is not None:
        refuse_padding_that_ends(tokenizer, tokenizer.pad_token, {chat.stop_token})
    template = recipe.template.model_dump(mode="json", exclude={"chat"})
    parts = {"chat": chat.digest, "template": template, "format": recipe.dataset.format}
    return ExampleMaker(
        row_format=made,
        template=recipe.template,
        chat=chat,
        tokenizer=tokenizer,
        template_digest=digest_of_json(parts),
    )


def template_notes(chat: ChatTemplate, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What is unusual, though not wrong, about a chat template with this tokenizer."""
    notes = []
    if tokenizer.eos_token is not None and chat.stop_token != tokenizer.eos_token:
        notes.append(
            f"the chat template ends an answer with {chat.stop_token!r}, the tokenizer's end token "
            f"is {tokenizer.eos_token!r}: generation stops at either"
        )
    if chat.renders_date:
        notes.append(
            "the chat template can render the day's date: the text is that of the day "
            "on which it was prepared"
        )
    if chat.bos_token_id is not None and _adds_bos(tokenizer) and not chat.writes_bos:
        notes.append(
            f"the tokenizer begins plain text with {chat.bos_token!r}, the chat template does not: "
            "examples and prompts have none"
        )
    return notes


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    ids: list[int] = tokenizer("a")["input_ids"]
    return bool(ids[0] == tokenizer.bos_token_id)
