"""Attacks written in Python: what they are given, and what the Rust side sees of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, List, Protocol, runtime_checkable

import numpy as np
import torch

from ._torch import Classifier, gradient


@dataclass(frozen=True)
class Batch:
    """The points that an attack is to break: those that stand when its turn comes.

    Attributes
    ----------
    images : Tensor ``[N, C, H, W]``
        Unperturbed, in [0, 1], on the model's device and in its precision.
    labels : Tensor ``[N]``
        True classes.
    indices : list of int
        Where they stand in their data set. What an attack finds for a point should depend on the point alone, so random
        numbers are drawn by this: see :meth:`rng`.
    norm, eps : str, float
        The budget, in units of pixel intensity.
    seed, start : int
        The evaluation's seed, and which of several starts this is.
    """

    images: Any
    labels: Any
    indices: List[int]
    norm: str
    eps: float
    seed: int
    start: int

    def rng(self, row: int) -> np.random.Generator:
        """Random numbers of the point in this row: the same whatever the batch, the order, or an interruption."""
        return np.random.default_rng([self.seed, self.start, self.indices[row]])


class WhiteBox:
    """The model under attack."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def logits(self, images: Any) -> Any:
        """Logits ``[N, K]``, off autograd."""
        with torch.no_grad():
            return self._classifier.checked(self._classifier.model(images), images)

    def gradient(self, images: Any, objective: Callable[[Any], Any]) -> Any:
        """Gradient ``[N, C, H, W]`` of the sum of an objective, a function from logits ``[N, K]`` to values ``[N]``.

        Raises
        ------
        RuntimeError
            If the objective does not depend on the images as far as autograd sees.
        """
        with torch.inference_mode(False), torch.enable_grad():
            x = images.detach().clone().requires_grad_(True)
            total = objective(self._classifier.checked(self._classifier.model(x), x)).sum()
        return gradient(total, x, None)


@runtime_checkable
class Attack(Protocol):
    """An attack: an object with one method.

    It may also have ``name`` (the class's unless given), ``settings`` (a string that says what its results depend on: a
    journal is resumed with the same settings only), and ``gradient_free = True`` if it never asks for a gradient.
    """

    def attempt(self, model: WhiteBox, batch: Batch) -> Any:
        """Candidates ``[N, C, H, W]``, one per point. They are projected onto the budget and [0, 1], and each is judged by
        a forward pass of its own: nothing need be right."""


class Written:
    """An attack as the Rust side sees it."""

    def __init__(self, attack: Attack, classifier: Classifier, norm: str, eps: float) -> None:
        self._attack, self._classifier, self._norm, self._eps = attack, classifier, norm, eps
        self.name = str(getattr(attack, "name", type(attack).__name__))
        self.settings = str(getattr(attack, "settings", self.name))
        self.gradient_free = bool(getattr(attack, "gradient_free", False))

    def attempt(
        self, images: np.ndarray[Any, Any], labels: List[int], indices: List[int], seed: int, start: int
    ) -> np.ndarray[Any, Any]:
        x = self._classifier.images(images)
        y = torch.tensor(labels, device=x.device)
        batch = Batch(x, y, indices, self._norm, self._eps, seed, start)
        found = self._attack.attempt(WhiteBox(self._classifier), batch)
        if not isinstance(found, torch.Tensor) or found.shape != x.shape:
            given = list(found.shape) if hasattr(found, "shape") else type(found).__name__
            raise ValueError(f"{self.name}: attempt must return a tensor of shape {list(x.shape)} and returned {given}")
        array: np.ndarray[Any, Any] = found.detach().to("cpu", torch.float32).contiguous().numpy()
        return array
