"""The declarative language between methods and the engine: which run to make, what to change in it, what to read from it.

A tracer or head intervention says *what* with these records; only the engine runs models. A run is one forward pass of `base`
in which `interventions` replace activations, by what the same sites held in `donor` where an operation needs one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

    from vseam_core.api.prompts import EncodedPrompt

SiteKind = Literal[
    "residual_before", "residual_after", "attention_output", "mlp_output", "head_output", "query", "key", "value",
    "cross_attention_output", "cross_head_output",
]  # fmt: skip
Stack = Literal["decoder", "encoder", "vision", "connector", "cross"]
IMAGE_STACKS: tuple[Stack, ...] = ("vision", "connector")
"""Stacks that look at the image before the language model does: the vision tower, and a Q-Former."""


@dataclass(frozen=True)
class Site:
    """A place in the model: `head_output` is the input of the attention output projection (one head's slice, or all heads).

    `query`, `key` and `value` are the outputs of the projections of those names, before any head norm and rotation, where a family has them
    apart; the head of a key or value counts key-value heads (fewer than query heads under grouped-query attention).
    `cross_attention_output` and `cross_head_output` are the same of attention to what an encoder hands over, where it stands in a layer
    beside the layer's own (to the image in BLIP and Pix2Struct, to image and words in T5); where it is a layer's only attention (Mllama),
    `attention_output` and `head_output` are its. In the stack `cross` those two name this attention wherever it stands.
    In the stack `vision` layers are those of the vision tower, and positions the rows that they hold (a class token and patches; the tiles
    of an image one after another). In the stack `connector` they are those of a Q-Former, and its queries. Where image and words stand in
    the stack `encoder` (T5), the stack `decoder` is the one that generates from it, and positions are the tokens that it starts with.
    """

    layer: int
    kind: SiteKind
    head: int | None = None
    stack: Stack = "decoder"


@dataclass(frozen=True)
class Patch:
    """Take what the same site held, at the same positions, in the run's donor."""


@dataclass(frozen=True)
class Zero:
    """Set to zero."""


@dataclass(frozen=True)
class MeanOfOthers:
    """Per position, the mean of the layer's other heads: those not named by any edit of this run (live values).

    The published V-SEAM operation; only for `head_output` sites.
    """


@dataclass(frozen=True)
class Scale:
    """Multiply the live value by `factor`."""

    factor: float


@dataclass(frozen=True, eq=False)
class Replace:
    """Set to given values, float32 `[positions, width]` in the order of the edit's positions (dataset means, for one)."""

    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Add:
    """Add a vector, float32 `[width]`, at every named position (steering)."""

    vector: np.ndarray


@dataclass(frozen=True, eq=False)
class Remove:
    """Take out the component along a vector, float32 `[width]`: x - (x·u) u with u of length 1 (directional ablation)."""

    vector: np.ndarray


Operation = Patch | Zero | MeanOfOthers | Scale | Replace | Add | Remove


@dataclass(frozen=True)
class SiteEdit:
    """Apply an operation to one site at some positions (`None`: all of them)."""

    site: Site
    operation: Operation
    positions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class AttentionBlock:
    """Attention knockout: in these layers, queries at `targets` may not look at keys at `sources` (masked before the softmax).

    `heads` limits it to some heads (`None`: all). A query that loses every key outputs 0.
    """

    layers: tuple[int, ...]
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    heads: tuple[int, ...] | None = None
    stack: Stack = "decoder"


@dataclass(frozen=True)
class PathPatch:
    """Path patching: what `senders` change reaches `receivers` along the residual alone, and the rest of the run goes on from there.

    A sender is an edit of a head's or a whole attention's output, of an MLP's output or of the residual before the first layer (the
    embeddings). In a first run every attention, and every MLP unless `through_mlps`, is held at what it outputs in the base; what
    each receiver computes there from its changed input (norms included) is put into the base run, in which everything behind the
    receivers is free. A receiver is a head's `query`, `key` or `value`, an `mlp_output` (the MLP reads the change), or the last layer's
    `residual_after` (the logits). It is the only intervention of its run. Sources: Wang et al. 2022, arXiv 2211.00593 (`through_mlps`);
    Goldowsky-Dill et al. 2023, arXiv 2304.05969. docs/paths.md.
    """

    senders: tuple[SiteEdit, ...]
    receivers: tuple[Site, ...]
    through_mlps: bool = False

    @property
    def leads(self) -> bool:
        """Whether everything that senders write is there when the first receiver reads."""
        written = max((edit.site.layer, _WRITTEN.get(edit.site.kind, 0)) for edit in self.senders)
        return written < min((site.layer, _READ.get(site.kind, 0)) for site in self.receivers)


# Where in a layer a sender writes and a receiver reads, in the order of computation.
_WRITTEN: dict[str, int] = {"residual_before": 0, "head_output": 2, "attention_output": 2, "mlp_output": 4}
_READ: dict[str, int] = {"query": 1, "key": 1, "value": 1, "mlp_output": 3, "residual_after": 5}


Intervention = SiteEdit | AttentionBlock | PathPatch


@dataclass(frozen=True)
class AnswerIds:
    """The token ids that an answer score reads, found by `VisionLanguageModel.answer_ids`.

    `gold` and `competitor` hold the surface variants of both answers (combined by logsumexp) at the token where they first
    differ; `prefix` is what both answers share before it, to be encoded into the prompt (`encode(…, answer_prefix=prefix)`).
    `published` holds the ids of the answer alone, as the published scripts read them; where that is one token, `variants` holds those
    of the answer's other writings ("Yes" beside "yes"), which these measures count too: a table's "yes" is what a model calls "Yes".
    `others` are the ids of further competitors (the other letters of a multiple choice question): `logit_diff` is gold minus the
    strongest of all.
    """

    gold: tuple[int, ...]
    competitor: tuple[int, ...]
    published: tuple[int, ...]
    prefix: tuple[int, ...] = ()
    variants: tuple[int, ...] = ()
    others: tuple[tuple[int, ...], ...] = ()

    @property
    def competitors(self) -> tuple[tuple[int, ...], ...]:
        """The ids of every competing answer, none where no competitor is known."""
        return (self.competitor, *self.others) if self.competitor else ()


@dataclass(frozen=True)
class AnswerScore:
    """Read the answer at the last position of the run."""

    answer: AnswerIds


@dataclass(frozen=True)
class LensScore:
    """Read the answer at an inner site: final norm and unembedding of the residual (logit lens).

    For attention, MLP and head outputs: direct logit attribution, the output's contribution to `logit_diff` through the
    unembedding with the final norm's scale as recorded in this run (norming a component alone is not its contribution).
    """

    site: Site
    answer: AnswerIds
    positions: tuple[int, ...] = ()


Readout = AnswerScore | LensScore


@dataclass(frozen=True)
class AttentionWeights:
    """Read the attention weights of all heads of a layer, from the queries at `targets` to every position of the prompt.

    In the stack `cross` of a model whose image and words stand in an encoder, and in the stack `decoder` where its decoder reads both in
    one attention (T5Gemma 2), queries are the tokens that the decoder starts with (-1: the last) and keys the prompt's positions. In the
    stack `cross` of other models queries are positions of the prompt and keys what the image's encoder hands over, in its order.
    """

    layer: int
    targets: tuple[int, ...]
    stack: Stack = "decoder"


@dataclass(frozen=True, eq=False)
class Run:
    """One forward pass to make. `donor` is needed by `Patch` only; `attention` is read beside the readouts."""

    base: EncodedPrompt
    readouts: tuple[Readout, ...]
    interventions: tuple[Intervention, ...] = ()
    donor: EncodedPrompt | None = None
    attention: tuple[AttentionWeights, ...] = ()


@dataclass(frozen=True)
class AnswerValues:
    """What an answer readout yields, all from the logits in float64.

    `logit_diff` gold minus competitor, logsumexp over variants (nan without a competitor) · `logprob` log-probability of the
    gold variants · `published_prob` p[A[0]] · `prob_sum` Σ p over A · `logit` mean logit over A · `top` the argmax token id.
    Of an answer with variants, their p are added, and `logit` is the logsumexp over all writings.
    """

    logit_diff: float
    logprob: float
    published_prob: float
    prob_sum: float
    logit: float
    top: int


MEASURES: tuple[str, ...] = ("logit_diff", "logprob", "published_prob", "prob_sum", "logit")
TOP_TOKEN = "top_token"
READINGS: tuple[str, ...] = ("weight", TOP_TOKEN)
"""Measures of effects that are no score of the answer: an attention weight, and the id of the token that a lens puts first."""


@dataclass(frozen=True)
class RunResult:
    """The readouts of one run, in the order they were asked for; a lens readout has one entry per position.

    `attention` holds the weights that were asked for, each float32 `[heads, targets, keys]`; the weights of a query add up to 1, or to
    less where the model lets attention go nowhere (sinks, a query that may look nowhere).
    """

    readouts: tuple[tuple[AnswerValues, ...], ...] = field(default=())
    attention: tuple[np.ndarray, ...] = field(default=())

    @property
    def answer(self) -> AnswerValues:
        """The first readout's first value: what most methods ask for."""
        return self.readouts[0][0]
