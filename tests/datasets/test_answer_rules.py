"""What answers say by each rule that `--judge` names. The columns of the harnesses were compared with their own functions when written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vseam_core.datasets import answer_rules as rules

OPTIONS = ("dog", "cat", "None of these", "bear")
# The letter by our rule, lmms-eval's (MMBench) and VLMEvalKit's; "-" is none.
# fmt: off
CHOICES = [
    ("B", "B B B"),
    ("b", "B - -"),
    ("(B)", "B B B"),
    ("(b)", "B - -"),
    ("B.", "B B B"),
    ("B)", "B B B"),
    ("B:", "B B B"),
    ("B,", "B B B"),
    ("[B]", "B - B"),
    ("**B**", "B - B"),
    ("*B*", "B - B"),
    ("B. cat", "B B B"),
    ("B: cat", "B B B"),
    ("B) cat", "B B B"),
    ("(B) cat", "B B B"),
    ("b. cat", "B B B"),
    ("B cat", "B B B"),
    ("Bcat", "- B B"),
    ("cat", "B B B"),
    ("Cat", "B B B"),
    ("CAT.", "B B B"),
    ("a cat", "B B B"),
    ("A cat", "B A A"),
    ("the cat", "B B B"),
    ("It is a cat.", "B B B"),
    ("It's a cat", "B B B"),
    ("cats", "- B B"),
    ("caterpillar", "- B B"),
    ("not a dog but a cat", "- - -"),
    ("dog or cat", "- - -"),
    ("A dog", "A A A"),
    ("A. dog", "A A A"),
    ("A", "A A A"),
    ("a", "A - -"),
    ("A bear is in the image", "D D D"),
    ("A dog and a bear", "- - -"),
    ("The answer is b", "B - -"),
    ("The answer is B", "B B B"),
    ("The answer is B.", "B B B"),
    ("The answer is (B).", "B B B"),
    ("Answer: B", "B B B"),
    ("answer: b", "B - -"),
    ("ANSWER IS B", "B B B"),
    ("Option B", "B B B"),
    ("option (B)", "B B B"),
    ("The correct option is B, cat.", "B B B"),
    ("I think B", "B B B"),
    ("I think it is B because of the ears and the tail", "B B -"),
    ("B because of the ears and the tail", "B B -"),
    ("Both A and B", "- - -"),
    ("A or B", "- - -"),
    ("A and not B", "- - -"),
    ("Either (A) or (B)", "- - -"),
    ("None", "- - -"),
    ("None of these", "C C C"),
    ("none of these.", "C C C"),
    ("no", "- - -"),
    ("yes", "- - -"),
    ("No, there is not.", "- - -"),
    ("", "- - -"),
    ("   ", "- - -"),
    ("E", "- E -"),
    ("Z", "- - -"),
    ("Sorry, I can't help with images of people yet.", "- - -"),
    ("Cannot determine the answer", "- - -"),
    ("The image shows a large brown animal which is probably a bear standing on its hind legs", "D D -"),
    ("D-shaped", "- - -"),
    ("C", "C C C"),
    ("C.", "C C C"),
    ("Grade A beef", "- A A"),
    ("B\n", "B B B"),
    ("B</s>", "B - -"),
    ("The answer is a bear", "D D D"),
    ("I", "- - -"),
    ('"B"', "B - -"),
    ("'B'", "B - -"),
    ("B!", "B - B"),
    ("b)", "B - -"),
    ("answer B", "B B B"),
    ("Choice B", "B B B"),
]
# Yes or no by POPE's official rule, the strict one, lmms-eval's (MME) and VLMEvalKit's.
YES_NO = [
    ("Yes", "yes yes yes yes"),
    ("yes", "yes yes yes yes"),
    ("Yes.", "yes yes yes yes"),
    ("No", "no no no no"),
    ("no", "no no no no"),
    ("No.", "no no no no"),
    ("no!", "yes no no no"),
    ("No, there is not.", "no no no no"),
    ("There is no dog.", "no - - no"),
    ("There is a dog.", "yes - - -"),
    ("It is not.", "no - - -"),
    ("None", "yes - no -"),
    ("Now it is", "yes - no -"),
    ("Nothing", "yes - no -"),
    ("Yes, no doubt", "no yes yes -"),
    ("No, yes", "no no no -"),
    ("Not yes", "yes - no yes"),
    ("I don't know", "yes - - -"),
    ("", "yes - - -"),
    ("yesterday", "yes - yes -"),
    ("Yes and no", "no yes yes -"),
    ("not", "no - no -"),
    ("NO", "yes no no no"),
    ("Y", "yes - yes -"),
    ("n.", "yes - no -"),
    ("The answer is yes", "yes - - yes"),
    ("The answer is no.", "no - - no"),
]
# fmt: on


@pytest.mark.parametrize(("answer", "expected"), CHOICES)
def test_an_answer_chooses_the_letter_that_each_rule_finds_in_it(answer: str, expected: str) -> None:
    found = [rules.CHOICE_RULES[name](answer, OPTIONS) or "-" for name in ("official", "lmms-eval", "vlmevalkit")]
    assert " ".join(found) == expected


@pytest.mark.parametrize(("answer", "expected"), YES_NO)
def test_an_answer_says_the_yes_or_no_that_each_rule_finds_in_it(answer: str, expected: str) -> None:
    found = [rules.YES_NO_RULES[name](answer) or "-" for name in ("pope", "strict", "lmms-eval", "vlmevalkit")]
    assert " ".join(found) == expected


def test_the_page_shows_every_answer_on_which_the_rules_differ_as_they_read_it() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    shown = {match[1]: match[2].replace("|", " ").split() for match in re.finditer(r"^\| `(.+?)` \|(.+)\|$", text, re.MULTILINE)}
    for known in (CHOICES, YES_NO):
        for answer, expected in known:
            values = expected.split()
            if answer.strip() and len(set(values)) > 1:
                assert shown.get(answer.strip()) == values, answer


@pytest.mark.parametrize(
    ("rule", "answer", "expected"),
    [
        (rules.bare_letter, "B", "B"), (rules.bare_letter, "B. cat", "B"), (rules.bare_letter, "(B)", None), (rules.bare_letter, "b", None),
        (rules.bare_letter, "", None), (rules.bare_letter, "E", None), (rules.bare_letter, "cat", None),
        (rules.first_letter, "B) cat", "B"), (rules.first_letter, "Cat", "C"), (rules.first_letter, "the cat", None),
        (rules.first_letter, "", None), (rules.leading_letter, "(b) cat", "B"), (rules.leading_letter, "Cat", "C"),
        (rules.leading_letter, "1. B", None), (rules.leading_letter, "", None),
        (rules.mmstar_letter, "b", "B"), (rules.mmstar_letter, "(B) cat", "B"), (rules.mmstar_letter, "Option B", "B"),
        (rules.mmstar_letter, "The answer is B.", "B"), (rules.mmstar_letter, "It is B", None), (rules.mmstar_letter, "", None),
        (rules.mmstar_letter, "bear", "B"), (rules.only_yes_no, " Yes ", "yes"), (rules.only_yes_no, "Yes.", None),
        (rules.first_yes_no, "Not sure, but no; yes?", "no"), (rules.first_yes_no, "yesterday", None),
    ],
)  # fmt: skip
def test_rules_of_single_benchmarks_read_what_their_authors_code_reads(rule: object, answer: str, expected: str | None) -> None:
    assert callable(rule)
    assert (rule(answer, OPTIONS) if rule not in (rules.only_yes_no, rules.first_yes_no) else rule(answer)) == expected
