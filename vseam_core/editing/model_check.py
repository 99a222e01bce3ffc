"""What a check of an edit by a model is: CLIP looks whether the new concept can be seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vseam_core.api.interfaces import EditPlan

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


class ModelCheck(ABC):
    """Checks that need a model. `name` identifies it: an edit that it has looked at is not looked at again."""

    name: str

    @abstractmethod
    def measure(self, clean: Image, corrupt: Image, mask: np.ndarray, plan: EditPlan) -> Mapping[str, float]:
        """Finite numbers by name."""
