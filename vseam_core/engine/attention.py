"""Attention for packed runs: every run's own positions, and the recorded prefix that all runs of a prompt share, attended to once.

While replay calls decoder layers, the attention implementation that Hugging Face layers look up is replaced by the one here. Queries
see (a) keys before their run's first recomputed position, which are those of the recording and are the same for all runs, and
(b) the run's own keys. The two parts meet in one softmax, so nothing is copied per run and nothing is approximated.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vseam_core.engine.attention_call import AttentionCall, KeysFound
from vseam_core.engine.layout import Span, of_like_length, padded
from vseam_core.errors import UnsupportedError

IMPLEMENTATION = "vseam_replay"
# The library keeps its attention functions in one table for the whole process: threads that replace one take turns.
FUNCTION_TABLE = threading.RLock()
_REPLACED = frozenset({"eager", "sdpa"})
# Arguments of attention functions that change nothing for one prompt without dropout, or that are read here.
_KNOWN_ARGUMENTS = frozenset({"dropout", "position_ids", "cache_position", "position_bias", "softcap"})
# Stands for "may not be seen": finite, so that a query that sees nothing yields no NaN.
_LOWEST = -1e30


Heads = Float[Tensor, "tokens heads head_dim"]
Outputs = Float[Tensor, "tokens heads value_dim"]


class PackedAttention:
    """Replaces the attention implementation of a stack's attention modules while it is entered.

    `parts` are pairs of an attention module and its W_O. Set `call` before each layer. Modules that are not among them
    (cross-attention) get plain attention over the keys they bring.
    """

    def __init__(self, parts: Sequence[tuple[nn.Module, nn.Module]]):
        modules = [module for module, _ in parts]
        self._projections = [projection for _, projection in parts]
        self._modules = {id(module) for module in modules}
        self._configurations = list({id(config): config for module in modules if (config := getattr(module, "config", None))}.values())
        if modules and not self._configurations:
            raise UnsupportedError(f"{type(modules[0]).__name__}: its attention implementation cannot be replaced (it has no config)")
        # Others (flash, flex) take windows and masks in forms of their own, which a recording does not show.
        used = {config._attn_implementation for config in self._configurations}
        if not used <= _REPLACED:
            others = ", ".join(sorted(map(str, used - _REPLACED)))
            raise UnsupportedError(f"its attention implementation is {others}; replay knows eager and sdpa")
        self._implementations = used
        self._before: list[str] = []
        self._read: dict[tuple[nn.Module, str], bool] = {}
        self.call: AttentionCall | None = None

    @contextmanager
    def installed(self) -> Iterator[PackedAttention]:
        """Replace the implementation; what was there comes back whatever happens in between."""
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        with FUNCTION_TABLE, ExitStack() as stack:
            for projection in self._projections:
                # In front of other hooks: edits of the heads act on what was given.
                handle = projection.register_forward_pre_hook(self._give, prepend=True)
                stack.callback(handle.remove)
            before = self._before = [config._attn_implementation for config in self._configurations]
            ALL_ATTENTION_FUNCTIONS[IMPLEMENTATION] = self._attend
            try:
                self._name([IMPLEMENTATION] * len(before))
                yield self
            finally:
                self._name(before)
                del ALL_ATTENTION_FUNCTIONS[IMPLEMENTATION]
                self.call = None

    @contextmanager
    def standing_aside(self) -> Iterator[None]:
        """While entered, attention is as the model has it: where an encoder and its decoder share a configuration (BART)."""
        try:
            self._name(self._before)
            yield
        finally:
            self._name([IMPLEMENTATION] * len(self._configurations))

    def _name(self, implementations: Sequence[str]) -> None:
        for config, implementation in zip(self._configurations, implementations, strict=True):
            config._attn_implementation = implementation

    def _attend(
        self,
        module: nn.Module,
        query: Float[Tensor, "1 heads tokens head_dim"],
        key: Float[Tensor, "1 key_value_heads keys head_dim"],
        value: Float[Tensor, "1 key_value_heads keys value_dim"],
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **arguments: Any,
    ) -> tuple[Float[Tensor, "1 tokens heads value_dim"], None]:
        """An attention function as Hugging Face layers call it."""
        call = self.call
        assert call is not None
        # Switches and counts are for caches and outputs; numbers and tensors would take part in the arithmetic.
        unknown = [name for name, given in arguments.items() if isinstance(given, (float, torch.Tensor)) and name not in _KNOWN_ARGUMENTS]
        if used := [name for name in unknown if name not in call.handed or self._reads(module, name)]:
            raise UnsupportedError(f"{type(module).__name__}: attention with {used[0]!r} cannot be replayed")
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        if id(module) not in self._modules:
            return _over_given_keys(query, key, value, attention_mask, scaling), None
        call.answered = True
        window = arguments.get("sliding_window")
        if window is not None and any(one.allowed is None and one.length > window for one in call.recorded.values()):
            raise UnsupportedError(f"{type(module).__name__}: a window of {window} positions without a mask cannot be replayed")
        if call.only_keys:
            call.own = (key[0].transpose(0, 1), value[0].transpose(0, 1))
            raise KeysFound
        if call.own is None:
            call.own = (key[0].transpose(0, 1), value[0].transpose(0, 1))
        bias = arguments.get("position_bias")
        with call.counting.paused() if call.counting is not None else nullcontext():
            output = attend(call, query[0].transpose(0, 1), scaling, arguments.get("softcap"), bias[0] if bias is not None else None)
        return output[None], None

    def _give(self, projection: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        """Put what the recordings hold at W_O's input in the place of what these rows computed."""
        if self.call is None or not self.call.given:
            return None
        hidden = args[0].clone()
        flat = hidden.view(-1, hidden.shape[-1])
        for span in self.call.queries.spans:
            if span.row in self.call.given:
                positions = torch.as_tensor(span.positions, device=flat.device)
                flat[span.offset : span.offset + len(positions)] = self.call.recorded[span.row].output[positions]
        return (hidden, *args[1:])

    def _reads(self, module: nn.Module, name: str) -> bool:
        """Whether the attention function that was replaced may look at an argument of this name."""
        if (module, name) not in self._read:
            from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

            own = getattr(sys.modules.get(type(module).__module__), "eager_attention_forward", None)
            used = {"sdpa": ALL_ATTENTION_FUNCTIONS["sdpa"], "eager": own}
            functions = [used[implementation] for implementation in self._implementations]
            try:
                self._read[module, name] = any(name in inspect.getsource(function) for function in functions)
            except (TypeError, OSError):
                self._read[module, name] = True  # no source to look at
        return self._read[module, name]


