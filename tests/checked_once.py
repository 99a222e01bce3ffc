"""The check of an embedded model's engine takes a second of every workspace that a test opens: here it runs once per process and setting.

What the check finds is tested in `engine/` and `cli/test_doctor.py`, which call it, or run it first, as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def checked_once() -> Iterator[None]:
    """Within this context a check of the same embedded weights in the same setting gives the record of the first one."""
    from vseam_core.engine import selfcheck

    whole, known = selfcheck.trust_record, {}

    def check(model: Any, engine: Any) -> dict[str, Any]:
        info = model.info
        setting = (type(engine), info.name, info.weights_hash, info.dtype, info.attention, info.device, getattr(model, "template", None))
        embedded = Path(info.source).parts[-3:-1] == ("zoo", "checkpoints")
        if not embedded or engine.memory_budget < 2**30:
            return whole(model, engine)
        if setting not in known:
            known[setting] = whole(model, engine), engine.alone_because, engine.no_lens_because
        record, alone, no_lens = known[setting]
        if alone:
            engine.answer_alone(alone)
        engine.no_lens_because = no_lens
        return copy.deepcopy(record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selfcheck, "trust_record", check)
        yield
