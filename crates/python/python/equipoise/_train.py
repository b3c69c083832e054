"""Training of Equipoise's own architectures, in one process or in several."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Optional, Protocol, Sequence, Union

from . import _equipoise, _torch
from ._native import Model, load
from ._progress import tqdm


class Ranks(Protocol):
    """Processes that train one model together, by whatever engine: all call the same method at the same time."""

    rank: int
    size: int

    def all_to_all(self, parts: List[bytes], /) -> List[bytes]:
        """Gives part k to rank k. In place k of what comes back is what rank k gave this one."""

    def all_gather(self, own: bytes, /) -> List[bytes]:
        """What every rank gave, by rank."""


class TorchRanks:
    """The processes of ``torch.distributed``, under ``torchrun``, say.

    Parameters
    ----------
    group : optional
        A process group; the default one unless given. Messages are tensors on the CPU, so that it needs a backend for these
        (gloo).

    Raises
    ------
    ValueError
        If ``torch.distributed.init_process_group`` was not called.
    """

    def __init__(self, group: Any = None) -> None:
        import torch
        import torch.distributed as distributed

        if not distributed.is_available() or not distributed.is_initialized():
            raise ValueError('ranks: call torch.distributed.init_process_group("gloo") first')
        self._torch, self._distributed, self._group = torch, distributed, group
        self.rank: int = distributed.get_rank(group)
        self.size: int = distributed.get_world_size(group)

    def _tensor(self, message: bytes) -> Any:
        return self._torch.frombuffer(bytearray(message), dtype=self._torch.uint8) if message else self._empty(0)

    def _empty(self, length: int) -> Any:
        return self._torch.empty(length, dtype=self._torch.uint8)

    def _lengths(self, own: Sequence[int]) -> List[List[int]]:
        mine = self._torch.tensor(own, dtype=self._torch.int64)
        all_of_them = [self._torch.empty_like(mine) for _ in range(self.size)]
        self._distributed.all_gather(all_of_them, mine, group=self._group)
        return [lengths.tolist() for lengths in all_of_them]

    def _peer(self, rank: int) -> int:
        return rank if self._group is None else int(self._distributed.get_global_rank(self._group, rank))

    def all_to_all(self, parts: List[bytes]) -> List[bytes]:
        lengths = self._lengths([len(part) for part in parts])
        received = [self._empty(theirs[self.rank]) for theirs in lengths]
        exchanges: List[Any] = []
        for other in range(self.size):
            if other == self.rank:
                continue
            peer = self._peer(other)
            if parts[other]:
                exchanges.append(self._distributed.isend(self._tensor(parts[other]), peer, group=self._group))
            if received[other].numel():
                exchanges.append(self._distributed.irecv(received[other], peer, group=self._group))
        for exchange in exchanges:
            exchange.wait()
        return [parts[rank] if rank == self.rank else tensor.numpy().tobytes() for rank, tensor in enumerate(received)]

    def all_gather(self, own: bytes) -> List[bytes]:
        lengths = [length for (length,) in self._lengths([len(own)])]
        longest = max(lengths)
        padded = self._empty(longest)
        padded[: len(own)] = self._tensor(own)
        received = [self._empty(longest) for _ in range(self.size)]
        self._distributed.all_gather(received, padded, group=self._group)
        return [tensor[:length].numpy().tobytes() for tensor, length in zip(received, lengths)]


class Trained:
    """What became of a training.

    Attributes
    ----------
    path : str
        The model file, once ``complete``.
    complete : bool
        Whether the run came to its end, or to an early stop.
    history : list of dict
        A report for each epoch: loss, accuracies, residual, seconds.
    best_epoch : int or None
        The best on the development split, from 1; its model is ``best.safetensors`` in the folder.
    """

    def __init__(self, out: str, said: Dict[str, Any]) -> None:
        self.path = os.path.join(out, "model.safetensors")
        self.complete: bool = said["complete"]
        self.history: List[Dict[str, Any]] = said["history"]
        self.best_epoch: Optional[int] = said["best_epoch"]

    def load(self) -> Model:
        """The trained model."""
        return load(self.path)

    def __repr__(self) -> str:
        return f"<Trained {self.path}: {len(self.history)} epochs{'' if self.complete else ', incomplete'}>"


class _Bar:
    def __init__(self) -> None:
        self._new = tqdm()
        self._bar: Any = None

    def begin(self, step: int, steps: int) -> None:
        self._bar = self._new(total=steps, initial=step, desc="training", unit="step")

    def step(self, step: int, loss: float, accuracy: float) -> None:
        self._bar.set_postfix_str(f"loss {loss:.3f}, {100 * accuracy:.0f}% correct", refresh=False)
        self._bar.update(1)

    def epoch(self, report: str) -> None:
        said = json.loads(report)
        held_out = said["development_robust_accuracy"]
        if held_out is not None:
            self._new.write(f"epoch {said['epoch']}: held out, attacked: {100 * held_out:.1f}% correct")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def train(
    x: Any,
    y: Any,
    out: Union[str, "os.PathLike[str]"],
    *,
    model: Union[str, Dict[str, Any]],
    train: Dict[str, Any],
    deployment: Optional[Dict[str, Any]] = None,
    classes: Optional[int] = None,
    seed: int = 0,
    resume: bool = False,
    ranks: Optional[Ranks] = None,
    name: Optional[str] = None,
    dataset: str = "arrays",
    verbose: bool = False,
) -> Trained:
    """Trains a model of Equipoise's own, standard or adversarially, by its own code; ``equipoise train`` is the same for files.

    Parameters
    ----------
    x : Tensor or ndarray ``[N, C, H, W]`` of floats
        Images, intensities in [0, 1]; the last ones are the development split.
    y : Tensor or ndarray ``[N]`` of integers
        Classes, from 0.
    out : path
        A folder for checkpoints, logs, ``best.safetensors`` and ``model.safetensors``.
    model : str or dict
        An architecture by name, such as ``"mdeq-small"``, or in full: the table ``[model]`` of a recipe.
    train : dict
        The table ``[train]``: ``{"epochs": 10, "batch_size": 64, "adversary": {"eps": 8 / 255, "steps": 7}}``.
    deployment : dict, optional
        The table ``[deployment]``: solver, backward, tail, readout, training_gradient.
    classes : int, optional
        How many there are; the greatest label and one more unless given.
    seed : int
        Weights and everything random in training derive from it.
    resume : bool
        Whether to go on from the folder's last checkpoint, if it has one.
    ranks : optional
        Processes that train together, such as :class:`TorchRanks`: any object with ``rank``, ``size``, ``all_to_all`` and
        ``all_gather``. They share out the micro-batches of a step (``"micro_batch"`` in ``train``), and any number of them comes to the
        same weights to the bit. The first one writes; a folder that is resumed must be one that all read.
    name, dataset
        Words for the model file.
    verbose : bool
        Whether the first rank draws a progress bar (tqdm).

    Returns
    -------
    Trained

    Raises
    ------
    ValueError
        If images, labels or settings are not what is said above, or ``out`` belongs to another training.
    OSError
        If ``out`` cannot be used.
    RuntimeError
        If the loss is no number any more, or ranks differ or are lost.
    KeyboardInterrupt
        On Ctrl-C; with ``resume=True`` the same call goes on from the last checkpoint.
    """
    _, images, given = _torch.points(x, y)
    labels = [int(label) for label in given]
    if classes is None:
        classes = max(labels) + 1
    _torch.below(labels, classes)
    folder = os.fspath(out)
    request = {
        "name": name or (model if isinstance(model, str) else str(model.get("kind", "model"))), "dataset": dataset,
        "classes": classes, "model": model, "deployment": deployment, "train": train, "seed": seed, "out": folder,
        "resume": resume,
    }
    bar = _Bar() if verbose and (ranks is None or ranks.rank == 0) else None
    try:
        said = _equipoise.train(images, labels, json.dumps(request), ranks, bar)
    finally:
        if bar is not None:
            bar.close()
    return Trained(folder, json.loads(said))
