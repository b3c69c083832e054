"""From a model and images to a result."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np

from . import _equipoise, _torch
from ._attack import Attack, Written
from ._deq import Examined
from ._diagnose import classes, software
from ._progress import Bars
from ._result import Result

#: Radii that the field uses, by norm: what to say where none is given.
USUAL = {"linf": "8/255", "l2": "0.5", "l1": "12"}


def evaluate(
    model: Union[Callable[[Any], Any], Examined],
    x: Any,
    y: Any,
    *,
    norm: str = "Linf",
    eps: Union[None, float, Sequence[float]] = None,
    attacks: Union[str, Sequence[Union[str, Attack]]] = "whitebox",
    readouts: Union[None, str, Sequence[str]] = None,
    gradients: Union[None, str, Sequence[str]] = None,
    control: bool = True,
    margin: float = 0.03,
    checks: Optional[int] = 64,
    development: Optional[Tuple[Any, Any]] = None,
    seed: int = 0,
    batch_size: int = 64,
    device: Any = None,
    indices: Optional[Sequence[int]] = None,
    time_limit: Union[None, float, str] = None,
    draws: int = 1,
    noise: Optional[float] = None,
    protocol: Optional[str] = None,
    out: Optional[Union[str, "os.PathLike[str]"]] = None,
    verbose: bool = False,
    name: Optional[str] = None,
    dataset: str = "unnamed images",
    class_names: Sequence[str] = (),
) -> Result:
    """Attacks a classifier and reports what is left, every success verified. A DEQ is attacked through several gradients, and
    what they break beyond as much search through its training gradient tells whether its robustness is real.

    Parameters
    ----------
    model : callable, Deq or Model
        A DEQ (:class:`Deq`, :func:`from_torchdeq`, :func:`load`), or any function from images ``[N, C, H, W]`` to logits ``[N, K]``, differentiable by autograd: a module in ``eval()``, or any
        function. Normalisation belongs inside. Its parameters, their ``.grad`` and its training mode are left as they are.
    x : Tensor or ndarray ``[N, C, H, W]``, float32 or float64
        Images, intensities in [0, 1]. Images are computed in float32: what a float64 holds beyond that is rounded off.
    y : Tensor or ndarray ``[N]`` of integers
        True classes, from 0.
    norm, eps
        ``"Linf"``, ``"L2"`` or ``"L1"``, and a radius in units of pixel intensity; 8/255 for Linf unless given. For a DEQ also a
        list of radii: an image found at one counts at every larger one.
    attacks
        ``"whitebox"`` for the white-box plan: on a DEQ attacks through several gradients, each with a twin through the training
        gradient; on a network with one gradient PGD-10, APGD-CE, APGD-T, FAB-T, Square. ``"autoattack"``, ``"autoattack-plus"``; names as in ``"pgd-20x5,apgd-ce-50,square-1000"``; or a list of names and of
        :class:`equipoise.Attack` objects. Those without gradients are run last.
    readouts : str or list of str, optional
        A DEQ's readouts: ``"final"``, ``"early(t)"``, ``"ensemble-states"``, ``"ensemble-logits"``, ``"random-states"``, or ``"early"`` to have t chosen
        on ``development`` under a ready-made attack, ``"early:whitebox"`` under the true gradients too; the deployed one unless given.
    gradients : str or list of str, optional
        A DEQ's gradients beside the training gradient, such as ``"through-solver,adjoint:state=4"``, or ``"none"``; the usual
        ones unless given.
    control : bool
        Whether attacks through a DEQ's other gradients have twins through its training gradient; without, there is no finding.
    margin : float
        Of the finding ``not-obfuscated``: the gap, as a fraction, that must be ruled out.
    checks : int, optional
        For a DEQ, the number of images that checks for obfuscation examine; None for no checks.
    development : (x, y), optional
        Images and labels to choose t of ``early`` on, which are neither tested nor trained on.
    seed : int
        All random numbers derive from it and from an image's index: neither batches, threads nor interruptions change them.
    batch_size : int
        Images at once. It changes results only as far as it changes the model's rounding.
    device
        Where to compute: where the model's parameters are unless given, or else where ``x`` is.
    indices : sequence of int, optional
        Where the images stand in their data set, so that a part gives what the whole would; 0, 1, .. unless given.
    time_limit : float or str, optional
        For the attacks, on a DEQ behind each readout: seconds, or as in ``"90s"``, ``"10m"``, ``"2h"``. What was not tried is in :attr:`Result.not_tried`.
    draws : int
        For a callable that answers at random, such as one with noise or dropout: each answer to an attack is the mean of so many
        (expectation over transformation; AutoAttack's number is 20). An image is judged by one more answer, which no attack has
        seen. PyTorch's generator is not ours: another run draws others, and what is kept in ``out`` may not fool the model again.
    noise : float, optional
        For a DEQ: normal noise of this deviation is added to every image, and clipped nowhere. Attacks follow the mean of 20 draws.
    protocol : str, optional
        For a DEQ that draws, by ``noise`` or behind the readout ``"random-states"``: what a verdict is. ``"one-shot"`` (the default): one draw
        that no attack has seen; ``"any-of-10"``: ten, broken if one is wrong; ``"fixed-seed"``: one draw that every attack knows.
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
    radii = _radii(norm, eps)
    if 0 in radii:
        _torch.warn("eps 0: nothing can be perturbed; robust accuracy is clean accuracy")
    limit = seconds(time_limit)
    several = {
        "readouts": readouts, "gradients": gradients, "development": development, "noise": noise, "protocol": protocol,
    }
    if not isinstance(model, Examined):
        given = [what for what, value in several.items() if value is not None]
        if given:
            raise ValueError(
                f"{given[0]}: the model is a callable, which has one readout and one gradient; leave this out, or describe it "
                "as an equipoise.Deq"
            )
        if len(radii) > 1:
            raise ValueError(f"eps {eps}: several radii are for DEQs; give one")
    elif draws != 1:
        raise ValueError(f"draws {draws}: a DEQ's cell must be the same map at every call, so that its answers are too")
    bars = Bars() if verbose else None
    try:
        if isinstance(model, Examined):
            folder = None if out is None else Path(out)
            result = assess(
                model, x, y, norm=norm, eps=radii, attacks=attacks, readouts=readouts, gradients=gradients, control=control,
                margin=margin, checks=checks, development=development, seed=seed, batch_size=batch_size, device=device,
                indices=indices, time_limit=limit, noise=noise, protocol=protocol, folder=folder, watch=bars, name=name,
                dataset=dataset, class_names=class_names,
            )
        else:
            result = run(
                model,
                x,
                y,
                norm=norm,
                eps=radii[0],
                attacks=attacks,
                seed=seed,
                batch_size=batch_size,
                device=device,
                indices=indices,
                time_limit=limit,
                draws=draws,
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


def _radii(norm: str, eps: Union[None, float, Sequence[float]]) -> List[float]:
    if eps is None:
        if norm.lower() != "linf":
            usual = USUAL.get(norm.lower(), "one")
            raise ValueError(f"norm {norm}: give eps too; a usual radius is {usual}")
        return [8 / 255]
    if isinstance(eps, (int, float)):
        return [eps]
    radii = sorted(set(eps))
    if not radii:
        raise ValueError("eps is an empty list: give at least one radius")
    return radii


def seconds(limit: Union[None, float, str]) -> Optional[float]:
    """A time limit in seconds.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(limit, str):
        return limit
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (limit[:-1], units.get(limit[-1:])) if limit[-1:] in units else (limit, 1)
    try:
        return float(number) * (unit or 1)
    except ValueError:
        raise ValueError(f"time_limit {limit!r}: give seconds, or a time as in '90s', '10m' or '2h'") from None


def assess(
    model: Examined,
    x: Any,
    y: Any,
    *,
    norm: str,
    eps: List[float],
    attacks: Union[str, Sequence[Any]],
    readouts: Union[None, str, Sequence[str]],
    gradients: Union[None, str, Sequence[str]],
    control: bool,
    margin: float,
    checks: Optional[int],
    development: Optional[Tuple[Any, Any]],
    seed: int,
    batch_size: int,
    device: Any,
    indices: Optional[Sequence[int]],
    time_limit: Optional[float],
    noise: Optional[float],
    protocol: Optional[str],
    folder: Optional[Path],
    watch: Optional[_equipoise.Watch],
    name: Optional[str],
    dataset: str,
    class_names: Sequence[str],
) -> Result:
    """:func:`evaluate` for what has readouts and gradients to choose from."""
    _check(norm, eps, seed, batch_size, time_limit)
    if device is not None:
        raise ValueError("device: a DEQ is computed where its own `device` says; leave this out")
    x, images, labels = _torch.points(x, y)
    where = _torch.rows(indices, len(labels))
    prepared = model._prepared(images, _torch.warn)
    _torch.below(labels, model.classes)
    listed = attacks.split(",") if isinstance(attacks, str) else list(attacks)
    white_box = any(isinstance(entry, str) and entry.strip() == "whitebox" for entry in listed)
    named = [entry for entry in listed if not (isinstance(entry, str) and entry.strip() == "whitebox")]
    chosen = _members(named, model, norm, eps[-1]) if named else []
    if not named and not white_box:
        raise ValueError("no attacks: give at least one, such as 'apgd-ce'")
    asked = None
    if development is not None:
        _, held_out, classes_of = _torch.points(*development)
        _torch.below(classes_of, model.classes)
        asked = (held_out, list(classes_of), list(range(len(classes_of))))
    options: _equipoise.AssessOptions = {
        "deployment": model.deployment,
        "labels": list(labels),
        "indices": where,
        "class_names": classes(class_names, model.classes),
        "name": name or model.name,
        "dataset": dataset,
        "norm": norm,
        "eps": eps,
        "white_box": white_box,
        "gradients": gradients if gradients is None or isinstance(gradients, str) else ",".join(gradients),
        "readouts": _readouts(model, readouts),
        "control": control,
        "margin": margin,
        "checks": checks,
        "seed": seed,
        "batch_size": batch_size,
        "time_limit": time_limit,
        "noise": noise,
        "protocol": protocol,
        "folder": folder,
        "identity": "" if folder is None else model._identity(images),
        "described": json.dumps({**model.described, **software()}),
    }
    record, behind = _equipoise.assess(prepared, chosen, images, options, asked, watch)
    result = Result(record, {}, {})
    for readout, found, _, after in behind:
        examples = result[readout].examples
        broken = np.array([example["broken_by"] is not None for example in examples])
        result._images[readout] = _torch.adversarial(x, found, broken)
        result._predictions[readout] = after
    return result


def _readouts(model: Examined, readouts: Union[None, str, Sequence[str]]) -> List[str]:
    if readouts is None:
        return [model._readout(None)]
    names = readouts.split(",") if isinstance(readouts, str) else list(readouts)
    if not names:
        raise ValueError("no readouts: give at least one, such as 'final'")
    return [str(name).strip() for name in names]


def _members(entries: Sequence[Any], model: Examined, norm: str, eps: float) -> List[Any]:
    """Attacks by name or written in Python. One that cannot be run on the model is an error."""
    members: List[Any] = []
    for entry in entries:
        if isinstance(entry, str):
            members += _equipoise.Attack.named(entry)
        elif isinstance(entry, _equipoise.Attack):
            members.append(entry)
        elif isinstance(entry, Attack) and not isinstance(entry, type):
            raise ValueError(
                f"{type(entry).__name__}: an attack written in Python asks PyTorch for gradients, and a DEQ has several, none of "
                "them PyTorch's; give names of attacks"
            )
        else:
            raise ValueError(f"{entry!r} is no attack: give a name")
    for member in members:
        refusal = member.refusal(model.classes, norm)
        if refusal is not None:
            raise ValueError(refusal)
    return members


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
    draws: int = 1,
    journal: Optional[Path] = None,
    watch: Optional[_equipoise.Watch] = None,
    name: Optional[str] = None,
    dataset: str = "unnamed images",
    class_names: Sequence[str] = (),
) -> Result:
    """What :func:`evaluate` and ``AutoAttack`` have in common."""
    if isinstance(model, Examined):
        raise ValueError(
            "AutoAttack follows PyTorch's gradient, and a DEQ's are Equipoise's: use equipoise.evaluate(model, x, y, "
            "attacks='autoattack'), with gradients= and readouts= as you like"
        )
    _check(norm, [eps], seed, batch_size, time_limit)
    x, images, labels = _torch.points(x, y)
    where = _torch.rows(indices, len(labels))
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws {draws}: give a whole number from 1")
    classifier = _torch.probed(model, x[:batch_size], device, say, draws)
    assert classifier.classes is not None
    chosen, left_out = _chosen(attacks, classifier, norm, eps)
    module = _torch.module_of(model)
    configuration = {"device": str(classifier.device), **software()}
    options: _equipoise.Options = {
        "labels": labels,
        "indices": where,
        "classes": classifier.classes,
        "name": name or (type(module).__name__ if module is not None else str(getattr(model, "__name__", "model"))),
        "dataset": dataset,
        "class_names": list(class_names),
        "norm": norm,
        "eps": eps,
        "seed": seed,
        "batch_size": batch_size,
        "draws": draws,
        "time_limit": time_limit,
        "left_out": left_out,
        "journal": journal,
        "identity": "" if journal is None else _torch.identity(classifier, images),
        "configuration": json.dumps(configuration),
    }
    record, found, _, after = _equipoise.evaluate(classifier, chosen, images, options, watch)
    result = Result(record, {}, {"final": after})
    broken = np.array([example["broken_by"] is not None for example in result.examples])
    result._images["final"] = _torch.adversarial(x, found, broken)
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


def _check(norm: str, radii: Sequence[float], seed: Any, batch_size: Any, time_limit: Optional[float]) -> None:
    """What every evaluation asks of its numbers."""
    for eps in radii:
        _equipoise.check_budget(norm, eps)
    _whole("seed", seed, 0)
    _whole("the batch size", batch_size, 1)
    if time_limit is not None and not 0 < time_limit < float("inf"):
        raise ValueError(f"time_limit is {time_limit}: give a positive number of seconds")


def _whole(what: str, number: Any, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
        raise ValueError(f"{what} is {number!r}: give a whole number of at least {least}")
