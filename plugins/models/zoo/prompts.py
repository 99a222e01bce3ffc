"""The two prompt forms of the V-SEAM scripts; the embedded models are trained on exactly these and evaluated with them."""

from __future__ import annotations

LLAVA = "llava-tiny"
INSTRUCTBLIP = "instructblip-tiny"
TEMPLATES: dict[str, str] = {
    LLAVA: "USER: <image>\n{question} Please answer with a single word.\nASSISTANT:",
    INSTRUCTBLIP: "Question: {question} Answer using a single word.",
}


def prompt_for(name: str, question: str) -> str:
    """Wrap a question in the prompt the model `name` was trained on; the answer is the token right after it."""
    return TEMPLATES[name].format(question=question)
