"""What a free answer says: yes or no, or which letter, by the rule that a name chooses (`--judge`).

Two evaluation harnesses and their common rules were read in their public code and written again here: lmms-eval (revision 161c7a1) and
VLMEvalKit (`vlmeval/utils/matching_util.py` as released; one stored revision, 134b4ea, has the comparison with the last five words turned
round, which is not followed). Both ask a language model where their rules find nothing; here such an answer is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from vseam_core.datasets.answers import normal_answer
from vseam_core.datasets.vqa_accuracy import normalise_punctuation

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OFFICIAL = "official"
YesNoRule = Callable[[str], str | None]
ChoiceRule = Callable[[str, Sequence[str]], str | None]


def letter_or_text(answer: str, options: Sequence[str]) -> str | None:
    """The option that an answer means, None where it means none or several.

    In this order: the whole answer is an option's text; it begins with a letter ("B", "(b)", "B. blue", "B) …"); it says which ("the answer
    is B", "option (B)"); one letter stands in brackets or stars; one option's letter stands alone as a word; one option's
    text stands in it as whole words. "A" before a word is an article, "I" a pronoun.
    """
    letters = LETTERS[: len(options)]
    by_text = [letter for letter, option in zip(letters, options, strict=True) if normal_answer(option) == normal_answer(answer)]
    if by_text:
        return by_text[0]
    text = answer.strip()
    found = re.match(rf"[(\[*\s'\"]*([{letters}{letters.lower()}])(?:\s*[)\].:,!*'\"]|\s*$)", text)
    if found:
        return found[1].upper()
    for pattern in (_SAID, _MARKED, _ALONE):
        said = {match[1].upper() for match in re.finditer(pattern.format(letters=letters, small=letters.lower()), text)}
        if said:
            return said.pop() if len(said) == 1 else None
    named = [letter for letter, option in zip(letters, options, strict=True) if _stands_in(option, text)]
    return named[0] if len(named) == 1 else None


# A small letter only at the end of a sentence: "the answer is a bear" says no letter.
_SAID = r"(?i:\b(?:answer|option|choice)(?:\s+is)?\s*:?)\s*[(\[*]*((?:[{letters}]\b(?!')(?!\s+[a-z])|[{small}](?=\s*(?:[)\].,*]|$))))"
_MARKED = r"[(\[*]([{letters}])[)\]*]"
# As a word of its own: not the article before a noun, nor the pronoun, nor half of "A-frame".
_ALONE = r"(?<![\w'-])(?!A\s+(?!(?:and|or|nor|is|because|since)\b)[a-z]|I\s+[a-z])([{letters}])(?![\w'-])"


def _stands_in(option: str, text: str) -> bool:
    """Whether an option's words stand in a text."""
    words = option.strip().rstrip(".").strip()
    return bool(words) and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def first_letter(answer: str, options: Sequence[str]) -> str | None:
    """The first character, where it is an option's letter (SEED-Bench as lmms-eval reads it)."""
    first = answer.strip()[:1]
    return first if first and first in LETTERS[: len(options)] else None


def bare_letter(answer: str, options: Sequence[str]) -> str | None:
    """The answer is a letter, or begins with a capital and a full stop (ScienceQA as LLaVA and lmms-eval read it)."""
    found = answer if len(answer) == 1 else answer[0] if len(answer) > 1 and answer[0].isupper() and answer[1] == "." else ""
    return found if found and found in LETTERS[: len(options)] else None


def leading_letter(answer: str, options: Sequence[str]) -> str | None:
    """The first letter after brackets and spaces, whatever follows it (CV-Bench as lmms-eval reads it: "Blue" is B)."""
    found = re.match(r"[(\s]*([A-Za-z])", answer.strip())
    return found[1].upper() if found and found[1].upper() in LETTERS[: len(options)] else None


def mmstar_letter(answer: str, options: Sequence[str]) -> str | None:
    """The character that opens the answer, or stands after "(", "option " or "the answer is " (MMStar's own rule, whatever the case)."""
    text = answer.lower().strip()
    letters = LETTERS[: len(options)].lower()
    places = [0, *(len(opening) for opening in ("(", "option ", "the answer is ") if text.startswith(opening))]
    return next((text[place].upper() for place in places if place < len(text) and text[place] in letters), None)


