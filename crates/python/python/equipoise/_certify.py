"""Lower bounds on robustness: votes under noise, of any model, and proofs, of monotone DEQs."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from . import _equipoise, _torch
from ._deq import Examined
from ._diagnose import classes, software
from ._native import Model
from ._progress import Bars


class Bound:
    """What one method certified of one network.

    Attributes
    ----------
    method, network : str
        ``"lipschitz"`` or ``"smoothing"``, for instance; ``"deployed"``, the network that answers, or ``"ideal"``, what it approximates: the
        exact fixed point, or the vote over all noise.
    radii : ndarray ``[N]``
        For each image the radius within which the class does not change, in the norm that was asked for; NaN where the method
        abstained.
    classes : ndarray ``[N]``
        The class that it speaks of; −1 where the method abstained.
    certificate : dict
        Everything, as in the record.
    """

    def __init__(self, certificate: Dict[str, Any], labels: Sequence[int]) -> None:
        self.certificate = certificate
        self.method, self.network = str(certificate["method"]), str(certificate["network"])
        examples = certificate["examples"]
        self._labels = np.array(labels)
        self.radii = np.array([np.nan if example["radius"] is None else example["radius"] for example in examples])
        self.classes = np.array([-1 if example["class"] is None else example["class"] for example in examples])

    def accuracy(self, eps: float) -> float:
        """Share of all images whose true class is certified within a radius; abstentions count as wrong."""
        return float(((self.classes == self._labels) & (np.nan_to_num(self.radii, nan=-1.0) >= eps)).mean())

    def __str__(self) -> str:
        found = self.certificate
        rows = [f"{radius['eps']:8.4f}  {radius['certified_accuracy']:.1%}" for radius in found["radii"]]
        head = f"{found['norm']} radius, certified of {len(self.radii)} images; {found['abstained']} abstentions"
        return "\n".join([head, *rows])

    __repr__ = __str__


class Certified:
    """What was certified: by smoothing of the vote over all noise, by each proof of the ideal network and, where something is known of
    it, of the deployed one.

    ``found["deployed"]``, ``found["affine"]`` and ``found["affine", "deployed"]`` are the :class:`Bound` of that network, method, or both.
    Where there is one alone, its ``radii``, ``classes``, ``accuracy`` and ``certificate`` are those of ``found`` too.

    Attributes
    ----------
    bounds : list of Bound
    notes : list of str
        What is not certified, and why.
    record : dict
        Everything, in the layout of the command's ``results.json``.
    """

    def __init__(self, record: str, notes: Sequence[str] = ()) -> None:
        self._text = record
        self.record: Dict[str, Any] = json.loads(record)
        self.notes: List[str] = list(notes)
        readout = self.record["models"][0]["readouts"][0]
        labels = [example["label"] for example in readout["examples"]]
        self.bounds = [Bound(certificate, labels) for certificate in readout["certificates"]]

    def __getitem__(self, wanted: Union[str, Tuple[str, str]]) -> Bound:
        names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        found = [bound for bound in self.bounds if all(name in (bound.method, bound.network) for name in names)]
        if len(found) != 1:
            raise KeyError(f"{', '.join(names)}: {len(found)} bounds; there are {self._words()}")
        return found[0]

    def _words(self) -> str:
        return ", ".join(f'["{bound.method}", "{bound.network}"]' for bound in self.bounds)

    def _alone(self) -> Bound:
        if len(self.bounds) != 1:
            raise ValueError(f"there are several bounds: choose one, found followed by {self._words()}")
        return self.bounds[0]

    @property
    def radii(self) -> Any:
        """Those of the only bound."""
        return self._alone().radii

    @property
    def classes(self) -> Any:
        """Those of the only bound."""
        return self._alone().classes

    @property
    def certificate(self) -> Dict[str, Any]:
        """That of the only bound."""
        return self._alone().certificate

    def accuracy(self, eps: float) -> float:
        """That of the only bound: share of all images whose true class is certified within a radius."""
        return self._alone().accuracy(eps)

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
        if len(self.bounds) == 1:
            return str(self.bounds[0])
        return "\n\n".join(f"{bound.method}, {bound.network}: {bound}" for bound in self.bounds)

    __repr__ = __str__


def certify(
    model: Union[Callable[[Any], Any], Examined],
    x: Any,
    y: Any,
    *,
    method: Union[str, Sequence[str], None] = None,
    network: Optional[str] = None,
    sigma: Optional[float] = None,
    samples: int = 10_000,
    selection: int = 100,
    alpha: float = 0.001,
    serialized: Optional[int] = None,
    chains: Optional[int] = None,
    checks: int = 400,
    norm: str = "L2",
    eps: Sequence[float] = (),
    at_eps: bool = False,
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
    """Shows that no perturbation within a radius changes the answer: a lower bound on robustness.

    By smoothing, with ``sigma``, of any model: the class that it gives most often under normal noise (Cohen, Rosenfeld and Kolter
    2019); that is a bound on the robustness of this vote, not of the model as it is deployed. By proof, without, of a monotone DEQ of
    Equipoise's own (:func:`load`): of its exact fixed point and of the network that answers.

    Parameters
    ----------
    model, x, y
        As for :func:`evaluate`.
    method : str or sequence of str, optional
        Proofs by name (``equipoise.METHODS``), or ``"smoothing"``; unless given, smoothing with ``sigma`` and all proofs that there are
        without.
    network : str, optional
        Of proofs: ``"ideal"`` or ``"deployed"``, of which something is known where the solver is ``picard``; both unless given.
    sigma : float, optional
        Deviation of the noise of smoothing, in units of pixel intensity. It is not clipped: the model meets images outside of [0, 1].
    samples, selection : int
        Draws that bound how often the class is given, and draws before them that choose it.
    alpha : float
        Of smoothing, the chance, for each image, that what is certified does not hold.
    serialized : int, optional
        Casts the votes of a DEQ fast, by so many solver steps from where those for the image without noise ended. Accurate votes are
        certified all the same, since some of the fast ones are checked.
    chains, checks : int, optional
        Of fast votes: a draw goes on from the one that is so many before it, as was published, and not from the image without noise;
        draws of an image that are picked to be checked.
    norm : str
        ``"L2"``, or ``"Linf"``: of smoothing the L2 radius over the root of the number of pixels.
    eps : sequence of float
        Radii of the table; sixteen up to the largest that can be certified, or of proofs was, unless given.
    at_eps : bool
        Proves at the radii of ``eps`` alone, from the largest down, instead of searching for the largest of each image: with
        ``"branching"`` each may take seconds.
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
    methods = [method] if isinstance(method, str) else list(method or ())
    smoothing = "smoothing" in methods or (not methods and sigma is not None)
    if smoothing and len(methods) > 1:
        raise ValueError("method: smoothing stands alone; ask for proofs by another call")
    if smoothing and sigma is None:
        raise ValueError("sigma: smoothing needs the deviation of its noise; 0.25 is usual")
    if smoothing and network is not None:
        raise ValueError("network: smoothing certifies the vote over all noise; leave this out")
    if not smoothing and (sigma is not None or serialized is not None):
        raise ValueError("sigma, serialized: they belong to smoothing; leave them out, or leave out method")
    if at_eps and smoothing:
        raise ValueError("at_eps: smoothing finds its radius at once; leave it out")
    if at_eps and len(eps) == 0:
        raise ValueError("at_eps: the radii are missing; give eps")
    asking = _Asking(model, x, y, readout, batch_size, device)
    asked = asking.asked(
        norm=norm, eps=list(eps), seed=seed, batch_size=batch_size, indices=indices, name=name, dataset=dataset, class_names=class_names
    )
    bars = Bars() if verbose else None
    try:
        if smoothing:
            fast = None if serialized is None else (serialized, samples if chains is None else chains, checks)
            assert sigma is not None
            settings = _settings(sigma, samples, selection, alpha, fast)
            return Certified(_equipoise.certify(asking.prepared, asking.images, asked, settings, bars))
        if not isinstance(model, Model):
            raise ValueError(
                "only a monotone DEQ of a model file (equipoise.load) is certified by proof; for any model there is smoothing: "
                "give sigma, such as 0.25"
            )
        found = Certified(*_equipoise.prove(asking.prepared, asking.images, asked, methods, network, at_eps, bars))
        if network is None and all(bound.network == "ideal" for bound in found.bounds):
            warnings.warn(found.notes[-1], UserWarning, stacklevel=2)
        return found
    finally:
        if bars is not None:
            bars.close()


