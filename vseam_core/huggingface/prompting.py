"""Prompt templates, and what each token of an encoded prompt is: image, structure, question, template, and its role.

Positions are found from the ids and the model's own image token, never from a constant. Words are found by the tokenizer's
character offsets in the prompt as written; the processor's expansion of the image placeholder is aligned with it.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from vseam_core.api.prompts import PositionClass
from vseam_core.api.types import RoleSpan
from vseam_core.errors import SampleError, UnsupportedError, VseamError

QUESTION = "{question}"
_SENTINEL = "WHERETHEQUESTIONSTANDS"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptTemplate:
    """The text around a question, the image placeholder included where the family's processor wants one."""

    before: str
    after: str

    @classmethod
    def parse(cls, text: str) -> PromptTemplate:
        """Read a template with one `{question}` in it. Raises `VseamError`."""
        if text.count(QUESTION) != 1:
            raise VseamError(f"prompt_template {text!r} must contain {QUESTION} exactly once")
        before, _, after = text.partition(QUESTION)
        return cls(before, after)

    def as_chat_template(self) -> str:
        """The same text as a Jinja chat template of one message: an image and a question."""
        before, after = json.dumps(self.before), json.dumps(self.after)
        text = f"{{{{ {before} }}}}{{{{ part['text'] }}}}{{{{ {after} }}}}"
        parts = f"{{% for part in message['content'] if part['type'] == 'text' %}}{text}{{% endfor %}}"
        return f"{{% for message in messages %}}{parts}{{% endfor %}}"

    def around(self, instruction: str) -> PromptTemplate:
        """The template with an instruction (a text with one `{question}`) where the question stood. Raises `VseamError`."""
        inner = PromptTemplate.parse(instruction)
        return PromptTemplate(self.before + inner.before, inner.after + self.after)

    def fill(self, question: str) -> str:
        return f"{self.before}{question}{self.after}"


def chat_template(processor: Any) -> str | None:
    """The processor's own chat template for one image and one question, or None where it has none that can be used."""
    if getattr(processor, "chat_template", None) is None:
        return None
    content = [{"type": "image"}, {"type": "text", "text": _SENTINEL}]
    try:
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a Jinja template is a program of the checkpoint's: it may raise anything
        raise VseamError(f"the checkpoint's chat template fails ({error}); give the option prompt_template") from error
    if text.count(_SENTINEL) != 1:
        _log.warning("the checkpoint's chat template is not used: it writes the question %d times, not once", text.count(_SENTINEL))
        return None
    return text.replace(_SENTINEL, QUESTION)


def default_separator(text: str, special_tokens: Collection[str]) -> str:
    """What stands between a prompt and its answer: a space, unless the prompt ends in white space or a control token."""
    return "" if text[-1:].isspace() or text.endswith(tuple(special_tokens)) else " "


@dataclass(frozen=True)
class WrittenPrompt:
    """A prompt as written, before the processor expands its image placeholder: ids and character offsets of the tokens."""

    text: str
    question: str
    question_start: int
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    @property
    def question_span(self) -> tuple[int, int]:
        return self.question_start, self.question_start + len(self.question)

    def overlapping(self, start: int, end: int) -> list[int]:
        """Indices of the tokens that share a character with `[start, end)` of the text."""
        return [index for index, (left, right) in enumerate(self.offsets) if left < end and start < right]


def write_prompt(tokenizer: Any, template: PromptTemplate, question: str) -> WrittenPrompt:
    """Fill a template and tokenise it with offsets, special tokens as the family adds them."""
    text = template.fill(question)
    encoded = tokenizer(text, add_special_tokens=adds_special_tokens(tokenizer, text), return_offsets_mapping=True)
    offsets = tuple((int(start), int(end)) for start, end in encoded["offset_mapping"])
    return WrittenPrompt(text, question, len(template.before), tuple(encoded["input_ids"]), offsets)


def adds_special_tokens(tokenizer: Any, text: str) -> bool:
    """Whether the tokenizer should add its special tokens: not where a chat template has already written BOS."""
    return not (tokenizer.bos_token and text.startswith(tokenizer.bos_token))


def align(ids: Sequence[int], written: WrittenPrompt) -> list[int | None]:
    """For each position, the written token it comes from, or None where the processor put it there (image, markers).

    Raises `UnsupportedError` where the question's tokens are not found as written: then no word could be located.
    """
    needed = set(written.overlapping(*written.question_span))
    origins = _match_ends(ids, written.ids)
    if not needed <= set(origins):
        origins = _match_longest_block(ids, written.ids)
    if not needed <= set(origins):
        raise UnsupportedError("the processor rewrites the question: its tokens cannot be located in the prompt")
    return origins


