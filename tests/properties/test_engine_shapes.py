"""The shapes that the engine's annotations state are those of its tensors: checked at every call, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
# One of each kind: packed alone and with others, cross-attention, windows, an encoder with a decoder, tiles.
FAMILIES = "(several_lengths and (llava or mllama or gemma3)) or (estimate and (instructblip_t5 or idefics3))"
CHECKED = ",".join(f"vseam_core.engine.{module}" for module in ("attention", "layout", "readouts", "replay_batch"))


def pytest_with_checked_shapes(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--jaxtyping-packages={CHECKED},beartype.beartype"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=TESTS.parent, env=environment, check=False)


def test_replays_of_several_families_keep_to_the_stated_shapes() -> None:
    outcome = pytest_with_checked_shapes(str(TESTS / "engine" / "test_replay.py"), "-k", FAMILIES)
    assert outcome.returncode == 0, outcome.stdout[-3000:]
    assert " passed" in outcome.stdout


def test_a_tensor_of_another_shape_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "test_wrong_shape.py"
    file.write_text(
        "import pytest, torch\n"
        "from jaxtyping import TypeCheckError\n"
        "from vseam_core.engine.layout import Layout, padded\n\n\n"
        "def test_it():\n"
        "    rectangle = padded(Layout([(0, range(3)), (1, range(2))]).spans, torch.device('cpu'))\n"
        "    with pytest.raises(TypeCheckError):\n"
        "        type(rectangle)(rectangle.tokens, rectangle.positions[:1], rectangle.real, False, None)\n"
    )
    outcome = pytest_with_checked_shapes(str(file))
    assert outcome.returncode == 0, outcome.stdout[-3000:]
