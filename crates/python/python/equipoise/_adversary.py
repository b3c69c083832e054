"""The inner attack of adversarial training, for a training loop in PyTorch."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import torch

from . import _equipoise, _torch
from ._deq import Examined


def adversary(
    model: Examined,
    x: Any,
    y: Any,
    *,
    norm: str = "Linf",
    eps: float = 8 / 255,
    steps: int = 10,
    step_size: Optional[float] = None,
    gradient: Optional[str] = None,
    readout: Optional[str] = None,
    random_start: bool = True,
    seed: int = 0,
    indices: Optional[Sequence[int]] = None,
) -> Any:
    """Images ``[N, C, H, W]`` after all steps of PGD on the cross-entropy, whatever they come to: what adversarial training trains
    on. Verifies nothing; to measure robustness use :func:`evaluate`.

    Parameters
    ----------
    model : Deq or Model
        For a plain network PyTorch's own loop does the same.
    x, y
        Images in [0, 1] and true classes ``[N]``.
    norm, eps, steps
        ``"Linf"`` or ``"L2"``, radius and number of steps.
    step_size : float, optional
        Length of a step; eps/4 unless given.
    gradient, readout : str, optional
        The estimator and the readout that are attacked; the deployed ones unless given.
    random_start : bool
        Whether to begin anywhere in the ball rather than at x.
    seed : int
        Of the starts: give another one at every step of training.
    indices : sequence of int, optional
        What an image's start is drawn by, beside the seed; 0, 1, .. unless given.

    Returns
    -------
    Tensor
        On the device and in the precision of ``x``, off autograd.
    """
    if not isinstance(model, Examined):
        raise ValueError("adversary attacks through a DEQ's estimators: give an equipoise.Deq or a model by equipoise.load")
    x, images, labels = _torch.points(x, y)
    prepared = model._prepared(images, _torch.warn)
    _torch.below(labels, model.classes)
    options: _equipoise.AdversaryOptions = {
        "deployment": model.deployment,
        "readout": model._readout(readout),
        "gradient": model._gradient(gradient),
        "labels": list(labels),
        "indices": _torch.rows(indices, len(labels)),
        "norm": norm,
        "eps": eps,
        "steps": steps,
        "step_size": step_size,
        "random_start": random_start,
        "seed": seed,
    }
    return torch.from_numpy(_equipoise.adversary(prepared, images, options)).to(x)
