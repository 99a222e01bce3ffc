"""Small tokenizers of the classes that families' own folders name, with the words of the scenes world's colour questions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.engine.configs import VOCABULARY

# As the configurations of `tests.engine.every_type` number them.
_SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_BERT = {
    "pad_token": "[PAD]",
    "bos_token": "[DEC]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def bert(words: Iterable[str], tokens: Mapping[str, int]) -> Any:
    """Lower case, `[CLS] … [SEP]`; BLIP's decoder begins with `[DEC]`."""
    from transformers import BertTokenizer

    return BertTokenizer(vocab=_filled([*_BERT.values(), *dict.fromkeys(word.lower() for word in words)], tokens), **_BERT)


def bart(words: Iterable[str], tokens: Mapping[str, int]) -> Any:
    """Bytes, `<s> … </s>`."""
    from transformers import BartTokenizer

    pieces, merges = _in_bytes(words)
    return BartTokenizer(vocab=_filled([*_SPECIAL.values(), *pieces], tokens), merges=merges, **_marking(tokens), **_SPECIAL)


def nougat(words: Iterable[str], tokens: Mapping[str, int]) -> Any:
    """Bytes, `<s> … </s>`, padded to 4,096 positions unless told otherwise."""
    from transformers import NougatTokenizer

    pieces, merges = _in_bytes(words)
    return NougatTokenizer(vocab=_filled([*_SPECIAL.values(), *pieces], tokens), merges=merges, **_SPECIAL)


def udop(words: Iterable[str], tokens: Mapping[str, int]) -> Any:
    """Whole words with a sign for the space before them; each wants a box."""
    from transformers import UdopTokenizer

    pieces = ["▁", "?", *dict.fromkeys(f"▁{word}" for word in words if word != "?")]
    vocabulary = [
        (piece, 0.0 if index < len(_SPECIAL) else -1.0) for index, piece in enumerate(_filled([*_SPECIAL.values(), *pieces], tokens))
    ]
    return UdopTokenizer(vocab=vocabulary, **_SPECIAL)


def _filled(pieces: Iterable[str], tokens: Mapping[str, int]) -> dict[str, int]:
    """Ids in order, those that are given at their places, and fillers up to the size of the vocabulary."""
    known = dict(enumerate(pieces))
    assert not set(known) & set(tokens.values()), "two tokens have one id"
    known |= {index: token for token, index in tokens.items()}
    return {known.get(index, f"<filler_{index}>"): index for index in range(max(VOCABULARY, *known) if known else VOCABULARY)}


def _marking(tokens: Mapping[str, int]) -> dict[str, Any]:
    return {"extra_special_tokens": {"image_token": "<image>"}} if "<image>" in tokens else {}


def _in_bytes(words: Iterable[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Every letter of the words, and yes and no as tokens of their own, behind a space too."""
    merges: list[tuple[str, str]] = []
    for word in ("Yes", "No", "yes", "no"):
        merges += [*((word[:end], word[end]) for end in range(1, len(word))), ("Ġ", word)]
    letters = ["Ġ", "Ċ", *dict.fromkeys("".join(words))]
    return list(dict.fromkeys((*letters, *("".join(merge) for merge in merges)))), merges
