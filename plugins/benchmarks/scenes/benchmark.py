"""The scenes world as a benchmark: the same stream of scenes for every category, each asked one question."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

from PIL import Image

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import POOLS, Form, Level, Pool, PoolChoice, RoleSpan, Sample
from vseam_core.errors import UnknownNameError, VseamError, did_you_mean
from vseam_plugins.benchmarks.scenes.edits import edit_scene
from vseam_plugins.benchmarks.scenes.questions import CATEGORIES, FORMS, LEVELS, Question, ask, crossed
from vseam_plugins.benchmarks.scenes.world import Scene, render, sample_scene

SPLITS = ("plain", "hard")
WORLDS = ("uniform", "skewed")
WORDINGS = ("own", "crossed")
_ATTEMPTS = 8


@dataclass(frozen=True)
class SceneImage:
    """An image that is rendered when it is loaded; the same scene always gives the same pixels."""

    scene: Scene

    def load(self) -> Image.Image:
        return Image.fromarray(render(self.scene))

    def stamp(self) -> Scene:
        """The scene: it says every pixel."""
        return self.scene


class SceneBenchmark(Benchmark):
    """Questions of one category about rendered scenes, as many "Yes" as "No", or open questions.

    Scene number i of a pool and split is the same image in every category; a category leaves out the scenes that it cannot ask
    about or whose answer no single edit can change. Pools share no image: each owns its backgrounds. With the wording `crossed` the
    same yes/no questions about the same images are asked in the form of another level. Raises `UnknownNameError` for an unknown
    category, form, world or wording, and `VseamError` for crossed open questions.
    """

    endless: ClassVar[bool] = True

    def __init__(self, category: str, form: str = "yes_no", world: str = "uniform", wording: str = "own"):
        named = {"category": (category, CATEGORIES), "form": (form, FORMS), "world": (world, WORLDS), "wording": (wording, WORDINGS)}
        for what, (name, known) in named.items():
            if name not in known:
                raise UnknownNameError(f"scenes: unknown {what} {name!r}; {did_you_mean(name, known)}")
        if (wording, form) == ("crossed", "open"):
            raise VseamError("scenes: only yes/no questions are asked in the form of another level (wording: crossed)")
        self.category, self.form, self.world, self.wording = category, form, world, wording
        self.level = LEVELS[category]
        family = ["scenes"] + [name for name in (world, form, wording) if name in ("skewed", "open", "crossed")]
        self.name = f"{'-'.join(family)}/{category}"

    def splits(self) -> tuple[str, ...]:
        """`plain`, and `hard`: more objects, noise, occlusion."""
        return SPLITS

    def samples(self, pool: PoolChoice, split: str = "plain", limit: int | None = None, seed: int = 0) -> Iterator[Sample]:
        """An endless stream without a limit; `all` takes from the pools in turn. Raises `UnknownNameError` for an unknown split."""
        if split not in SPLITS:
            raise UnknownNameError(f"{self.name}: unknown split {split!r}; {did_you_mean(split, SPLITS)}")
        pools = POOLS if pool == "all" else (pool,)
        streams = itertools.cycle([self._stream(name, split, seed) for name in pools])
        for _ in itertools.count() if limit is None else range(limit):
            yield next(next(streams))

    def _stream(self, pool: Pool, split: str, seed: int) -> Iterator[Sample]:
        index = made = 0
        while True:
            image = f"scenes/{self.world}/{seed}/{pool}/{split}/{index:06d}"
            scene = sample_scene(random.Random(image), pool=pool, split=split, world=self.world)
            question = self._question(image, scene, made)
            if question is not None:
                yield self._sample(image, scene, question, pool, split)
                made += 1
            index += 1

    def judge(self, sample: Sample, answer: str) -> bool:
        """Exact match of the words, whatever their case, without a full stop at the end."""
        return answer.strip().rstrip(".").strip().lower() == sample.answer.lower()

    def _question(self, image: str, scene: Scene, made: int) -> Question | None:
        rng = random.Random(f"{image}/{self.category}/{self.form}")
        want = None if self.form == "open" else ("Yes", "No")[made % 2]
        for _ in range(_ATTEMPTS):
            question = ask(rng, scene, self.category, self.form, want)
            if question is not None and edit_scene(random.Random(image), scene, question) is not None:
                return crossed(scene, question) if self.wording == "crossed" else question
        return None

    def _sample(self, image: str, scene: Scene, question: Question, pool: Pool, split: str) -> Sample:
        others = [answer for answer in question.alternatives if answer != question.answer]
        competitor = random.Random(f"{image}/competitor").choice(others)
        return Sample(
            identifier=f"{self.name}/{image.removeprefix('scenes/')}",
            dataset=self.name,
            question_id=image.rsplit("/", 1)[-1],
            image_id=image,
            image=SceneImage(scene),
            question=question.text,
            answer=question.answer,
            competitor=competitor,
            level=cast(Level, self.level),
            category=self.category,
            pool=pool,
            split=split,
            form=cast(Form, self.form),
            roles=tuple(RoleSpan(*role) for role in question.roles),
            metadata={"scene": scene, "question": question},
        )
