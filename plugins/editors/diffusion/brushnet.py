"""The BrushNet branch of PowerPaint v2, and its injection into a stock UNet.

BrushNet (Ju et al. 2024, arXiv 2403.06976) is a second UNet without output that sees the image with a hole; a 1×1 convolution of each
of its hidden states is added to the same state of the UNet that paints. PowerPaint v2 keeps the cross-attention that BrushNet dropped, for
its task prompts. Both are built of diffusers' own blocks: nothing is forked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

CONDITION_CHANNELS = 5
"""Four latent channels of the image with a hole, and one that is 1 where the image is kept."""


@dataclass(frozen=True)
class Residuals:
    """What is added to the states of a UNet: after `conv_in` and each layer on the way down, after the middle, after each layer up."""

    down: Sequence[torch.Tensor]
    middle: torch.Tensor
    up: Sequence[torch.Tensor]


class BrushNetModel(nn.Module):
    """A UNet trunk with 4 + 5 input channels and a 1×1 convolution for each state that it gives away.

    `config` is that of the UNet that paints (or of the branch itself where its publisher ships one). Parameters have the names of the
    published checkpoint.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        settings = {key: value for key, value in config.items() if not key.startswith("_")}
        settings["in_channels"] = config["out_channels"] + CONDITION_CHANNELS
        trunk = UNet2DConditionModel.from_config(settings)
        self.conv_in_condition = trunk.conv_in
        self.time_proj, self.time_embedding = trunk.time_proj, trunk.time_embedding
        self.down_blocks, self.mid_block, self.up_blocks = trunk.down_blocks, trunk.mid_block, trunk.up_blocks
        widths = list(config["block_out_channels"])
        self.brushnet_down_blocks = _taps([widths[0], *_widths(self.down_blocks, widths)])
        self.brushnet_mid_block = _taps([widths[-1]])[0]
        self.brushnet_up_blocks = _taps(_widths(self.up_blocks, widths[::-1]))

    def forward(self, sample: torch.Tensor, timestep: Any, context: torch.Tensor, condition: torch.Tensor, scale: float = 1.0) -> Residuals:
        """The residuals, times `scale`, for a noisy `sample` `[batch, 4, height, width]` beside its `condition` `[batch, 5, …]`.

        `context` `[batch, tokens, width]` are the embedded task prompts.
        """
        steps = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(sample.shape[0])
        time = self.time_embedding(self.time_proj(steps).to(sample.dtype))
        state = self.conv_in_condition(torch.cat([sample, condition], dim=1))
        skips = [state]
        for block in self.down_blocks:
            state, passed = block(state, temb=time, **_context(block, context))
            skips += passed
        down = [tap(skip) * scale for tap, skip in zip(self.brushnet_down_blocks, skips, strict=True)]
        state = self.mid_block(state, time, **_context(self.mid_block, context))
        middle = self.brushnet_mid_block(state) * scale
        states = []
        for block in self.up_blocks:
            for resnet, attention in _layers(block):
                state = resnet(torch.cat([state, skips.pop()], dim=1), time)
                if attention is not None:
                    state = attention(state, encoder_hidden_states=context, return_dict=False)[0]
                states.append(state)
            for resampler in _resamplers(block):
                state = resampler(state, skips[-1].shape[2:])
                states.append(state)
        return Residuals(down, middle, [tap(state) * scale for tap, state in zip(self.brushnet_up_blocks, states, strict=True)])


@contextmanager
def injected(unet: Any, residuals_of: Callable[[torch.Tensor, Any], Residuals]) -> Iterator[None]:
    """While active, each forward pass of a stock UNet first asks `residuals_of(sample, timestep)`, then adds them inside.

    The first residual enters the trunk after `conv_in`, but not the long skip connection (as in the published code). On leaving,
    also by an error, all hooks are gone.
    """
    held: dict[tuple[str, int], torch.Tensor] = {}
    down, up = _sites(unet.down_blocks), _sites(unet.up_blocks)

    def ask(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample = args[0] if args else kwargs["sample"]
        timestep = args[1] if len(args) > 1 else kwargs["timestep"]
        found = residuals_of(sample, timestep)
        if len(found.down) != len(down) + 1 or len(found.up) != len(up):
            raise ValueError(f"the branch has {len(found.down)} + {len(found.up)} states, the UNet {len(down) + 1} + {len(up)}")
        held.update({("down", number): value for number, value in enumerate(found.down)})
        held.update({("up", number): value for number, value in enumerate(found.up)})
        held["middle", 0] = found.middle

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (args[0] + held["down", 0], *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + held["down", 0]}

    def adding(*key: Any) -> Callable[..., Any]:
        def add(module: nn.Module, args: Any, output: Any) -> Any:
            return (output[0] + held[key], *output[1:]) if isinstance(output, tuple) else output + held[key]

        return add

    with ExitStack() as stack:
        stack.callback(held.clear)
        handles = [unet.register_forward_pre_hook(ask, with_kwargs=True)]
        stack.callback(handles[-1].remove)
        handles.append(unet.down_blocks[0].register_forward_pre_hook(enter, with_kwargs=True))
        stack.callback(handles[-1].remove)
        sites = [*((module, ("down", number + 1)) for number, module in enumerate(down)), (unet.mid_block, ("middle", 0))]
        for module, key in [*sites, *((module, ("up", number)) for number, module in enumerate(up))]:
            stack.callback(module.register_forward_hook(adding(*key)).remove)
        yield


def _layers(block: Any) -> list[tuple[nn.Module, nn.Module | None]]:
    """A block's residual layers, each with the attention that follows it."""
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return list(zip(block.resnets, attentions, strict=True))


def _resamplers(block: Any) -> list[nn.Module]:
    return list(getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None) or [])


def _sites(blocks: Any) -> list[nn.Module]:
    """The modules whose outputs are the states of the blocks, in order."""
    return [module for block in blocks for module in [*(attention or resnet for resnet, attention in _layers(block)), *_resamplers(block)]]


def _widths(blocks: Any, widths: list[int]) -> list[int]:
    return [width for block, width in zip(blocks, widths, strict=True) for _ in range(len(block.resnets) + len(_resamplers(block)))]


def _taps(widths: list[int]) -> nn.ModuleList:
    """1×1 convolutions that begin with zeros: a branch without weights changes nothing."""
    taps = nn.ModuleList(nn.Conv2d(width, width, kernel_size=1) for width in widths)
    for parameter in taps.parameters():
        nn.init.zeros_(parameter)
    return taps


def _context(block: Any, context: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}