def _over_given_keys(
    query: Float[Tensor, "1 heads tokens head_dim"],
    key: Float[Tensor, "1 key_value_heads keys head_dim"],
    value: Float[Tensor, "1 key_value_heads keys value_dim"],
    mask: Tensor | None,
    scaling: float,
) -> Float[Tensor, "1 tokens heads value_dim"]:
    grouped = key.shape[1] != query.shape[1]
    output = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=grouped)
    return output.transpose(1, 2)


def attend(
    call: AttentionCall,
    query: Heads,
    scaling: float,
    softcap: float | None = None,
    bias: Float[Tensor, "heads positions positions"] | None = None,
) -> Outputs:
    """Attention of packed queries over prefix and own keys.

    `bias` is added to the scores by position (T5's relative positions).
    """
    assert call.own is not None
    # Given rows stay 0: what W_O gets of them is put in its place behind whatever a family does between.
    output = query.new_zeros(query.shape[0], query.shape[1], call.own[1].shape[-1])
    for spans in _buckets(call):
        _Bucket(call, spans, query.device).attend(query, output, _Rule(scaling, softcap, bias))
    return output


def _buckets(call: AttentionCall) -> Iterator[list[Span]]:
    """Spans whose attention can be computed together, each with about the same number of own keys: padding then wastes little.

    Runs that share a prefix or a mask must be of one prompt; runs that compute all positions need only be of one length.
    """
    kinds: dict[tuple[bool, int], list[Span]] = defaultdict(list)
    for span in call.queries.spans:
        if span.row not in call.given:
            recorded = call.recorded[span.row]
            alone = call.starts[span.row] > 0 or recorded.allowed is not None
            kinds[alone, id(recorded) if alone else recorded.length].append(span)

    def size(span: Span) -> int:
        return len(call.keys.span(span.row).positions)  # type: ignore[union-attr]

    for spans in kinds.values():
        yield from of_like_length(spans, size)


@dataclass(frozen=True, eq=False)
class _Rule:
    """How scores come about: `bias` `[heads, positions, positions]` is added by position (T5's relative positions)."""

    scaling: float
    softcap: float | None
    bias: Float[Tensor, "heads positions positions"] | None

    def scores(
        self, queries: Float[Tensor, "*heads queries head_dim"], keys: Float[Tensor, "*heads keys head_dim"]
    ) -> Float[Tensor, "*heads queries keys"]:
        """Scaled (and capped) scores, in float32 at least, as softmax is computed everywhere."""
        raw = (queries * self.scaling) @ keys.transpose(-1, -2)
        scores = raw.to(torch.promote_types(raw.dtype, torch.float32))
        return scores.div_(self.softcap).tanh_().mul_(self.softcap) if self.softcap else scores


