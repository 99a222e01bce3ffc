"""Answer rules of the benchmarks, as their authors publish them: POPE's yes or no, VQA accuracy with its normalisation."""

from __future__ import annotations

import re
from collections.abc import Sequence

_OTHER = {"yes": "no", "no": "yes"}


def other_word(answer: str) -> str | None:
    """The other answer of a yes/no question, written as the answer is; None for any other answer."""
    other = _OTHER.get(answer.strip().lower())
    if other is None:
        return None
    text = answer.strip()
    return other.upper() if text.isupper() and len(text) > 1 else other.capitalize() if text[0].isupper() else other


def pope_official(text: str) -> str:
    """POPE's own reading of an answer: of the first sentence, "no" where it holds No, no or not as a word, else "yes"."""
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def yes_or_no(text: str) -> str | None:
    """A strict reading: the answer's first word if it is yes or no, else None."""
    words = re.findall(r"[A-Za-z]+", text.lower())
    return words[0] if words and words[0] in _OTHER else None


def vqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """VQA accuracy (Antol et al. 2015, official evaluation code): the mean over leave-one-out sets of min(matches / 3, 1).

    As in the official code, punctuation, number words and articles are normalised only where the references differ among themselves.
    """
    if not references:
        return 0.0
    given = answer.replace("\n", " ").replace("\t", " ").strip()
    wanted = [reference.replace("\n", " ").replace("\t", " ").strip() for reference in references]
    if len(set(wanted)) > 1:
        given, wanted = normalise_vqa(given), [normalise_punctuation(reference) for reference in wanted]
    marks = []
    for left_out in range(len(wanted)):
        others = wanted[:left_out] + wanted[left_out + 1 :]
        marks.append(min(1.0, sum(other == given for other in others) / 3))
    return sum(marks) / len(marks)


def normalise_vqa(text: str) -> str:
    """An answer by the official VQA rules: punctuation, then number words, articles and contractions, in lower case."""
    words = []
    for word in normalise_punctuation(text).lower().split():
        word = _NUMBERS.get(word, word)
        if word not in _ARTICLES:
            words.append(_CONTRACTIONS.get(word, word))
    return " ".join(words)


def normalise_punctuation(text: str) -> str:
    """The official treatment of punctuation: removed where it stands beside a space or in a number, else turned into a space."""
    result = text
    for mark in _PUNCTUATION:
        if f"{mark} " in text or f" {mark}" in text or re.search(r"(\d)(,)(\d)", text):
            result = result.replace(mark, "")
        else:
            result = result.replace(mark, " ")
    # The official code passes re.UNICODE as the count of `sub`: at most 32 full stops are stripped.
    return re.sub(r"(?!<=\d)(\.)(?!\d)", "", result, count=32)


_PUNCTUATION = (";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!")
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10",
}  # fmt: skip
_CONTRACTED = [
    "ain't", "aren't", "can't", "could've", "couldn't", "couldn't've", "didn't", "doesn't", "don't", "hadn't", "hadn't've", "hasn't",
    "haven't", "he'd", "he'd've", "he's", "how'd", "how'll", "how's", "isn't", "it'd", "it'd've", "it'll", "let's", "ma'am", "mightn't",
    "mightn't've", "might've", "mustn't", "must've", "needn't", "not've", "o'clock", "oughtn't", "shan't", "she'd've", "she's",
    "should've", "shouldn't", "shouldn't've", "somebody'd", "somebody'll", "somebody's", "someone'll", "someone's", "something'd",
    "something'll", "that'd've", "that's", "there'd", "there'd've", "there're", "there's", "they'd", "they'd've", "they'll", "they're",
    "they've", "'twas", "wasn't", "we'd've", "we've", "weren't", "what'll", "what're", "what's", "what've", "when's", "where'd",
    "where's", "where've", "who'd", "who'd've", "who'll", "who's", "who've", "why'll", "why're", "why's", "won't", "would've", "wouldn't",
    "wouldn't've", "y'all", "y'all'll", "y'all'd've", "you'd", "you'd've", "you'll", "you're", "you've",
]  # fmt: skip
# Words are in lower case by then: the official entries with a capital I never apply, and are left out.
_CONTRACTIONS = {word.replace("'", ""): word for word in _CONTRACTED}
_CONTRACTIONS |= {
    "couldn'tve": "couldn't've", "couldnt've": "couldn't've", "hadnt've": "hadn't've", "hadn'tve": "hadn't've", "hed've": "he'd've",
    "he'dve": "he'd've", "itd've": "it'd've", "it'dve": "it'd've", "mightnt've": "mightn't've",
    "mightn'tve": "mightn't've", "shed've": "she'd've", "she'dve": "she'd've", "shouldnt've": "shouldn't've",
    "shouldn'tve": "shouldn't've", "somebody'd": "somebodyd", "someoned've": "someone'd've", "someone'dve": "someone'd've",
    "something'dve": "something'd've", "somethingd've": "something'd've", "thatd've": "that'd've", "that'dve": "that'd've",
    "thered've": "there'd've", "there'dve": "there'd've", "theyd've": "they'd've", "they'dve": "they'd've", "wed've": "we'd've",
    "we'dve": "we'd've", "whod've": "who'd've", "who'dve": "who'd've", "wouldnt've": "wouldn't've", "wouldn'tve": "wouldn't've",
    "yall'll": "y'all'll", "y'allll": "y'all'll", "yall'd've": "y'all'd've", "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've",
    "youd've": "you'd've", "you'dve": "you'd've",
}  # fmt: skip
