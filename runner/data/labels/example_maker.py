"""Rows to labelled examples: the one path that training, evaluation and preview share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.formats.row_formats import RowFormat, row_format
from runner.data.labels.chat_template import ChatTemplate, begins_plain_text, resolve_chat_template
from runner.data.labels.labelled_rows import LabelledRows
from runner.data.labels.padding import refuse_padding_that_ends
from runner.data.labels.rendering import RenderedConversation, render_conversation
from runner.data.labels.special_tokens import SpecialTokenError
from runner.data.labels.text_encoder import TextEncoder
from runner.data.labels.thinking import AnswerStyle
from runner.data.labels.tokenization import (
    TokenizedConversation,
    label,
    supervise_all,
    tokenize,
    truncate,
)
from runner.data.reading.row_template import RowError
from runner.digests import digest_of_json
from runner.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRow:
    """A row that breaks a rule before it has tokens; ``detail`` says how."""

    row: int
    rule: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeExamples:
    """The examples of a batch of rows. ``too_long`` and ``truncated`` are (row, tokens) pairs.

    A row that was too long is not among ``labelled``; of the broken ones, only those with an empty
    answer are. ``counts`` is what ``ExampleMaker.notes`` makes sentences of; those of several
    batches are added up.
    """

    labelled: LabelledRows
    broken: tuple[BrokenRow, ...]
    too_long: tuple[tuple[int, int], ...]
    truncated: tuple[tuple[int, int], ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleMaker:
    """Makes examples as one recipe says, batch after batch.

    It may be sent to other processes: what is sent is recipe, tokenizer and chat template, and it
    is made anew from them.
    """

    recipe: Recipe
    format_name: str
    row_format: RowFormat
    chat: ChatTemplate
    tokenizer: PreTrainedTokenizerBase
    template_digest: str
    encoder: TextEncoder = field(repr=False)

    def __reduce__(self) -> tuple[Callable[..., ExampleMaker], tuple[object, ...]]:
        """How it is sent to another process."""
        return _assembled, (self.recipe, self.tokenizer, self.chat, self.format_name)

    def make(self, numbers: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> MadeExamples:
        """Examples of ``rows``, whose row numbers in the source are ``numbers``."""
        batch = _Batch(self)
        for number, row in zip(numbers, rows, strict=True):
            batch.render(number, row)
        return batch.made()

    def notes(self, counts: Mapping[str, int]) -> tuple[str, ...]:
        """What a reader of the run should know about its text, in sentences."""
        counted = (
            ("cut", "whose text is tokenized in pieces, cut where the generation prompt ends"),
            ("trimmed", "with an answer whose outer white space the chat template trims"),
            ("escaped", "with a special token's name in their text, kept as text"),
            ("reasoned", "with reasoning before the answer, which is supervised with it"),
        )
        return (
            *(f"rows {what}: {counts[key]:,}" for key, what in counted if counts.get(key)),
            *template_notes(
                self.chat, self.tokenizer, chosen=self.recipe.template.thinking is None
            ),
        )


@dataclass(slots=True)
class _Batch:
    """One batch on its way from rows to labels."""

    maker: ExampleMaker
    rendered: list[tuple[int, RenderedConversation]] = field(default_factory=list)
    broken: list[BrokenRow] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def render(self, number: int, row: Mapping[str, Any]) -> None:
        """Add a row; one that cannot be rendered goes into ``broken``."""
        recipe = self.maker.recipe
        escape = recipe.dataset.violations.special_token_in_text == "escape"
        try:
            rendered = render_conversation(
                self.maker.chat,
                self.maker.row_format.conversation(row),
                loss_on=recipe.template.loss_on,
                escape=escape,
            )
            if rendered.escaped:  # in the rare row that cannot be escaped, encoding raises
                tokenize(self.maker.encoder, [rendered])
        except RowError as error:
            special = isinstance(error, SpecialTokenError)
            rule = "special_token_in_text" if special else "unusable_row"
            self.broken.append(BrokenRow(row=number, rule=rule, detail=str(error)))
            return
        self.rendered.append((number, rendered))
        self.counts["trimmed"] += rendered.trimmed
        self.counts["escaped"] += bool(rendered.escaped)
        self.counts["reasoned"] += rendered.reasoned
        empty = _empty_answer(rendered)
        if empty is not None:
            self.broken.append(BrokenRow(row=number, rule="empty_answer", detail=empty))

    def made(self) -> MadeExamples:
        """The examples of all rows that were rendered and fit."""
        tokenized = tokenize(self.maker.encoder, [rendered for _, rendered in self.rendered])
        kept: list[tuple[int, TokenizedConversation]] = []
        too_long, truncated = [], []
        for (number, _), conversation in zip(self.rendered, tokenized, strict=True):
            length = len(conversation.input_ids)
            fitted = self._fit(conversation)
            if fitted is None:
                too_long.append((number, length))
                continue
            if fitted is not conversation:
                truncated.append((number, length))
            self.counts["cut"] += fitted.cut and not fitted.rendered.escaped
            kept.append((number, fitted))
        return MadeExamples(
            labelled=self._label(kept),
            broken=tuple(self.broken),
            too_long=tuple(too_long),
            truncated=tuple(truncated),
            counts=dict(self.counts),
        )

    def _fit(self, conversation: TokenizedConversation) -> TokenizedConversation | None:
        template = self.maker.recipe.template
        if len(conversation.input_ids) <= template.max_length:
            return conversation
        if template.too_long != "truncate":
            return None
        return truncate(self.maker.encoder, conversation, template.max_length)

    def _label(self, kept: Sequence[tuple[int, TokenizedConversation]]) -> LabelledRows:
        conversations = [conversation for _, conversation in kept]
        if self.maker.recipe.template.loss_on == "all":
            conversations = [supervise_all(self.maker.encoder, c) for c in conversations]
        return label([number for number, _ in kept], conversations)


def _empty_answer(rendered: RenderedConversation) -> str | None:
    """The first answer without a visible character, in words; None where there is none."""
    count = len(rendered.answers)
    for turn, answer in enumerate(rendered.answers, start=1):
        if not answer.text.strip():
            of_all = f" in turn {turn} of the {count} that are trained on" if count > 1 else ""
            return f"the answer is {answer.given!r}{of_all}"
    return None


def example_maker(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, base_folder: Path, *, format_name: str
) -> ExampleMaker:
    """The maker for a recipe whose rows have the format ``format_name``.

    Raises:
        DataError: its templates are broken, its format is unknown, or its padding token is the
            token that stops an answer.
    """
    # A whole text has no turns that a chat template could render.
    block = recipe.template
    block = block.model_copy(update={"chat": "none"}) if format_name == "text" else block
    chat = resolve_chat_template(block, tokenizer, base_folder)
    if tokenizer.pad_token is not None:
        for stop in chat.turn_stops:
            refuse_padding_that_ends(tokenizer, tokenizer.pad_token, {stop})
    return _assembled(recipe, tokenizer, chat, format_name)


def _assembled(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, chat: ChatTemplate, format_name: str
) -> ExampleMaker:
    parts = {
        "chat": chat.digest,
        "thinking": recipe.template.thinking,
        "template": recipe.template.model_dump(mode="json", exclude={"chat", "thinking"}),
        "format": format_name,
        "special": recipe.dataset.violations.special_token_in_text == "escape",
        "pad_token": tokenizer.pad_token if "pad_token" in chat.text else None,
    }
    return ExampleMaker(
        recipe=recipe,
        format_name=format_name,
        row_format=row_format(format_name, recipe.dataset.columns, recipe.template),
        chat=chat,
        tokenizer=tokenizer,
        template_digest=digest_of_json(parts),
        encoder=TextEncoder(tokenizer),
    )


def template_notes(
    chat: ChatTemplate, tokenizer: PreTrainedTokenizerBase, *, chosen: bool
) -> list[str]:
    """What is unusual, though not wrong, about a chat template with this tokenizer.

    ``chosen`` tells that the recipe left ``template.thinking`` open.
    """
    notes = []
    if tokenizer.eos_token is not None and chat.stop_token != tokenizer.eos_token:
        notes.append(
            f"the chat template ends an answer with {chat.stop_token!r}, the tokenizer's end token "
            f"is {tokenizer.eos_token!r}: generation stops at either"
        )
    if chosen and chat.thinking is False:
        notes.append(
            "answers without reasoning are rendered and asked for with thinking off: with it on, "
            "the model would have to write an empty thinking block (template.thinking decides)"
        )
    if isinstance(chat.plain, AnswerStyle) and chat.lead.strip():
        notes.append(f"the model writes {chat.lead!r} before every answer, which is supervised")
    if chat.renders_date:
        notes.append(
            "the chat template can render the day's date: the text is that of the day "
            "on which it was prepared"
        )
    if chat.bos_token_id is not None and begins_plain_text(tokenizer) and not chat.writes_bos:
        notes.append(
            f"the tokenizer begins plain text with {chat.bos_token!r}, the chat template does not: "
            "examples and prompts have none"
        )
    return notes
