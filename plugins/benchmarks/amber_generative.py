"""AMBER's generative part: which things a description of an image makes up (Wang et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

from vseam_core.api.types import Answered, Sample
from vseam_core.datasets.records import Record, lines_of, text_of
from vseam_core.errors import InvalidFileError, PluginError, SampleError
from vseam_core.files import parse_json
from vseam_plugins.benchmarks.amber import AmberFiles

_AS_ALIKE = 0.8
"""Words mean the same thing whose vectors have a cosine above this: the default of the authors' script."""


class Words(Protocol):
    """What the rule asks about words."""

    def nouns(self, text: str) -> Sequence[str]:
        """The nouns of a text in their order, in the singular."""

    def alike(self, one: str, other: str) -> bool:
        """Whether two words mean the same thing."""


@dataclass(frozen=True)
class Described:
    """One description: the things that it names, those of them that it makes up, and how many annotated things it reaches.

    `covered` of the `there` things in the image are named, and `expected` of the `likely` ones that AMBER's authors expect to be made up.
    """

    named: tuple[str, ...]
    made_up: tuple[str, ...]
    covered: int
    there: int
    expected: int
    likely: int


class AmberDescriptions(AmberFiles):
    """Descriptions of images, judged by the rule of AMBER's script: the nouns of its list that they name, against what is annotated.

    annotations.json, relation.json (`relations`: words that mean a thing, or part of it) and safe_words.txt (`safe_words`) lie beside
    query_generative.json or in the folder above. A noun of the list is made up unless it is a safe word, stands for a thing in the image,
    or has nearly the vector of such a word. A description is right where it names a thing and makes none up.

    Figures, all summed over descriptions: `chair` (made-up nouns of the named ones), `cover` (things that are there and are named), `hal`
    (descriptions that make something up), `cog` (likely hallucinations that are named). The script's counts begin at 0.001.

    Nouns are found by nltk, words compared by the vectors of the spaCy package `vectors` (or a folder), as the script does.
    """

    question_files = ("amber/data/query/query_generative.json", "AMBER/data/query/query_generative.json")

    def __init__(
        self,
        relations: str | Path | None = None,
        safe_words: str | Path | None = None,
        vectors: str = "en_core_web_lg",
        **options: Any,
    ):
        super().__init__("amber/generative", **options)
        self._relations, self._safe_words, self._vectors = relations, safe_words, vectors
        self._described: dict[tuple[Any, ...], Described] = {}

    @cached_property
    def relations(self) -> Mapping[str, tuple[str, ...]]:
        """The further words of each thing. Raises `InvalidFileError` where their file is missing or another one."""
        path = self.beside("relations", self._relations, "relation.json")
        try:
            return {str(thing): tuple(map(str, words)) for thing, words in parse_json(text_of(path)).items()}
        except (ValueError, TypeError, AttributeError):
            raise InvalidFileError(f"{path}: expected an object with a list of words for each thing") from None

    @cached_property
    def listed(self) -> frozenset[str]:
        """Every word that counts: other nouns of a description are passed over."""
        return frozenset(self.relations) | {word for words in self.relations.values() for word in words}

    @cached_property
    def safe_words(self) -> frozenset[str]:
        """Words that are never made up: they mean too many things."""
        return frozenset(lines_of(text_of(self.beside("safe_words", self._safe_words, "safe_words.txt"))))

    @cached_property
    def words(self) -> Words:
        """What knows nouns and their likeness. Raises `PluginError` for what has to be installed."""
        return NounsAndVectors(self._vectors)

    def records(self) -> Iterator[Record]:
        """The generative queries with their annotations."""
        for record in super().records():
            truth = self.truths.get(record.text("id"), {})
            if truth.get("type") == "generative":
                yield Record(record.place, {**record.fields, "truth": truth.get("truth"), "hallu": truth.get("hallu")})

    def sample_of(self, record: Record) -> Sample:
        """The sample of an image: it is to be described. What is there, in the order of the annotation, stands as its gold answer."""
        there, likely = (tuple(map(str, record.items(name))) for name in ("truth", "hallu"))
        if not there:
            raise SampleError(f"{record.place}: nothing is annotated as being there (annotations.json)")
        name, content = record.image("image")
        sample = self.make(
            record,
            question_id=record.text("id"),
            image=name,
            image_content=content,
            question=record.text("query"),
            answer=", ".join(there),
            instruction="{question}",
        )
        return replace(sample, form="open", competitor=None, metadata={**sample.metadata, "truth": there, "hallu": likely})

    def described(self, sample: Sample, text: str) -> Described:
        """What a description says of a sample's image."""
        there, likely = sample.metadata["truth"], sample.metadata["hallu"]
        if (there, likely, text) not in self._described:
            self._described[there, likely, text] = self._judged(there, likely, text)
        return self._described[there, likely, text]

    def _judged(self, there: Sequence[str], likely: Sequence[str], text: str) -> Described:
        named = tuple(noun for noun in self.words.nouns(text) if noun in self.listed)
        true_words, likely_words = self._standing_for(there), self._standing_for(likely)
        covered, expected, made_up = set(), set(), []
        for noun in named:
            if noun in self.safe_words:
                continue
            if (thing := true_words.get(noun)) is not None:
                covered.add(thing)
                continue
            expected |= {thing for thing in (likely_words.get(noun), self._first_alike(noun, likely_words)) if thing is not None}
            if (thing := self._first_alike(noun, true_words)) is not None:
                covered.add(thing)
            else:
                made_up.append(noun)
        return Described(named, tuple(made_up), len(covered), len(there), len(expected), len(likely))

    def _standing_for(self, things: Sequence[str]) -> dict[str, int]:
        """The words that stand for annotated things, with each one's number: further words first, then the things' own names."""
        found: dict[str, int] = {}
        for number, thing in enumerate(things):
            for word in self.relations.get(thing, ()):
                found.setdefault(word, number)
        for number, thing in enumerate(things):
            found.setdefault(thing, number)
        return found

    def _first_alike(self, noun: str, words: Mapping[str, int]) -> int | None:
        return next((thing for word, thing in words.items() if self.words.alike(noun, word)), None)

    def judge(self, sample: Sample, answer: str) -> bool:
        """Whether a description names a thing of the list, and makes none up."""
        described = self.described(sample, answer)
        return bool(described.named) and not described.made_up

    def metrics(self, answered: Sequence[Answered]) -> Mapping[str, float | None]:
        """CHAIR, Cover, Hal and Cog, as shares; a share of nothing is None."""
        if not answered:
            return {}
        each = [self.described(item.sample, item.text) for item in answered]
        shares = {
            "chair": (sum(len(one.made_up) for one in each), sum(len(one.named) for one in each)),
            "cover": (sum(one.covered for one in each), sum(one.there for one in each)),
            "hal": (sum(bool(one.made_up) for one in each), len(each)),
            "cog": (sum(one.expected for one in each), sum(one.likely for one in each)),
        }
        return {name: part / whole if whole else None for name, (part, whole) in shares.items()}


