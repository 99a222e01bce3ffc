"""The suite for benchmarks: pools, order, identifiers, judging."""

from __future__ import annotations

from abc import abstractmethod
from itertools import islice

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.types import LEVELS, POOLS, Answered, PoolChoice, Sample
from vseam_core.errors import SampleError
from vseam_core.testing.promises import promise


class BenchmarkConformance:
    """Inherit, name it Test…, and let `make` return the benchmark. At most `most` samples of each pool are looked at."""

    most = 50

    @abstractmethod
    def make(self) -> Benchmark:
        """The benchmark under test."""

    def _samples(self, pool: PoolChoice, limit: int | None = None) -> list[Sample]:
        benchmark = self.make()
        return list(islice(benchmark.samples(pool, benchmark.splits()[0], limit), self.most))

    def test_samples_are_complete(self) -> None:
        benchmark = self.make()
        promise(isinstance(benchmark, Benchmark) and benchmark.name, "make returns a Benchmark with a name")
        promise(benchmark.splits(), "there is at least one split")
        samples = [sample for pool in POOLS for sample in self._samples(pool, self.most)]
        promise(samples, "there are samples")
        for sample in samples:
            promise(sample.level in LEVELS, f"{sample.identifier}: the level is among {', '.join(LEVELS)}")
            promise(
                sample.dataset == benchmark.name and sample.image_id and sample.question_id,
                f"{sample.identifier}: dataset, image and question have names",
            )
            promise(sample.question.strip(), f"{sample.identifier}: the question is not empty")
            promise(sample.split == benchmark.splits()[0], f"{sample.identifier}: the split is the one that was asked for")
            promise(isinstance(sample.question_id, str), f"{sample.identifier}: identifiers are text")
            promise(
                sample.competitor is None or sample.competitor.strip().lower() != sample.answer.strip().lower(),
                f"{sample.identifier}: the competitor is another answer",
            )
            for span in sample.roles:
                promise(0 <= span.start < span.end <= len(sample.question), f"{sample.identifier}: roles lie inside the question")

    def test_identifiers_are_unique(self) -> None:
        samples = [sample.identifier for pool in POOLS for sample in self._samples(pool, self.most)]
        promise(len(set(samples)) == len(samples), "no identifier is used twice")

    def test_pools_share_no_image(self) -> None:
        images = [{sample.image_id for sample in self._samples(pool, self.most)} for pool in POOLS]
        promise(not (images[0] & images[1] or images[0] & images[2] or images[1] & images[2]), "pools share no image")
        for pool in POOLS:
            promise(all(sample.pool == pool for sample in self._samples(pool, self.most)), f"samples of {pool} say that they are of it")

    def test_the_first_samples_are_the_same_whatever_the_limit(self) -> None:
        for pool in POOLS:
            whole = [sample.identifier for sample in self._samples(pool, self.most)]
            promise([sample.identifier for sample in self._samples(pool, 3)] == whole[:3], "the first samples do not depend on the limit")
            promise([sample.identifier for sample in self._samples(pool, self.most)] == whole, "the order is the same each time")

    def test_all_holds_samples_of_every_pool(self) -> None:
        found = self._samples("all", self.most)
        promise(found, "the pool all has samples")
        known = {sample.identifier for pool in POOLS for sample in islice(self.make().samples(pool), 10 * self.most)}
        promise({sample.identifier for sample in found} <= known, "the pool all is made of the pools' samples")

    def test_all_covers_every_pool(self) -> None:
        benchmark = self.make()
        wanted = {pool for pool in POOLS if self._samples(pool, 1)}
        found: set[str] = set()
        # Pools of a file may lie far apart in it; endless worlds are looked at in part.
        for sample in islice(benchmark.samples("all", benchmark.splits()[0]), 100 * self.most):
            found.add(sample.pool)
            if found == wanted:
                return
        promise(False, f"the pool all covers every pool: {', '.join(sorted(wanted))}; it gave {', '.join(sorted(found)) or 'nothing'}")

    def test_images_load_or_say_why_not(self) -> None:
        for sample in self._samples("all", 5):
            try:
                image = sample.image.load()
            except SampleError as error:
                promise(str(error) and "\n" not in str(error), f"{sample.identifier}: the reason is one line")
                continue
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                raise AssertionError(f"broken promise: {sample.identifier}: an unreadable image is a SampleError, got {what}") from error
            promise(image.tobytes() == sample.image.load().tobytes(), f"{sample.identifier}: loading again gives the same pixels")
            promise(image.mode == "RGB", f"{sample.identifier}: images are RGB")

    def test_the_gold_answer_is_right_and_scores_lie_between_0_and_1(self) -> None:
        benchmark = self.make()
        usable = [sample for sample in self._samples("all", self.most) if sample.answer.strip()]
        for sample in usable:
            promise(benchmark.judge(sample, sample.answer), f"{sample.identifier}: the gold answer is judged right")
            # A rule that looks for the word may take "no such answer" for a no.
            nonsense = "xyzzy plugh" if sample.answer.lower() == "no" else "no such answer at all xyzzy"
            promise(
                not benchmark.judge(sample, nonsense) or sample.answer.lower() == "yes",
                f"{sample.identifier}: nonsense is judged wrong",
            )
            for text in (sample.answer, "", "xyzzy"):
                promise(0 <= benchmark.score(sample, text) <= 1, f"{sample.identifier}: scores lie between 0 and 1")
        figures = benchmark.metrics([Answered(sample, sample.answer) for sample in usable])
        promise(all(value is None or value == value for value in figures.values()), "metrics are numbers or None, never NaN")

    def test_its_rule_has_a_version(self) -> None:
        version = self.make().version
        promise(type(version) is int and version >= 1, f"the version of its rule is a whole number from 1 on, not {version!r}")
