"""The verb `vseam zoo`, which this plugin adds to the command line."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from vseam_core.errors import UnknownNameError, did_you_mean

logger = logging.getLogger(__name__)


@click.group(epilog="\b\nExample:\n  vseam zoo train llava-tiny --seed 1")
def zoo() -> None:
    """Train the embedded models again from nothing."""


@zoo.command(epilog="\b\nExample:\n  vseam zoo train llava-tiny --seed 1 --output checkpoints/llava-tiny-1")
@click.argument("name")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Weights, data and their order follow from it.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the checkpoint (default: NAME-seed-S); an interrupted run goes on there.",
)
@click.option(
    "--world",
    type=click.Choice(["uniform", "skewed"]),
    help="The world it learns (default: the one of NAME); in the skewed one some colours nearly always go with some objects.",
)
@click.option("--device", default="auto", envvar="VSEAM_DEVICE", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but where the checkpoint is.")
def train(name: str, seed: int, output: Path | None, world: str | None, device: str, quiet: bool) -> None:
    """Train NAME (llava-tiny, llava-tiny-skewed or instructblip-tiny) and save a checkpoint folder with its log and model card.

    Under an hour on a CPU, minutes on a GPU. The folder can be used as a model's name: `--model ./NAME-seed-S`.
    """
    from vseam_plugins.models.zoo import CHECKPOINT_NAMES, EMBEDDED, checkpoint_name

    if name not in CHECKPOINT_NAMES:
        raise UnknownNameError(f"the zoo has no model {name!r}; {did_you_mean(name, CHECKPOINT_NAMES)}")
    from vseam_plugins.models.zoo.training import train as train_model

    architecture, own_world = EMBEDDED[name]
    world = world or own_world
    folder = output or Path(f"{checkpoint_name(architecture, world)}-seed-{seed}")

    silent = quiet or bool(click.get_current_context().find_root().params.get("quiet"))

    def log(line: str) -> None:
        logger.debug("%s", line)
        if not silent:
            click.echo(line, err=True)

    train_model(architecture, seed, folder, world=world, log=log, device=_device(device))
    click.echo(str(folder))


@zoo.command(epilog="\b\nExample:\n  vseam zoo teach llava-tiny --output checkpoints/llava-tiny-forms")
@click.argument("name")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The data and their order follow from it.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), help="The folder of the new checkpoint (default: NAME-forms-seed-S)."
)
@click.option("--device", default="auto", envvar="VSEAM_DEVICE", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but where the checkpoint is.")
def teach(name: str, seed: int, output: Path | None, device: str, quiet: bool) -> None:
    """Teach a copy of NAME (llava-tiny or instructblip-tiny) to answer yes/no questions in the form of other levels too.

    Minutes on a CPU. With it the heads of scenes/… and scenes-crossed/… can be compared: is what tasks of a level share due to the level
    or to the form of its questions? (docs/scenes.md)
    """
    from vseam_plugins.models.zoo.networks import NETWORKS

    if name not in NETWORKS:
        raise UnknownNameError(f"the zoo can teach no model {name!r}; {did_you_mean(name, NETWORKS)}")
    from vseam_plugins.models.zoo.both_forms import teach as teach_forms

    folder = output or Path(f"{name}-forms-seed-{seed}")
    silent = quiet or bool(click.get_current_context().find_root().params.get("quiet"))

    def log(line: str) -> None:
        logger.debug("%s", line)
        if not silent:
            click.echo(line, err=True)

    teach_forms(name, folder, seed=seed, log=log, device=_device(device))
    click.echo(str(folder))


def _device(name: str) -> str:
    """`auto` made out: the GPU where there is one."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