def predict(
    model: Union[Callable[[Any], Any], Examined],
    x: Any,
    *,
    sigma: float,
    samples: int = 1000,
    alpha: float = 0.001,
    readout: Optional[str] = None,
    seed: int = 0,
    batch_size: int = 256,
    device: Any = None,
    indices: Optional[Sequence[int]] = None,
    verbose: bool = False,
) -> Any:
    """The classes ``[N]`` that the smoothed classifier gives images, which :func:`certify` with ``sigma`` speaks of: int64, −1 where it
    abstains (PREDICT of Cohen, Rosenfeld and Kolter 2019).

    The class that a model gives most often of ``samples`` draws of noise, if the two-sided binomial test of it against the next
    comes out at level ``alpha``. It is another than the class of the vote over all noise with a chance of ``alpha`` at most.

    Parameters
    ----------
    model, x
        As for :func:`evaluate`.
    sigma : float
        Deviation of the noise, in units of pixel intensity.
    samples, alpha
        Draws, and the level.
    readout, seed, batch_size, device, indices, verbose
        As for :func:`certify`.

    Raises
    ------
    ValueError
        If something is not what is said above.
    KeyboardInterrupt
        On Ctrl-C.
    """
    x, images = _torch.images(x)
    asking = _Asking(model, x, np.zeros(len(images), dtype=np.int64), readout, batch_size, device)
    asked = asking.asked(
        norm="L2", eps=[], seed=seed, batch_size=batch_size, indices=indices, name=None, dataset="unnamed images", class_names=()
    )
    settings = _settings(sigma, samples, 1, alpha, None)
    bars = Bars() if verbose else None
    try:
        answers = _equipoise.predict(asking.prepared, asking.images, asked, settings, bars)
    finally:
        if bars is not None:
            bars.close()
    return np.array([-1 if found is None else found for found, _ in answers], dtype=np.int64)


