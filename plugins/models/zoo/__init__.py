"""The embedded models: tiny vision-language models trained on the scenes world, shipped with the package.

Nothing heavy is imported here; `training.train` makes the checkpoints again from nothing.
"""

from __future__ import annotations

from pathlib import Path

# The name of each shipped checkpoint → what it is: an architecture trained in a world (`vseam zoo train NAME --world WORLD`).
EMBEDDED: dict[str, tuple[str, str]] = {
    "llava-tiny": ("llava-tiny", "uniform"),
    "llava-tiny-skewed": ("llava-tiny", "skewed"),
    "instructblip-tiny": ("instructblip-tiny", "uniform"),
}
CHECKPOINT_NAMES = tuple(EMBEDDED)


def checkpoint_name(architecture: str, world: str) -> str:
    """What a checkpoint of an architecture trained in a world is called: the world is only said where it is not the uniform one."""
    return architecture if world == "uniform" else f"{architecture}-{world}"


def checkpoint_path(name: str) -> Path:
    """Find the shipped checkpoint folder of an embedded model, ready for the `Auto*` classes of transformers.

    Raises KeyError if the zoo has no model of that name, FileNotFoundError if its folder was not shipped.
    """
    if name not in CHECKPOINT_NAMES:
        raise KeyError(f"no embedded model named {name!r}; known: {', '.join(CHECKPOINT_NAMES)}")
    folder = Path(__file__).parent / "checkpoints" / name
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"the checkpoint of {name} is missing at {folder}; train it: vseam zoo train {name}")
    return folder
