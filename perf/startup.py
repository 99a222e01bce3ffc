"""`python -m perf.startup`: CPU seconds of whole commands beside a bare script that imports torch, loads the same model and runs it once.

Rounds are interleaved, and the least of each is taken: on a busy machine everything takes longer, never less. `--before FOLDER` measures
another build side by side: a folder with `vseam`, `vseam_core`, `vseam_plugins` and `vseam_cli` in it, or links to them.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import vseam_plugins.models.zoo as zoo

IMAGE = Path(__file__).parents[1] / "examples" / "images" / "dog.png"
MODEL = "llava-tiny"
BARE = """
import sys, torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, image = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
inputs = processor(images=Image.open(image).convert("RGB"), text="<image> Is the dog red?", return_tensors="pt")
with torch.no_grad():
    model(**inputs)
"""
QUESTION = ("--image", str(IMAGE), "--question", "Is the dog red?", "--edit", "red -> blue", "--box", "82,4,118,38")
COMMANDS = {
    "explain": ("explain", "--model", MODEL, *QUESTION, "--output", "page"),
    "heads scan --limit 12": ("heads", "scan", "--model", MODEL, "--dataset", "scenes/color", "--limit", "12"),
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m perf.startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a folder with the packages of another build")
    options = parser.parse_args()
    folder = Path(zoo.__file__).parent / "checkpoints" / MODEL
    works = {("bare script", ""): ([sys.executable, "-c", BARE, str(folder), str(IMAGE)], None)}
    builds = {"": None} | ({"before": options.before} if options.before else {})
    for name, arguments in COMMANDS.items():
        for build, path in builds.items():
            works[name, build] = ([sys.executable, "-m", "vseam", *arguments, "-q"], path)
    least: dict[tuple[str, str], float] = {}
    for _ in range(options.rounds):
        for work, (command, path) in works.items():
            least[work] = min(least.get(work, float("inf")), cpu_seconds(command, path))
    bare = least["bare script", ""]
    for (name, build), seconds in least.items():
        print(f"{name:24} {build:8} {seconds:6.2f} s of CPU, {seconds / bare:.2f} × the bare script")


def cpu_seconds(command: list[str], path: Path | None) -> float:
    """User and system time of a command and of what it starts, in an empty folder of its own."""
    environment = os.environ | ({"PYTHONPATH": str(path.resolve())} if path else {})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
