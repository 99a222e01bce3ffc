"""Installs third-party plugins as real distributions on sys.path: modules beside a dist-info folder with entry points."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

Install = Callable[..., Path]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes side by side: one thread each, or they fight over the same cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """A slow test may take half an hour where it doesn't say otherwise: on a busy machine the usual limit ended sound ones."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install("acme-vlm", acme=SOURCE)`: a distribution with one plugin module per keyword."""
    before = set(sys.modules)
    site = tmp_path / "site"
    site.mkdir()

    def make(distribution: str, version: str = "1.0", requires: Sequence[str] = (), **plugins: str) -> Path:
        folder = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        module_of = {name: re.sub(r"\W", "_", f"{distribution}_{name}_module") for name in plugins}
        for name, source in plugins.items():
            (site / f"{module_of[name]}.py").write_text(source, encoding="utf-8")
        lines = [f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
        points = "\n".join(f"{name} = {module_of[name]}" for name in plugins)
        (folder / "entry_points.txt").write_text(f"[vseam]\n{points}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(site))
        return site

    yield make
    for name in set(sys.modules) - before:
        if name.endswith("_module") or name.startswith("acme"):
            del sys.modules[name]
