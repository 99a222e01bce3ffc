"""The methods of the package `mitigv` as they are: its own implementations decode, one question at a time.

It works with LLaVA and Qwen2.5-VL. What it is given is this package's prompt, written by the checkpoint's own processor.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from vseam_core.api.generation import Decoded, GenerationContext, OwnGeneration
from vseam_core.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

FAMILIES = {"llava": "llava", "qwen2_5_vl": "qwen2.5-vl"}
# Settings to choose among, beside each algorithm's own defaults, which come first.
_SETTINGS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "vcd": ({"alpha": 0.5}, {"alpha": 2.0}),
    "icd": ({"lam": 0.5},),
    "pai": ({"alpha": 0.5}, {"gamma": 1.5}, {"alpha": 0.5, "gamma": 1.5}),
    "m3id": ({"alpha": 0.9, "forgetting_rate": 0.5}, {"alpha": 1.0, "forgetting_rate": 1.0}),
    "vista": ({"steer_strength": 0.1}, {"steer_strength": 0.3}),
    "agla": ({"alpha": 0.5}, {"alpha": 2.0}),
    "only": ({"alpha1": 1.0}, {"gamma": 1.0}),
    "opera": ({"penalty_weight": 0.1},),
}
# Their attention is written out and reads the mask that a layer is given. The library gives none with sdpa, where causal goes without
# saying: amplified layers would look ahead in the prompt (findings/mitigv-pai-causal-mask.sh).
_READS_MASKS = ("pai",)
# They answer without the image too; it is taken away from prompts that say <image>, as LLaVA's do.
_WITHOUT_IMAGE = ("m3id", "pai", "vista")
# What Qwen2.5-VL is given beside its pixels is left out by them (0.1.7): its forward pass fails.
_WITHOUT_GRID = {
    "agla": "its pass for the salient region leaves out where patches lie (image_grid_thw)",
    "opera": "it copies an image's patches for its beams as if each were an image",
}


class MitigvMethod(OwnGeneration):
    """One algorithm of `mitigv`; `options` are the fields of its configuration (`alpha`, `beta`, …), by default its own defaults.

    Raises `ValueError` for options that it refuses.
    """

    name: ClassVar[str] = "mitigv"

    def __init__(self, algorithm: str, **options: Any) -> None:
        from mitigv.core.registry import get_mitigator_class

        self.algorithm = algorithm
        self._kind = get_mitigator_class(algorithm)
        self._config = self._kind.config_class.from_dict(options)

    def options(self) -> Mapping[str, object]:
        """The algorithm, the package's version, and every field of its configuration but the number of tokens and the seed."""
        fields = {name: value for name, value in self._config.to_dict().items() if name not in ("max_new_tokens", "seed")}
        return {"algorithm": self.algorithm, "mitigv": importlib.metadata.version("mitigv"), **fields}

    def settings(self) -> Sequence[Mapping[str, object]]:
        """The package's defaults, then others."""
        return ({}, *_SETTINGS.get(self.algorithm, ()))

    def generate(self, context: GenerationContext, max_new_tokens: int) -> Decoded:
        """The package's answer, and the logits that chose its first token where it chooses tokens one by one (OPERA searches beams)."""
        import torch

        first: list[torch.Tensor] = []
        try:
            module = context.model.module
            with _as_it_was(module), _attention_for(self.algorithm, module), _image_token_named(module.config):
                mitigator = self._mitigator(context, max_new_tokens)
                _watch(mitigator, "_sample_next", lambda logits, *_: first.append(logits[0].clone()))
                text = mitigator.generate(context.image().convert("RGB"), context.prompt.text)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise UnsupportedError(f"mitigv {self.algorithm}: {' '.join(str(error).split())}") from error
        return Decoded(str(text).strip(), first[0].float() if first else None)

    def _mitigator(self, context: GenerationContext, max_new_tokens: int) -> Any:
        from mitigv.backends.factory import adapt_vision_language

        module: Any = context.model.module
        processor = getattr(context.model, "processor", None)
        family = FAMILIES.get(str(getattr(module.config, "model_type", "")))
        if family is None:
            raise UnsupportedError(f"mitigv works with LLaVA and Qwen2.5-VL; {context.model.info.name} is neither")
        if self.algorithm in _WITHOUT_IMAGE and "<image>" not in context.prompt.text:
            raise UnsupportedError(f"mitigv {self.algorithm} takes the image away from LLaVA's prompts only")
        if family != "llava" and self.algorithm in _WITHOUT_GRID:
            raise UnsupportedError(f"mitigv {self.algorithm} does not run with Qwen2.5-VL: {_WITHOUT_GRID[self.algorithm]}")
        if processor is None:
            raise UnsupportedError(f"mitigv needs the processor of a checkpoint; {context.model.info.name} has none")
        model, processor = adapt_vision_language(family, module, processor)
        # Where it looks for the decoder's layers there are none in the library's current LLaVA (findings/mitigv-pai-causal-mask.sh).
        model.language_model = module.model.language_model
        config = self._config.copy(max_new_tokens=max_new_tokens, seed=context.seed)
        mitigator = self._kind(model=model, processor=processor, config=config)
        original = mitigator._prepare_inputs
        checked: list[bool] = []

        def prepare(images: Any, prompt: Any, config: Any) -> Any:
            inputs = original(images, prompt, config)
            if not checked and tuple(inputs["input_ids"][0].tolist()) != context.prompt.ids:
                raise ValueError("its processor writes the question with other tokens than the model is asked in here")
            checked.append(True)
            return inputs

        mitigator._prepare_inputs = prepare
        return mitigator


def _watch(owner: Any, name: str, see: Callable[..., object]) -> None:
    """Show a method's arguments to `see` before each call."""
    original = getattr(owner, name)

    def call(*arguments: Any) -> Any:
        see(*arguments)
        return original(*arguments)

    setattr(owner, name, call)


@contextmanager
def _attention_for(algorithm: str, module: Any) -> Iterator[None]:
    """The library's eager attention, which gives every layer its mask, for algorithms that read it."""
    used = module.config.get_text_config(decoder=True)._attn_implementation
    if algorithm not in _READS_MASKS or used == "eager":
        yield
        return
    module.config.get_text_config(decoder=True)._attn_implementation = "eager"
    try:
        yield
    finally:
        module.config.get_text_config(decoder=True)._attn_implementation = used


@contextmanager
def _image_token_named(config: Any) -> Iterator[None]:
    """The image token under the name by which algorithms look for it: LLaVA's configurations have it, Qwen2.5-VL's call it otherwise."""
    token = getattr(config, "image_token_id", None)
    if token is None or getattr(config, "image_token_index", None) is not None:
        yield
        return
    config.image_token_index = token
    try:
        yield
    finally:
        del config.image_token_index


@contextmanager
def _as_it_was(module: torch.nn.Module) -> Iterator[None]:
    """Afterwards no module has a `forward` of its own that it did not have before."""
    before = {part for part in module.modules() if "forward" in vars(part)}
    try:
        yield
    finally:
        for part in module.modules():
            if part not in before:
                vars(part).pop("forward", None)