def mmbench_prefetch(answer: str, options: Sequence[str]) -> str | None:
    """The rule that lmms-eval tries before it asks a language model about MMBench (there without a bound on the letters: A to E).

    One letter as a word (no "A" among more than three words), then one with its usual punctuation, then one option's text anywhere.
    """
    words = answer.split()
    letters = LETTERS[: max(5, len(options))]
    alone = [letter for letter in letters if letter in words]
    if len(alone) == 1 and not ("A" in words and len(words) > 3):
        return alone[0]
    for before, after in _PUNCTUATED:
        marked = [letter for letter in letters if f"{before}{letter}{after}" in words]
        if len(marked) == 1:
            return marked[0]
    return _only_text_in(answer, options)


_PUNCTUATED = (
    ("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"), ("(", ")."),
    (":", ""), (":", ","), (":", "."), (":", ")"), (":", ")."),
)  # fmt: skip


def vlmevalkit_choice(answer: str, options: Sequence[str]) -> str | None:
    """VLMEvalKit's rule: with punctuation taken out, one letter as a word among the last five; else one option's text anywhere.

    A text is not looked for in an answer that is more than twice as long as all options. A refusal is no option.
    """
    if any(refusal in answer for refusal in _REFUSALS):
        return None
    words = answer.translate(_NO_PUNCTUATION).split()
    alone = [letter for letter in LETTERS[: len(options)] if letter in words]
    if len(alone) == 1 and words.index(alone[0]) > len(words) - 5:
        return alone[0]
    if not alone and "Z" in words:  # its word for none of them
        return None
    return None if len(answer) > 2 * sum(map(len, options)) else _only_text_in(answer, options)


_REFUSALS = (
    "Failed to obtain answer via API", "Sorry, I can't help with images of people yet.", "I can't process this file.",
    "I'm sorry, but without the image provided", "Cannot determine the answer",
)  # fmt: skip
_NO_PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))


def _only_text_in(answer: str, options: Sequence[str]) -> str | None:
    """The one option whose text is part of the answer, also of a longer word."""
    found = [letter for letter, option in zip(LETTERS, options, strict=False) if option.lower() in answer.lower()]
    return found[0] if len(found) == 1 else None


def pope_official(text: str) -> str:
    """POPE's own reading of an answer: of the first sentence, "no" where it holds No, no or not as a word, else "yes"."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def yes_or_no(text: str) -> str | None:
    """A strict reading: the answer's first word if it is yes or no, else None."""
    words = re.findall(r"[A-Za-z]+", text.lower())
    return words[0] if words and words[0] in ("yes", "no") else None


def lmms_yes_no(answer: str) -> str | None:
    """lmms-eval's reading of MME: yes or no anywhere in the first four characters, full stops aside ("none" and "now" are no), or y, n."""
    text = answer.lower().strip().replace(".", "")
    if len(text) == 1:
        return {"y": "yes", "n": "no"}.get(text)
    start = text[:4]
    return "yes" if "yes" in start else "no" if "no" in start else None


def only_yes_no(answer: str) -> str | None:
    """The word itself and nothing else (POPE as lmms-eval reads it)."""
    word = answer.lower().strip()
    return word if word in ("yes", "no") else None


def vlmevalkit_yes_no(answer: str) -> str | None:
    """VLMEvalKit's reading: yes or no stands among the words, and not both."""
    words = normalise_punctuation(answer.lower()).split()
    said = [word for word in ("yes", "no") if word in words]
    return said[0] if len(said) == 1 else None


def first_yes_no(answer: str) -> str | None:
    """Whichever of the words yes and no comes first (NaturalBench's own rule)."""
    found = re.search(r"\b(yes|no)\b", answer, re.IGNORECASE)
    return found[1].lower() if found else None


YES_NO_RULES: Mapping[str, YesNoRule] = {
    "strict": yes_or_no, "pope": pope_official, "lmms-eval": lmms_yes_no, "vlmevalkit": vlmevalkit_yes_no,
}  # fmt: skip
CHOICE_RULES: Mapping[str, ChoiceRule] = {
    OFFICIAL: letter_or_text, "strict": bare_letter, "lmms-eval": mmbench_prefetch, "vlmevalkit": vlmevalkit_choice,
}  # fmt: skip
