"""The frozen records that travel between rooms: samples, pairs, and the rows of effects and scores.

Nothing here imports torch; arrays are numpy. Pixel boxes are `(x0, y0, x1, y1)` with exclusive ends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from vseam_core.errors import UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

Level = Literal["object", "attribute", "relation"]
Pool = Literal["score", "choose", "test"]
PoolChoice = Literal["score", "choose", "test", "all"]
Form = Literal["yes_no", "open"]
Direction = Literal["denoising", "noising", "clean", "corrupt"]
ScanDirection = Literal["noising", "denoising"]
Box = tuple[float, float, float, float]

LEVELS: tuple[Level, ...] = ("object", "attribute", "relation")
POOLS: tuple[Pool, ...] = ("score", "choose", "test")


class HeadId(NamedTuple):
    """One attention head: the stack it lies in, its layer and its index in the layer."""

    layer: int
    head: int
    stack: str = "decoder"

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}" if self.stack == "decoder" else f"{self.stack}:L{self.layer}H{self.head}"


_HEAD = re.compile(r"(?:(?P<stack>\w+):)?L(?P<layer>\d+)H(?P<head>\d+)")


def parse_head(text: str) -> HeadId:
    """The head that a text such as "L3H5" or "encoder:L0H1" names. Raises `UnknownNameError`."""
    match = _HEAD.fullmatch(text.strip())
    if match is None:
        raise UnknownNameError(f"{text!r} names no head; expected layer and head such as L3H5")
    return HeadId(int(match["layer"]), int(match["head"]), match["stack"] or "decoder")


class RoleSpan(NamedTuple):
    """A word of the question by character offsets (exclusive end) and the role it plays: object, attribute, relation, action."""

    start: int
    end: int
    role: str


class ImageSource(Protocol):
    """Where an image comes from: a file, a rendered scene, an edited array.

    A source may have a method `stamp()` too: something hashable that is cheaper than loading and changes whenever the pixels do. Images
    that have one are not loaded again to learn that they are as they were.
    """

    def load(self) -> Image:
        """The image in RGB. Raises `SampleError` when it is missing or cannot be read."""
        ...


class MaskSource(Protocol):
    """Where the mask of an edit comes from: a file, an array."""

    def load(self) -> np.ndarray:
        """A boolean array `[height, width]`, True where the edit may have changed the image. Raises `SampleError`."""
        ...


@dataclass(frozen=True)
class SceneObject:
    """One annotated thing in an image: its name, where it is, and what is said about it.

    The name is "" where only the place is known: then it is what the question is about. `box` is in pixels, `(x0, y0, x1, y1)`.
    `relations` are pairs (relation, identifier of the other object).
    """

    name: str
    box: Box
    attributes: tuple[str, ...] = ()
    relations: tuple[tuple[str, str], ...] = ()
    identifier: str = ""


@dataclass(frozen=True)
class Sample:
    """One question about one image, with its gold answer.

    `identifier` is unique over all datasets (`dataset/pool/split/question_id`). `image_id` names the image: standard errors
    are clustered by it, and a clean image and its edited versions share it. `competitor` is the answer that the gold one is
    weighed against in `logit_diff` (for yes/no the other word), or None where it is unknown. `objects` are the annotated things
    that the question is about, in the order in which it names them (empty where the dataset has no annotation); `others` are
    annotated things that it is not about, which a control edit may change.
    `instruction` is a text with `{question}` in it that the benchmark wants the question asked in; "" leaves it to the model.
    `options` are the answers one of which is to be given (the letters of a multiple choice question): where no one competitor is
    named, the gold one is weighed against the strongest of the others.
    """

    identifier: str
    dataset: str
    question_id: str
    image_id: str
    image: ImageSource
    question: str
    answer: str
    competitor: str | None
    level: Level
    category: str
    pool: Pool
    split: str = "plain"
    form: Form = "yes_no"
    roles: tuple[RoleSpan, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    objects: tuple[SceneObject, ...] = ()
    others: tuple[SceneObject, ...] = ()
    instruction: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answered:
    """A sample and the free text that a model answered it with."""

    sample: Sample
    text: str


@dataclass(frozen=True)
class EditRecord:
    """How the image of a pair was made, where it lies, and whether it passed its checks.

    `key` is a hash of everything that changes the edited image. `verdict` is `passed` or `failed`, with the reason; `control` says
    which kind of control edit it is (`repaint`: the same concept again; `elsewhere`: something not asked about), or is empty.
    """

    key: str
    planner: str
    mask_provider: str
    prompt: str
    confidence: float
    verdict: Literal["passed", "failed"]
    reason: str = ""
    control: Literal["", "repaint", "elsewhere"] = ""
    clean_path: str = ""
    image_path: str = ""
    mask_path: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A clean sample and its corrupt twin: the same question about the image with one concept edited.

    `boxes` are the edited regions in pixels of the image, `mask` their exact shape where the editor knows it. `kind` is `edit` (the
    true answer changes to `corrupt.answer`) or `control` (an edit of the same size on something not asked about: the answer stays).
    `record` says how the image was made, where it is not rendered again each time.
    """

    clean: Sample
    corrupt: Sample
    boxes: tuple[Box, ...]
    editor: str
    source_term: str
    target_term: str
    kind: Literal["edit", "control"] = "edit"
    checks: Mapping[str, float] = field(default_factory=dict, compare=False)
    mask: MaskSource | None = field(default=None, compare=False)
    record: EditRecord | None = field(default=None, compare=False)

    @property
    def identifier(self) -> str:
        """Unique over all edits: the clean sample, the editor, edit or control, and the edit's key where it has one."""
        made = f"-{self.record.key[:12]}" if self.record else ""
        return f"{self.clean.identifier}#{self.editor}-{self.kind}{made}"