_DATA = ("punkt_tab", "averaged_perceptron_tagger_eng", "wordnet")


class NounsAndVectors:
    """Nouns by nltk's tagger and WordNet's lemmas, likeness by spaCy's word vectors. Raises `PluginError` for what is not installed."""

    def __init__(self, vectors: str):
        try:
            import nltk
            import spacy
            from nltk.stem import WordNetLemmatizer
        except ImportError:
            raise PluginError("the rule of amber/generative needs nltk and spaCy: pip install 'vseam[amber]'") from None
        self._nltk, self._lemmas = nltk, WordNetLemmatizer()
        try:
            self._vectors = spacy.load(vectors)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise PluginError(
                f"the rule of amber/generative needs spaCy's word vectors: python -m spacy download {vectors}, "
                f"or the option `vectors` ({reason})"
            ) from None
        if not self._vectors.vocab.vectors.size:
            raise PluginError(f"amber/generative: {vectors} has no word vectors; the authors' script uses en_core_web_lg")
        self.alike = lru_cache(maxsize=1_000_000)(self._alike)

    def nouns(self, text: str) -> list[str]:
        """The nouns of a text, each as WordNet's lemma; capitals stay ("Sky" is another word than "sky")."""
        try:
            tagged = self._nltk.pos_tag(self._nltk.word_tokenize(text))
            return [self._lemmas.lemmatize(word) for word, tag in tagged if tag.startswith("NN")]
        except LookupError:
            raise PluginError(f"the rule of amber/generative needs nltk's data: python -m nltk.downloader {' '.join(_DATA)}") from None

    def _alike(self, one: str, other: str) -> bool:
        first, second = (self._vectors.make_doc(word) for word in (one, other))
        # A word without a vector is like itself alone; spaCy would warn of every other.
        known = one == other or (first.vector_norm > 0 and second.vector_norm > 0)
        return bool(known and first.similarity(second) > _AS_ALIKE)
