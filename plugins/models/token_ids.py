"""The ids that a model gives a meaning of its own: image positions, the start of an answer, control tokens."""

from __future__ import annotations

from typing import Any


def image_token_id(config: Any) -> int | None:
    """The id that marks image positions, or None where there is none: the image enters by cross-attention only (Mllama, BLIP), or
    the model puts it in front of the words (GIT)."""
    if enters_by_cross_attention(config):
        return None
    found = getattr(config, "image_token_id", None)
    return found if found is not None else getattr(config, "image_token_index", None)


def image_word(processor: Any, image_id: int) -> str:
    """What stands for an image in a text: the processor's own word for it, which may become other tokens (Gemma 3), else the model's."""
    word = getattr(processor, "image_token", None)
    if isinstance(word, str) and word in processor.tokenizer.get_vocab():
        return word
    return str(processor.tokenizer.convert_ids_to_tokens(image_id))


def enters_by_cross_attention(config: Any) -> bool:
    """Whether the configuration says that some layers look at the image, so that it has no positions (Mllama)."""
    return bool(getattr(config.get_text_config(decoder=True), "cross_attention_layers", None))


def vocabulary_rows(module: Any) -> int:
    """How many ids a model has embeddings for; by its configuration where the library finds none (PP-FormulaNet)."""
    try:
        return int(module.get_input_embeddings().num_embeddings)
    except NotImplementedError:
        return int(module.config.get_text_config(decoder=True).vocab_size)


def decoder_start_id(module: Any) -> int | None:
    """The token that an encoder-decoder language model starts its answer with; None where the answer continues the prompt.

    As the library's `generate` finds it: where nothing names one, the beginning of a text (T5Gemma 2), else the pad (T5).
    """
    config = module.config
    text = config.get_text_config(decoder=True)
    if not (getattr(config, "is_encoder_decoder", False) or getattr(text, "is_encoder_decoder", False)):
        return None
    places = [(one, "decoder_start_token_id") for one in (text, config, getattr(module, "generation_config", None))]
    named = (getattr(one, name, None) for one, name in (*places, (text, "bos_token_id"), (text, "pad_token_id")))
    return next((int(one) for one in named if one is not None), None)


def decoder_start_ids(module: Any) -> tuple[int, ...] | None:
    """The tokens that stand before an answer of an encoder-decoder: its start, and the one that the checkpoint makes it write first.

    BART's (Florence-2) answers all begin with the beginning of a text, which the library's `generate` forces: an answer is read behind it.
    """
    start = decoder_start_id(module)
    if start is None:
        return None
    forced = getattr(getattr(module, "generation_config", None), "forced_bos_token_id", None)
    return (start,) if forced is None else (start, int(forced))


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Every control token of a vocabulary with its id: the named ones (BOS, padding) and those added as special (`<image>`).

    Not the token of unknown words: it stands for a word.
    """
    added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    return {token: index for token, index in {**added, **named}.items() if index != tokenizer.unk_token_id}