@dataclass(frozen=True, eq=False)
class _Part:
    """Attention over some of the keys, not yet normalised: weighted values, largest score and sum of weights."""

    values: Float[Tensor, "*heads tokens head_dim"]
    largest: Float[Tensor, "*heads tokens 1"]
    total: Float[Tensor, "*heads tokens 1"]


def _part(scores: Float[Tensor, "*heads queries keys"], values: Float[Tensor, "*heads keys head_dim"]) -> _Part:
    largest = scores.amax(-1, keepdim=True)
    weights = scores.sub_(largest).exp_()
    return _Part((weights.to(values.dtype) @ values).to(weights.dtype), largest, weights.sum(-1, keepdim=True))


def _joined(parts: Sequence[_Part]) -> Float[Tensor, "heads tokens head_dim"]:
    """The softmax over the keys of all parts; a query that may look nowhere outputs 0, as an ablation would."""
    largest = torch.stack([part.largest for part in parts]).amax(0)
    shares = [(part.largest - largest).exp() for part in parts]
    values = torch.stack([part.values * share for part, share in zip(parts, shares, strict=True)]).sum(0)
    total = torch.stack([part.total * share for part, share in zip(parts, shares, strict=True)]).sum(0)
    return (values / total).masked_fill(largest <= _LOWEST / 2, 0.0)


