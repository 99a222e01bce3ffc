"""Prompts that families have of their own: what stands around every question, and how a short answer is asked for."""

from __future__ import annotations

from typing import NamedTuple

QUESTION = "{question}"


class FamilyPrompt(NamedTuple):
    """How a family is asked. Both texts hold `{question}` once; `frame` holds the image's placeholder too, where the processor wants one.

    `instruction` stands inside the frame. A benchmark that says itself how its questions are asked takes its place, the frame stays.
    """

    frame: str
    instruction: str = QUESTION

    @property
    def template(self) -> str:
        """The whole prompt, with `{question}` in it."""
        return self.frame.replace(QUESTION, self.instruction)


# By model type, for folders that say nothing themselves (no chat template): the prompts of the V-SEAM scripts, and what a processor takes.
FAMILY_PROMPTS: dict[str, FamilyPrompt] = {
    "llava": FamilyPrompt("USER: <image>\n{question}\nASSISTANT:", "{question} Please answer with a single word."),
    # Its processor writes the image's place in front of the text by itself.
    "florence2": FamilyPrompt("{question}"),
    "instructblip": FamilyPrompt("{question}", "Question: {question} Answer using a single word."),
}
