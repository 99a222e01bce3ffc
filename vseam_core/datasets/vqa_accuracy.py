"""VQA accuracy with its normalisation, as the official code has it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vseam_core.datasets.answers import normal_answer

FEWEST_REFERENCES = 4
"""Of fewer human answers the official formula makes no sense: one "yes" would give the answer "yes" nothing."""


def vqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """VQA accuracy (Antol et al. 2015): the mean over leave-one-out sets of min(matches / 3, 1).

    As the official code has it today (GT-Vision-Lab/VQA, revision a013f00): where the references differ among themselves, both they and
    the answer are normalised (punctuation, number words, articles, contractions); where all agree, they are compared as they are, but for
    case (and here for a full stop at the end). Up to the revision c4e6a0e only the punctuation of references was normalised. With
    fewer than `FEWEST_REFERENCES` references, for which the formula was not made, an answer is right that matches one when normalised.
    """
    given, wanted = _on_one_line(answer), [_on_one_line(reference) for reference in references]
    if len(wanted) < FEWEST_REFERENCES:
        return float(normalise_vqa(given) in map(normalise_vqa, wanted))
    comparable = normalise_vqa if len(set(wanted)) > 1 else normal_answer
    given, wanted = comparable(given), [comparable(reference) for reference in wanted]
    marks = []
    for left_out in range(len(wanted)):
        others = wanted[:left_out] + wanted[left_out + 1 :]
        marks.append(min(1.0, sum(other == given for other in others) / 3))
    return sum(marks) / len(marks)


def _on_one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


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
