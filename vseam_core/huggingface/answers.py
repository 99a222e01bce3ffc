"""Finds the token ids by which two answers are told apart after a prompt (the `claims` protocol), checked by decoding again.

tokens(prompt + separator + answer) minus tokens(prompt), so that leading spaces and digits come out as the model would write
them; surface variants ("Yes", "yes") are combined; the place of reading is where gold and competitor first differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vseam_core.api.interventions import AnswerIds
from vseam_core.errors import SampleError


@dataclass(frozen=True)
class AnswerReader:
    """Reads answers after one prompt: `text` as written (the image placeholder not expanded) and its answer separator.

    `special_ids` are the control tokens, which no answer may contain.
    """

    tokenizer: Any
    text: str
    separator: str
    special_ids: frozenset[int]

    def answer_ids(self, gold: str, competitor: str | None) -> AnswerIds:
        """The ids of both answers where they first differ, and the prefix they share before it.

        Raises `SampleError` where an answer is empty or unknown to the vocabulary, where both are the same, where one begins
        with the other, or where one of them opens with a token of white space where the other does not.
        """
        gold_forms = self._forms(gold)
        published, gold_main = self._published(gold_forms), _shortest(gold_forms)
        variants = self._variants(gold_forms, published)
        if competitor is None:
            prefix = gold_main[: self._first_visible(gold_main)]
            return AnswerIds(tuple(self._read(gold_forms, prefix)), (), published, prefix, variants)
        other_forms = self._forms(competitor)
        prefix = self._shared_prefix(gold, gold_main, competitor, _shortest(other_forms))
        gold_ids, other_ids = self._read(gold_forms, prefix), self._read(other_forms, prefix)
        # A token that begins a variant of both answers tells them apart no more than it tells either from the rest.
        ambiguous = set(gold_ids) & set(other_ids)
        gold_ids = [token for token in gold_ids if token not in ambiguous]
        other_ids = [token for token in other_ids if token not in ambiguous]
        if not gold_ids or not other_ids:
            raise SampleError(f"no token tells the answers {gold!r} and {competitor!r} apart: they begin alike or with white space")
        return AnswerIds(tuple(gold_ids), tuple(other_ids), published, prefix, variants)

    def tokens(self, answer: str) -> tuple[int, ...]:
        """The ids of the whole answer as given (in another case where the vocabulary has it only so). Raises `SampleError`."""
        return self._forms(answer)[0][1]

    def _forms(self, answer: str) -> list[tuple[str, tuple[int, ...]]]:
        """The surface variants that the vocabulary can write, as (text, continuation ids), the answer as given first."""
        if not answer.strip():
            raise SampleError("the answer is empty")
        forms = [(form, self._continuation(form)) for form in _surface_variants(answer.strip())]
        known = [(form, ids) for form, ids in forms if ids is not None]
        if not known:
            raise SampleError(f"the answer {answer!r} cannot be written in this model's vocabulary")
        return known

    def _continuation(self, answer: str) -> tuple[int, ...] | None:
        """tokens(prompt + separator + answer) minus tokens(prompt), or None where that is not exactly the answer."""
        prompt = self._tokenise(self.text)
        whole = self._tokenise(self.text + self.separator + answer)
        ids = whole[len(prompt) :]
        if whole[: len(prompt)] != prompt or not ids:
            return None
        return ids if self._spells(ids, answer) else None

    def _spells(self, ids: tuple[int, ...], answer: str) -> bool:
        """Whether ids hold no unknown or control token and decode to the answer again (white space and case aside)."""
        if self.tokenizer.unk_token_id in ids or not self.special_ids.isdisjoint(ids):
            return False
        return _bare(self.tokenizer.decode(list(ids))) == _bare(answer)

    def _published(self, forms: list[tuple[str, tuple[int, ...]]]) -> tuple[int, ...]:
        """The ids of the answer alone, as the published scripts read them (of its first form that the vocabulary knows)."""
        for form, _ in forms:
            ids = self._tokenise(form)
            if self._spells(ids, form):
                return ids
        raise SampleError(f"the answer {forms[0][0]!r} cannot be tokenised on its own")

    def _variants(self, forms: list[tuple[str, tuple[int, ...]]], published: tuple[int, ...]) -> tuple[int, ...]:
        """The one-token ids of an answer's other writings, where the answer as published is one token too."""
        alone = [self._tokenise(form) for form, _ in forms] if len(published) == 1 else []
        return tuple(dict.fromkeys(ids[0] for ids in alone if len(ids) == 1 and ids != published))

    def _first_visible(self, ids: tuple[int, ...]) -> int:
        """Index of the first token that writes anything: some vocabularies open a digit with a token of white space."""
        return next((index for index, token in enumerate(ids) if self._is_visible(token)), 0)

    def _is_visible(self, token: int) -> bool:
        return bool(self.tokenizer.decode([token]).strip())

    def _shared_prefix(self, gold: str, first: tuple[int, ...], competitor: str, second: tuple[int, ...]) -> tuple[int, ...]:
        if first == second:
            raise SampleError(f"the answers {gold!r} and {competitor!r} have the same token ids")
        shared = min(len(first), len(second))
        place = next((index for index in range(shared) if first[index] != second[index]), None)
        if place is None:
            raise SampleError(f"one of the answers {gold!r} and {competitor!r} begins with the other: nothing tells them apart")
        return first[:place]

    def _read(self, forms: list[tuple[str, tuple[int, ...]]], prefix: tuple[int, ...]) -> list[int]:
        """The token of each variant after the shared prefix.

        A variant split into more pieces than the shortest one is left out: its first piece begins many words. So is a token of
        white space alone, which begins every answer of its kind.
        """
        place, longest = len(prefix), len(_shortest(forms))
        tokens = [ids[place] for _, ids in forms if ids[:place] == prefix and place < len(ids) <= longest]
        return [token for token in dict.fromkeys(tokens) if self._is_visible(token)]

    def _tokenise(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _surface_variants(answer: str) -> list[str]:
    """The ways in which an answer may be written, as given first."""
    forms = [answer, answer.lower(), answer[:1].upper() + answer[1:], answer[:1].upper() + answer[1:].lower()]
    return [form for form in dict.fromkeys(forms) if len(form) == len(answer)]  # a letter such as ß grows when it is raised


def _shortest(forms: list[tuple[str, tuple[int, ...]]]) -> tuple[int, ...]:
    """The form of the fewest tokens (the answer as given where several are as short): how the vocabulary means it."""
    return min((ids for _, ids in forms), key=len)


def _bare(text: str) -> str:
    return "".join(text.split()).lower()
