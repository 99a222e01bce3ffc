"""Prompts that families have of their own: what stands around every question, and how a short answer is asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

from vseam_core.huggingface.prompting import chat_template
from vseam_plugins.models.token_ids import image_word

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
    # Their processors write the image's place in front of the text by themselves.
    "florence2": FamilyPrompt("{question}"),
    "kosmos-2.5": FamilyPrompt("{question}"),
    "instructblip": FamilyPrompt("{question}", "Question: {question} Answer using a single word."),
}


def own_template(config: Any, processor: Any, image_id: int | None) -> str:
    """How a checkpoint itself is asked: in its chat template, or as its type is, or the image's word followed by the question."""
    chat = chat_template(processor)
    if chat is not None:
        return chat
    if config.model_type in FAMILY_PROMPTS:
        return FAMILY_PROMPTS[config.model_type].template
    if getattr(config, "qformer_config", None) is not None or image_id is None:
        return QUESTION
    return f"{image_word(processor, image_id)}\n{QUESTION}"
