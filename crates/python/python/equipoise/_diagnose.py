"""What can be seen of a DEQ beside its accuracy."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import torch

from . import _equipoise, _torch
from ._deq import Examined
from ._progress import Bars


class Diagnosis:
    """What was measured.

    Attributes
    ----------
    record : dict
        Everything, in the layout of the command's ``diagnosis.json``.
    summary : list of str
        The most important numbers, as sentences.
    """

    def __init__(self, record: str, summary: List[str]) -> None:
        self._text = record
        self.record: Dict[str, Any] = json.loads(record)
        self.summary = summary

    def __getitem__(self, section: str) -> Any:
        """What a section found; None where the model has nothing of the kind."""
        return self.record["diagnosed"][0][section]["result"]

    def to_json(self, path: Optional[Union[str, "os.PathLike[str]"]] = None) -> str:
        """The record as JSON, which ``equipoise report`` reads; written to a file if one is named."""
        if path is not None:
            Path(path).write_text(self._text, encoding="utf-8")
        return self._text

    def report(self, path: Union[str, "os.PathLike[str]"]) -> Path:
        """Writes the report to a file whose ending says how, as :meth:`Result.report` does."""
        path = Path(path)
        text = _equipoise.render([self._text], path.suffix.lstrip("."), "Diagnosis")
        path.write_text(text, encoding="utf-8")
        return path

    def __str__(self) -> str:
        return "\n".join(self.summary)

    __repr__ = __str__


def diagnose(
    model: Examined,
    x: Any,
    y: Any,
    *,
    eps: float = 8 / 255,
    norm: str = "Linf",
    sections: Union[str, Sequence[str]] = "residual,accuracy,alignment,yardstick,landscape,spectrum,sweep",
    horizon: Optional[int] = None,
    seed: int = 0,
    batch_size: int = 64,
    indices: Optional[Sequence[int]] = None,
    verbose: bool = False,
    dataset: str = "unnamed images",
    class_names: Sequence[str] = (),
) -> Diagnosis:
    """Looks at a DEQ: does its solver converge, on images and on attacked ones? Do gradients point where the true one does?
    Does the loss rise along them, does the cell contract?

    Parameters
    ----------
    model : Deq or Model
    x, y
        Images ``[N, C, H, W]`` in [0, 1] and true classes ``[N]``.
    eps, norm
        The budget of the ready-made PGD-10 that is looked at: ``"Linf"`` or ``"L2"``.
    sections
        Which of ``residual``, ``accuracy``, ``alignment``, ``yardstick``, ``landscape``, ``spectrum``, ``sweep``, ``distance``, ``targets``,
        ``work``, ``starts``, ``gallery``.
    horizon : int, optional
        Solver steps of the residual's curve; three times the deployed ones unless given.
    seed, batch_size, indices, verbose, dataset, class_names
        As for :func:`evaluate`.

    Raises
    ------
    ValueError
        If something is not what is said above.
    KeyboardInterrupt
        On Ctrl-C.
    """
    if not isinstance(model, Examined):
        raise ValueError("diagnose looks at DEQs: give an equipoise.Deq or a model by equipoise.load")
    if norm.lower() == "l1":
        raise ValueError("norm L1: diagnose attacks with PGD, which does not search in L1 balls; use Linf or L2")
    if eps == 0:
        raise ValueError("eps 0: nothing can be attacked within it; give a radius such as 8/255")
    x, images, labels = _torch.points(x, y)
    prepared = model._prepared(images, _torch.warn)
    _torch.below(labels, model.classes)
    names = sections.split(",") if isinstance(sections, str) else list(sections)
    names = [name.strip() for name in names]
    bars = Bars() if verbose else None
    options: _equipoise.DiagnoseOptions = {
        "deployment": model.deployment,
        "labels": list(labels),
        "indices": _torch.rows(indices, len(labels)),
        "class_names": classes(class_names, model.classes),
        "name": model.name,
        "dataset": dataset,
        "norm": norm,
        "eps": eps,
        "sections": names,
        "horizon": horizon,
        "gallery": 6 if "gallery" in names else 0,
        "seed": seed,
        "batch_size": batch_size,
        "described": json.dumps({"model": model.described, **software()}),
    }
    try:
        record, summary = _equipoise.diagnose(prepared, images, options, bars)
    finally:
        if bars is not None:
            bars.close()
    return Diagnosis(record, summary)


def classes(names: Sequence[str], count: int) -> List[str]:
    """A name for each class: their numbers unless given."""
    if names and len(names) != count:
        raise ValueError(f"class_names has {len(names)} names, and the model {count} classes")
    return [str(name) for name in names] or [str(number) for number in range(count)]


def software() -> Dict[str, Any]:
    """What computed, and what is promised of its bits."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "bits": "given the same logits, states and products the results are the same to the bit; PyTorch's own rounding depends "
        "on batch size, threads and device",
    }
