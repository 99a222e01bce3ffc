"""The word-level tokenizer of the embedded models: one token per word of the scenes world and of the prompts.

One token per word keeps token roles (object, attribute, relation, action) unambiguous when a run is traced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
PROMPT_WORDS = ("USER:", "ASSISTANT:", "Question:", "Answer:", "Short", "answer:")
INSTRUCTION_WORDS = ("Please", "answer", "with", "a", "single", "word", "Answer", "using", "or", "phrase", "the", "question")
PUNCTUATION = (".", "?", ",", ":")
ANSWER_WORDS = ("Yes", "No", "yes", "no")
QUESTION_WORDS = (
    "Is", "Are", "Which", "What", "there", "an", "in", "this", "picture", "image", "is", "of", "on", "to", "and", "not",
    "color", "texture", "thing", "object",
)  # fmt: skip
RELATION_WORDS = ("left", "right", "above", "below", "pulling", "carrying")
MODEL_MAX_LENGTH = 512
# A prompt marker with its colon ("USER:") is one token; other punctuation stands alone; white space vanishes.
SPLIT_PATTERN = r"[A-Za-z]+:|\w+|[^\w\s]"


def vocabulary() -> dict[str, int]:
    """List every word the models know, so that ids never depend on the order in which training data is drawn.

    Returns a mapping from word to id; special tokens come first.
    """
    from vseam_plugins.benchmarks.scenes import world

    words = [
        *SPECIAL_TOKENS, *PROMPT_WORDS, *INSTRUCTION_WORDS, *PUNCTUATION, *ANSWER_WORDS, *QUESTION_WORDS, *RELATION_WORDS,
        *world.GROUPS, *world.KINDS, *world.COLORS, *world.MATERIALS,
    ]  # fmt: skip
    return {word: index for index, word in enumerate(dict.fromkeys(words))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer (word level, `<s>` in front, padded at the left so that the last position is the answer's)."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = vocabulary()
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", words["<s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        additional_special_tokens=["<image>"], padding_side="left", model_max_length=MODEL_MAX_LENGTH,
    )  # fmt: skip
