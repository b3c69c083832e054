"""Model files of Equipoise's own, computed without PyTorch."""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Union

import numpy as np

from . import _equipoise
from ._deq import Examined


class Model(Examined):
    """A model file of Equipoise's, by :func:`load`. It is computed by Equipoise's own code, several times faster than in
    PyTorch, and wherever a :class:`Deq` can be used so can it."""

    def __init__(self, native: _equipoise.Native) -> None:
        self._native = native
        self.name = native.name
        self.deployment = native.deployment
        self.described = json.loads(native.metadata)

    @property
    def classes(self) -> int:
        return self._native.classes

    @property
    def is_equilibrium(self) -> bool:
        """Whether it is a DEQ; a feedforward network has one readout and one gradient."""
        return self._native.is_equilibrium

    def _prepared(self, images: np.ndarray[Any, Any], say: Callable[[str], None]) -> Any:
        if tuple(images.shape[1:]) != tuple(self._native.image):
            raise ValueError(f"{self.name} takes images of shape {list(self._native.image)} and got {list(images.shape[1:])}")
        return self._native

    def _identity(self, images: np.ndarray[Any, Any]) -> str:
        return self._native.identity

    def __repr__(self) -> str:
        return f"<Model {self.name}: {self._native.description}>"


def load(path: Union[str, "os.PathLike[str]"]) -> Model:
    """Reads a model file, such as ``equipoise train`` and ``equipoise import`` write.

    Raises
    ------
    ValueError
        If it is none, or damaged.
    OSError
        If it cannot be read.
    """
    return Model(_equipoise.Native.read(os.fspath(path)))
