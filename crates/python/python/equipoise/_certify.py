"""Lower bounds on robustness, by randomized smoothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Union

import numpy as np

from . import _equipoise, _torch
from ._deq import Examined
from ._diagnose import classes, software
from ._progress import Bars


class Certified:
    """What was certified of the vote over all noise.

    Attributes
    ----------
    radii : ndarray ``[N]``
        For each image the radius within which the vote does not change, in the norm that was asked for; NaN where the method
        abstained.
    classes : ndarray ``[N]``
        The class that the vote gives; −1 where the method abstained.
    record : dict
        Everything, in the layout of the command's ``results.json``.
    """

    def __init__(self, record: str) -> None:
        self._text = record
        self.record: Dict[str, Any] = json.loads(record)
        readout = self.record["models"][0]["readouts"][0]
        self.certificate: Dict[str, Any] = readout["certificates"][0]
        examples = self.certificate["examples"]
        self._labels = np.array([example["label"] for example in readout["examples"]])
        self.radii = np.array([np.nan if example["radius"] is None else example["radius"] for example in examples])
        self.classes = np.array([-1 if example["class"] is None else example["class"] for example in examples])

    def accuracy(self, eps: float) -> float:
        """Share of all images whose true class is certified within a radius; abstentions count as wrong."""
        return float(((self.classes == self._labels) & (np.nan_to_num(self.radii, nan=-1.0) >= eps)).mean())

    def to_json(self, path: Optional[Union[str, "os.PathLike[str]"]] = None) -> str:
        """The record as JSON, which ``equipoise report`` reads; written to a file if one is named."""
        if path is not None:
            Path(path).write_text(self._text, encoding="utf-8")
        return self._text

    def report(self, path: Union[str, "os.PathLike[str]"]) -> Path:
        """Writes the report to a file whose ending says how, as :meth:`Result.report` does."""
        path = Path(path)
        text = _equipoise.render([self._text], path.suffix.lstrip("."), f"Certified: {self.record['models'][0]['model']}")
        path.write_text(text, encoding="utf-8")
        return path

    def __str__(self) -> str:
        found = self.certificate
        rows = [f"{radius['eps']:8.4f}  {radius['certified_accuracy']:.1%}" for radius in found["radii"]]
        head = f"{found['norm']} radius, certified of {len(self.radii)} images; {found['abstained']} abstentions"
        return "\n".join([head, *rows])

    __repr__ = __str__


def certify(
    model: Union[Callable[[Any], Any], Examined],
    x: Any,
    y: Any,
    *,
    sigma: float,
    samples: int = 10_000,
    selection: int = 100,
    alpha: float = 0.001,
    norm: str = "L2",
    eps: Sequence[float] = (),
    readout: Optional[str] = None,
    seed: int = 0,
    batch_size: int = 256,
    device: Any = None,
    indices: Optional[Sequence[int]] = None,
    verbose: bool = False,
    name: Optional[str] = None,
    dataset: str = "unnamed images",
    class_names: Sequence[str] = (),
) -> Certified:
    """Certifies the class that a model gives most often under normal noise (Cohen, Rosenfeld and Kolter 2019): a lower bound on the
    robustness of that vote, not of the model as it is deployed.

    Parameters
    ----------
    model, x, y
        As for :func:`evaluate`.
    sigma : float
        Deviation of the noise, in units of pixel intensity. It is not clipped: the model meets images outside of [0, 1].
    samples, selection : int
        Draws that bound how often the class is given, and draws before them that choose it.
    alpha : float
        The chance, for each image, that what is certified does not hold.
    norm : str
        ``"L2"``, or ``"Linf"`` for the L2 radius over the root of the number of pixels.
    eps : sequence of float
        Radii of the table; sixteen up to the largest that can be certified unless given.
    readout : str, optional
        A DEQ's readout; the deployed one unless given.
    seed, batch_size, device, indices, verbose, name, dataset, class_names
        As for :func:`evaluate`. Draws depend on the seed and on an image's index alone.

    Raises
    ------
    ValueError
        If something is not what is said above.
    KeyboardInterrupt
        On Ctrl-C.
    """
    x, images, labels = _torch.points(x, y)
    deployment = None
    if isinstance(model, Examined):
        if device is not None:
            raise ValueError("device: a DEQ is computed where its own `device` says; leave this out")
        prepared: Any = model._prepared(images, _torch.warn)
        count, called, behind = model.classes, model.name, model._readout(readout)
        deployment, described = model.deployment, {"model": model.described}
    else:
        if readout is not None:
            raise ValueError("readout: the model is a callable, which has one readout; leave this out")
        prepared = _torch.probed(model, x[:batch_size], device, _torch.warn)
        module = _torch.module_of(model)
        assert prepared.classes is not None
        called = type(module).__name__ if module is not None else str(getattr(model, "__name__", "model"))
        count, behind, described = prepared.classes, "final", {"model": {"name": called}}
    _torch.below(labels, count)
    bars = Bars() if verbose else None
    options: _equipoise.CertifyOptions = {
        "deployment": deployment,
        "readout": behind,
        "labels": list(labels),
        "indices": _torch.rows(indices, len(labels)),
        "class_names": classes(class_names, count),
        "name": name or called,
        "dataset": dataset,
        "norm": norm,
        "eps": list(eps),
        "sigma": sigma,
        "selection": selection,
        "samples": samples,
        "alpha": alpha,
        "seed": seed,
        "batch_size": batch_size,
        "described": json.dumps({**described, **software()}),
    }
    try:
        return Certified(_equipoise.certify(prepared, images, options, bars))
    finally:
        if bars is not None:
            bars.close()
