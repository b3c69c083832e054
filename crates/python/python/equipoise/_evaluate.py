"""From a model and images to a result."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch

from . import _equipoise, _torch
from ._attack import Attack, Written
from ._progress import Bars
from ._result import Result

#: Radii that the field uses, by norm: what to say where none is given.
USUAL = {"linf": "8/255", "l2": "0.5", "l1": "12"}


def evaluate(
    model: Callable[[Any], Any],
    x: Any,
    y: Any,
    *,
    norm: str = "Linf",
    eps: Optional[float] = None,
    attacks: Union[str, Sequence[Union[str, Attack]]] = "whitebox",
    seed: int = 0,
    batch_size: int = 64,
    device: Any = None,
    indices: Optional[Sequence[int]] = None,
    time_limit: Optional[float] = None,
    out: Optional[Union[str, "os.PathLike[str]"]] = None,
    verbose: bool = False,
    name: Optional[str] = None,
    dataset: str = "",
    class_names: Sequence[str] = (),
) -> Result:
    """Attacks a classifier and reports what is left, every success verified.

    Parameters
    ----------
    model : callable
        From images ``[N, C, H, W]`` to logits ``[N, K]``, differentiable by autograd: a module in ``eval()``, or any
        function. Normalisation belongs inside. Its parameters, their ``.grad`` and its training mode are left as they are.
    x : Tensor or ndarray ``[N, C, H, W]``, float32 or float64
        Images, intensities in [0, 1]. Images are computed in float32: what a float64 holds beyond that is rounded off.
    y : Tensor or ndarray ``[N]`` of integers
        True classes, from 0.
    norm, eps
        ``"Linf"``, ``"L2"`` or ``"L1"``, and a radius in units of pixel intensity; 8/255 for Linf unless given.
    attacks
        ``"whitebox"`` for what is tried on a network with one gradient (PGD-10, APGD-CE, APGD-T, FAB-T, Square);
        ``"autoattack"``, ``"autoattack-plus"``; names as in ``"pgd-20x5,apgd-ce-50,square-1000"``; or a list of names and of
        :class:`equipoise.Attack` objects. Those without gradients are run last.
    seed : int
        All random numbers derive from it and from an image's index: neither batches, threads nor interruptions change them.
    batch_size : int
        Images at once. It changes results only as far as it changes the model's rounding.
    device
        Where to compute: where the model's parameters are unless given, or else where ``x`` is.
    indices : sequence of int, optional
        Where the images stand in their data set, so that a part gives what the whole would; 0, 1, .. unless given.
    time_limit : float, optional
        Seconds for the attacks. What was not tried is in :attr:`Result.not_tried`.
    out : path, optional
        A folder for a journal, ``results.json`` and ``report.html``. The same call goes on from there if it was interrupted.
    verbose : bool
        Whether to draw progress bars (tqdm).
    name, dataset, class_names
        Words for the record.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        If model, images, labels, budget or attacks are not what is said above, or ``out`` belongs to another evaluation.
    OSError
        If ``out`` cannot be used.
    KeyboardInterrupt
        On Ctrl-C; with ``out`` the same call goes on.
    Exception
        Whatever the model or an attack raises, as it is. Nothing of that batch is kept.
    """
    if eps is None:
        if norm.lower() != "linf":
            usual = USUAL.get(norm.lower(), "one")
            raise ValueError(f"norm {norm}: give eps too; a usual radius is {usual}")
        eps = 8 / 255
    if eps == 0:
        _torch.warn("eps 0: nothing can be perturbed; robust accuracy is clean accuracy")
    bars = Bars() if verbose else None
    try:
        result = run(
            model,
            x,
            y,
            norm=norm,
            eps=eps,
            attacks=attacks,
            seed=seed,
            batch_size=batch_size,
            device=device,
            indices=indices,
            time_limit=time_limit,
            journal=None if out is None else Path(out) / "journal",
            watch=bars,
            say=_torch.warn,
            name=name,
            dataset=dataset,
            class_names=class_names,
        )
    finally:
        if bars is not None:
            bars.close()
    if out is not None:
        result.to_json(Path(out) / "results.json")
        result.report(Path(out) / "report.html")
    return result


def run(
    model: Callable[[Any], Any],
    x: Any,
    y: Any,
    *,
    norm: str,
    eps: float,
    attacks: Union[str, Sequence[Any]],
    seed: int,
    batch_size: int,
    device: Any,
    say: Callable[[str], None],
    indices: Optional[Sequence[int]] = None,
    time_limit: Optional[float] = None,
    journal: Optional[Path] = None,
    watch: Optional[_equipoise.Watch] = None,
    name: Optional[str] = None,
    dataset: str = "",
    class_names: Sequence[str] = (),
) -> Result:
    """What :func:`evaluate` and ``AutoAttack`` have in common."""
    _equipoise.check_budget(norm, eps)
    _whole("seed", seed, 0)
    _whole("the batch size", batch_size, 1)
    if time_limit is not None and not 0 < time_limit < float("inf"):
        raise ValueError(f"time_limit is {time_limit}: give a positive number of seconds")
    x, images, labels = _torch.points(x, y)
    if indices is not None and len(indices) != len(labels):
        raise ValueError(f"{len(indices)} indices for {len(labels)} images: give one for each")
    classifier = _torch.probed(model, x[:batch_size], device, say)
    assert classifier.classes is not None
    chosen, left_out = _chosen(attacks, classifier, norm, eps)
    module = _torch.module_of(model)
    configuration = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(classifier.device),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }
    options: _equipoise.Options = {
        "labels": labels,
        "indices": range(len(labels)) if indices is None else [int(index) for index in indices],
        "classes": classifier.classes,
        "name": name or (type(module).__name__ if module is not None else str(getattr(model, "__name__", "model"))),
        "dataset": dataset,
        "class_names": list(class_names),
        "norm": norm,
        "eps": eps,
        "seed": seed,
        "batch_size": batch_size,
        "time_limit": time_limit,
        "left_out": left_out,
        "journal": journal,
        "identity": "" if journal is None else _torch.identity(classifier, images),
        "configuration": json.dumps(configuration),
    }
    record, found, _, after = _equipoise.evaluate(classifier, chosen, images, options, watch)
    result = Result(record, None, after)
    broken = np.array([example["broken_by"] is not None for example in result.examples])
    result.adversarial = _torch.adversarial(x, found, broken)
    return result


def _chosen(
    attacks: Union[str, Sequence[Any]], classifier: _torch.Classifier, norm: str, eps: float
) -> Tuple[List[Any], List[Tuple[str, str]]]:
    """The attacks, and which of the battery cannot be run and why. One that was named and cannot be run is an error."""
    chosen: List[Any] = []
    left_out = []
    assert classifier.classes is not None
    for entry in attacks.split(",") if isinstance(attacks, str) else attacks:
        battery = isinstance(entry, str) and entry.strip() == "whitebox"
        if isinstance(entry, str):
            names = _equipoise.ONE_GRADIENT if battery else [entry]
            members: List[Any] = [attack for name in names for attack in _equipoise.Attack.named(name)]
        elif isinstance(entry, _equipoise.Attack):
            members = [entry]
        elif isinstance(entry, Attack) and not isinstance(entry, type):
            members = [Written(entry, classifier, norm, eps)]
        else:
            raise ValueError(f"{entry!r} is no attack: give a name, or an object with a method attempt(model, batch)")
        for member in members:
            refusal = member.refusal(classifier.classes, norm) if isinstance(member, _equipoise.Attack) else None
            if refusal is None:
                chosen.append(member)
            elif battery:
                left_out.append((member.name, refusal))
            else:
                raise ValueError(refusal)
    if not chosen:
        raise ValueError("no attacks: give at least one, such as 'apgd-ce'")
    return chosen, left_out


def _whole(what: str, number: Any, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
        raise ValueError(f"{what} is {number!r}: give a whole number of at least {least}")