def _settings(
    sigma: float, samples: int, selection: int, alpha: float, serialized: Optional[Tuple[int, int, int]]
) -> _equipoise.SmoothingSettings:
    return {"sigma": sigma, "samples": samples, "selection": selection, "alpha": alpha, "serialized": serialized}


class _Asking:
    """A model that is asked about images with labels, whatever it is."""

    def __init__(self, model: Any, x: Any, y: Any, readout: Optional[str], batch_size: int, device: Any) -> None:
        x, self.images, self._labels = _torch.points(x, y)
        self._deployment: Optional[str] = None
        if isinstance(model, Examined):
            if device is not None:
                raise ValueError("device: a DEQ is computed where its own `device` says; leave this out")
            self.prepared: Any = model._prepared(self.images, _torch.warn)
            self._count, self._name, self._readout = model.classes, model.name, model._readout(readout)
            self._deployment, self._described = model.deployment, {"model": model.described}
        else:
            if readout is not None:
                raise ValueError("readout: the model is a callable, which has one readout; leave this out")
            self.prepared = _torch.probed(model, x[:batch_size], device, _torch.warn)
            module = _torch.module_of(model)
            assert self.prepared.classes is not None
            self._name = type(module).__name__ if module is not None else str(getattr(model, "__name__", "model"))
            self._count, self._readout, self._described = self.prepared.classes, "final", {"model": {"name": self._name}}
        _torch.below(self._labels, self._count)

    def asked(
        self,
        *,
        norm: str,
        eps: List[float],
        seed: int,
        batch_size: int,
        indices: Optional[Sequence[int]],
        name: Optional[str],
        dataset: str,
        class_names: Sequence[str],
    ) -> _equipoise.Asked:
        return {
            "deployment": self._deployment,
            "readout": self._readout,
            "labels": list(self._labels),
            "indices": _torch.rows(indices, len(self._labels)),
            "class_names": classes(class_names, self._count),
            "name": name or self._name,
            "dataset": dataset,
            "norm": norm,
            "eps": eps,
            "seed": seed,
            "batch_size": batch_size,
            "described": json.dumps({**self._described, **software()}),
        }