def _match_ends(ids: Sequence[int], written: Sequence[int]) -> list[int | None]:
    """Match from both ends: what the processor inserted lies between."""
    limit = min(len(ids), len(written))
    head = next((index for index in range(limit) if ids[index] != written[index]), limit)
    room = limit - head
    tail = next((index for index in range(room) if ids[-1 - index] != written[-1 - index]), room)
    inserted = len(ids) - head - tail
    return [*range(head), *[None] * inserted, *range(len(written) - tail, len(written))]


def _match_longest_block(ids: Sequence[int], written: Sequence[int]) -> list[int | None]:
    """Match the longest common run (a processor that adds tokens at both ends, as PaliGemma's)."""
    block = difflib.SequenceMatcher(None, list(ids), list(written), autojunk=False).find_longest_match()
    origins: list[int | None] = [None] * len(ids)
    origins[block.a : block.a + block.size] = range(block.b, block.b + block.size)
    return origins


def classify(
    ids: Sequence[int],
    origins: Sequence[int | None],
    written: WrittenPrompt,
    *,
    image_id: int | None,
    bos_id: int | None,
    special_ids: Collection[int],
    appended: int = 0,
) -> tuple[PositionClass, ...]:
    """The class of every position.

    Structural are BOS, every marker that the processor inserted, and the special tokens adjacent to the image (its start and end
    markers); other control tokens, such as the turns of a chat, belong to the template, and so do the `appended` tokens of an
    answer prefix.
    """
    image = [index for index, token in enumerate(ids) if token == image_id]
    first, last = (image[0], image[-1]) if image else (len(ids), -1)
    structural = set(_adjacent(ids, first, last, special_ids)) if image else set()
    question = set(written.overlapping(*written.question_span))
    prompt_length = len(ids) - appended
    classes: list[PositionClass] = []
    for index, (token, origin) in enumerate(zip(ids, origins, strict=True)):
        if token == image_id:
            classes.append("image")
        elif origin is not None and origin in question:
            classes.append("question")
        elif index >= prompt_length:
            classes.append("template")
        elif token == bos_id or origin is None or index in structural:
            classes.append("structural_before" if index < first else "structural_after")
        else:
            classes.append("template")
    classes[-1] = "last"
    return tuple(classes)


def _adjacent(ids: Sequence[int], first: int, last: int, special_ids: Collection[int]) -> list[int]:
    """Positions of special tokens that touch the image on either side, or lie between its parts."""
    found = [index for index in range(first, last) if ids[index] in special_ids]
    before = first - 1
    while before >= 0 and ids[before] in special_ids:
        found.append(before)
        before -= 1
    after = last + 1
    while after < len(ids) and ids[after] in special_ids:
        found.append(after)
        after += 1
    return found


def assign_roles(origins: Sequence[int | None], written: WrittenPrompt, roles: Sequence[RoleSpan]) -> tuple[str, ...]:
    """The role of every position, "" outside the named words; all sub-tokens of a word get its role.

    Where spans overlap, the first one named keeps its tokens. Raises `SampleError` for a span outside the question.
    """
    role_of: dict[int, str] = {}
    for span in roles:
        if not 0 <= span.start < span.end <= len(written.question):
            raise SampleError(
                f"role {span.role!r} names characters {span.start}–{span.end} of a question of {len(written.question)} characters"
            )
        start, end = _whole_words(written.question, span.start, span.end)
        for index in written.overlapping(written.question_start + start, written.question_start + end):
            role_of.setdefault(index, span.role)
    return tuple("" if origin is None else role_of.get(origin, "") for origin in origins)


def _whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Widen a span to the word boundaries around it, so that "dog" in "dogs" covers the word's last piece too."""
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end - 1].isalnum():
        end += 1
    return start, end


def unknown_words(tokenizer: Any, written: WrittenPrompt) -> tuple[str, ...]:
    """The pieces of the question that the vocabulary lacks, in order."""
    if tokenizer.unk_token_id is None:
        return ()
    spans = [written.offsets[index] for index in written.overlapping(*written.question_span)
             if written.ids[index] == tokenizer.unk_token_id]  # fmt: skip
    return tuple(written.text[start:end] for start, end in spans)