class _Bucket:
    """Runs of similar length whose attention is computed together."""

    def __init__(self, call: AttentionCall, spans: Sequence[Span], device: torch.device):
        self.call = call
        self.recorded = call.recorded[spans[0].row]
        self.asked = padded(spans, device)
        self.held = padded([call.keys.span(span.row) for span in spans], device)  # type: ignore[misc]
        self.starts = torch.tensor([call.starts[span.row] for span in spans], device=device)
        self.shared, self.least = int(self.starts.max()), int(self.starts.min())
        self.blocks = [(row, block) for row, span in enumerate(spans) for block in call.blocks.get(span.row, ())]
        self._real = self.asked.real.reshape(-1)

    def attend(self, query: Heads, output: Outputs, rule: _Rule) -> None:
        """Write these runs' part of `output`; both are packed `[tokens, heads, head_dim]`."""
        if self.shared == 0 and not self.blocks and rule.softcap is None and rule.bias is None:
            found = self._fused(query, rule).transpose(1, 2)
            if self.asked.together is None:
                output[self.asked.tokens[self.asked.real]] = found[self.asked.real]
            else:
                self.asked.of(output).copy_(found)
            return
        tokens = self.asked.tokens.reshape(-1)[self._real]
        parts = [self._own(query, rule)]
        if self.shared:
            parts += self._prefix(query[tokens], rule)
        output[tokens] = _joined(parts).transpose(0, 1).to(output.dtype)

    def _rectangles(
        self, query: Heads
    ) -> tuple[
        Float[Tensor, "runs heads queries head_dim"],
        Float[Tensor, "runs key_value_heads keys head_dim"],
        Float[Tensor, "runs key_value_heads keys value_dim"],
    ]:
        """Queries, own keys and own values by run."""
        keys, values = self.call.own  # type: ignore[misc]
        parts = (self.asked.of(query), self.held.of(keys), self.held.of(values))
        return tuple(part.transpose(1, 2) for part in parts)  # type: ignore[return-value]

    def _fused(self, query: Heads, rule: _Rule) -> Float[Tensor, "runs heads queries value_dim"]:
        """The library's own kernel, for runs that share nothing."""
        q, k, v = self._rectangles(query)
        complete = self.asked.full and self.held.full and q.shape[2] == k.shape[2] == self.recorded.length
        plain = complete and self.recorded.allowed is None
        mask = None
        if not plain:
            mask = self.recorded.allowed[None, None] if complete else self._may_see(self.held.positions)[:, None]  # type: ignore[index]
            if not complete:
                mask = mask & self.held.real[:, None, None]
        return scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=plain and self.call.causal, scale=rule.scaling, enable_gqa=q.shape[1] != k.shape[1]
        )

    def _own(self, query: Heads, rule: _Rule) -> _Part:
        q, k, v = self._rectangles(query)
        runs, heads, queries, size = q.shape
        groups = heads // k.shape[1]
        scores = rule.scores(q.reshape(runs, k.shape[1], groups * queries, size), k).view(runs, heads, queries, -1)
        if rule.bias is not None:
            scores += rule.bias[:, self.asked.positions[:, :, None], self.held.positions[:, None, :]].transpose(0, 1)
        seen = (self._may_see(self.held.positions) & self.held.real[:, None])[:, None]
        scores = scores.masked_fill_(~self._without_blocks(seen, self.held.positions, heads), _LOWEST)
        part = _part(scores.view(runs, k.shape[1], groups * queries, -1), v)

        def packed(value: Tensor) -> Float[Tensor, "heads tokens _"]:
            return value.view(runs, heads, queries, -1).transpose(0, 1).reshape(heads, runs * queries, -1)[:, self._real]

        return _Part(packed(part.values), packed(part.largest), packed(part.total))

    def _prefix(self, query: Heads, rule: _Rule) -> list[_Part]:
        """Attention over the keys that these runs share, for packed queries `[tokens, heads, head_dim]`."""
        plain = not self.blocks and self.recorded.allowed is None and rule.softcap is None and rule.bias is None
        # Every query sees the keys before the earliest start: no mask is needed, and the library's kernel can be used. It takes values
        # as wide as keys only (latent attention has narrower ones).
        even = self.recorded.prefix[0].shape[-1] == self.recorded.prefix[1].shape[-1]  # type: ignore[index]
        if not (plain and even and self.least and query.device.type == "cpu"):
            return [self._scored_prefix(query, rule, 0)]
        parts = [self._fused_prefix(query, rule)]
        return parts if self.least == self.shared else [*parts, self._scored_prefix(query, rule, self.least)]

    def _fused_prefix(self, query: Heads, rule: _Rule) -> _Part:
        keys, values = (value[None, :, : self.least] for value in self.recorded.prefix)  # type: ignore[union-attr]
        # The kernel behind the library's attention on a CPU, called by its own name because only so it gives the log of the sum.
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        found, log_total = kernel(self._grouped(query, keys.shape[1])[None], keys, values, 0.0, False, scale=rule.scaling)
        total = torch.ones_like(log_total)
        return self._ungrouped(_Part(found[0].to(log_total.dtype), log_total[0].unsqueeze(-1), total[0].unsqueeze(-1)), query)

    def _scored_prefix(self, query: Heads, rule: _Rule, first: int) -> _Part:
        """Over the shared keys from `first` on, masked."""
        keys, values = (value[:, first : self.shared] for value in self.recorded.prefix)  # type: ignore[union-attr]
        tokens, heads = query.shape[:2]
        scores = rule.scores(self._grouped(query, len(keys)), keys).view(heads, tokens, -1)
        every = torch.arange(first, self.shared, device=query.device)
        if rule.bias is not None:
            scores += rule.bias[:, self.asked.positions.reshape(-1)[self._real], first : self.shared]
        if self.blocks or self.recorded.allowed is not None:
            rows = every.expand(len(self.starts), -1)
            seen = (self._may_see(rows) & (every < self.starts[:, None])[:, None])[:, None]
            seen = self._without_blocks(seen, rows, heads).transpose(0, 1).flatten(1, 2)[:, self._real]
            scores = scores.masked_fill_(~seen, _LOWEST)
        elif self.least < self.shared:
            row = torch.arange(len(self.starts), device=query.device)[:, None].expand_as(self.asked.positions).reshape(-1)[self._real]
            masked = max(self.least, first)
            late = every[masked - first :] >= self.starts[row][:, None]
            scores[..., masked - first :].masked_fill_(late, _LOWEST)
        return self._ungrouped(_part(scores.view(len(keys), -1, scores.shape[-1]), values), query)

    def _grouped(self, query: Heads, key_value_heads: int) -> Float[Tensor, "key_value_heads queries head_dim"]:
        """Queries (of all its heads) by the key-value head that they look at."""
        tokens, _, size = query.shape
        return query.reshape(tokens, key_value_heads, -1, size).permute(1, 2, 0, 3).reshape(key_value_heads, -1, size)

    def _ungrouped(self, part: _Part, query: Heads) -> _Part:
        tokens, heads = query.shape[:2]
        return _Part(*(value.reshape(heads, tokens, -1) for value in (part.values, part.largest, part.total)))

    def _may_see(self, positions: Int[Tensor, "runs keys"]) -> Bool[Tensor, "runs queries keys"]:
        """Which keys at `positions` each query may see by the recorded mask."""
        asked, held = self.asked.positions[:, :, None], positions[:, None, :]
        if self.recorded.allowed is not None:
            return self.recorded.allowed[asked, held]
        return held <= asked if self.call.causal else torch.ones_like(held <= asked)

    def _without_blocks(
        self, seen: Bool[Tensor, "runs 1 queries keys"], positions: Int[Tensor, "runs keys"], heads: int
    ) -> Bool[Tensor, "runs _ queries keys"]:
        """`seen` after the knockouts of these runs."""
        if not self.blocks:
            return seen
        seen = seen.expand(-1, heads, -1, -1).clone()
        for row, block in self.blocks:
            targets = torch.isin(self.asked.positions[row], torch.tensor(block.targets, device=seen.device))
            sources = torch.isin(positions[row], torch.tensor(block.sources, device=seen.device))
            cut = targets[:, None] & sources[None, :]
            for head in range(heads) if block.heads is None else block.heads:
                seen[row, head] &= ~cut
        return seen