@dataclass(frozen=True)
class ModelInfo:
    """What identifies a loaded model in the store: everything that changes its numbers.

    `weights_hash` is a sha256 over the parameters as they are computed with; `revision` is the hub's commit they were read from, ""
    for a folder. `dtype` names the number format, with `+8bit` or `+4bit` for quantised weights.
    """

    name: str
    family: str
    source: str
    weights_hash: str
    dtype: str
    attention: str
    device: str
    layers: int
    heads: int
    head_dim: int
    processor_hash: str = ""
    revision: str = ""


@dataclass(frozen=True)
class ModelDescription:
    """What can be said about a model without loading its weights, from the files that are on this machine.

    `place` is where they are ("" where they are not, and `problem` says why). `parameters` counts what the weight files hold.
    `image_positions` is the number of image positions for an image of `image_size`. `regions` says whether boxes select image
    positions, else `regions_reason` why not. `template` is the prompt with `{question}` in it. `width` is the residual's.
    `capabilities` say what can be done (answers, traces, heads, replay, regions, lens, vision): name, whether it holds, and the reason.
    """

    place: str = ""
    problem: str = ""
    family: str = ""
    parameters: int | None = None
    layers: int | None = None
    heads: int | None = None
    head_dim: int | None = None
    width: int | None = None
    stack: str = ""
    image_size: tuple[int, int] = (640, 480)
    positions: int | None = None
    image_positions: int | None = None
    regions: bool | None = None
    regions_reason: str = ""
    template: str = ""
    capabilities: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class TraceEffect:
    """Effects of one tracer on one pair, for one site kind, direction and measure.

    `values` is float32 `[layers, columns]`: rows follow `layers`, columns follow `columns`. A column is a text position
    (`column_kind="position"`, the label is its index, `roles` its role) or a group of positions (`column_kind="group"`,
    label and role are the group's name). `clean` and `corrupt` are the measure without any patch.

    `direction` says what was run: `denoising` patches clean activations into the corrupt run, `noising` the reverse; with `clean`
    or `corrupt` nothing is copied, and that run itself is cut (knockout) or read (lens). `values` are the changed run's measure
    minus the unchanged one's; where nothing is changed (lens) they are the readouts themselves. Layer −1 is the residual before
    the first layer, or, for `attention_all_layers`, all layers at once.
    """

    tracer: str
    stack: str
    site_kind: str
    direction: Direction
    measure: str
    layers: tuple[int, ...]
    columns: tuple[str, ...]
    column_kind: Literal["position", "group"]
    roles: tuple[str, ...]
    values: np.ndarray
    clean: float
    corrupt: float


@dataclass(frozen=True)
class HeadEffect:
    """Effects of replacing each head on one sample: base minus replaced, float32 `[layers, heads]`, for one measure.

    For `patch_denoising` the base is the corrupt run and the replacement what helps, so it is replaced minus base. `base` is the
    measure of the run that heads are replaced in.

    `measured` bool `[layers, heads]` says which heads were replaced at all (None: every one); the others' values mean nothing and
    are not stored.
    """

    operation: str
    positions: str
    measure: str
    stack: str
    values: np.ndarray
    base: float
    measured: np.ndarray | None = None


@dataclass(frozen=True)
class Skip:
    """One sample that could not be used, and why."""

    identifier: str
    reason: str
