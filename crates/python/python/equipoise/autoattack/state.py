"""The state of an evaluation on disk, by the interface of ``autoattack.state``, which RobustBench reads.

The file says how far an evaluation has come. What it has found stands in the journal beside it, a folder of the same name
and ``.journal``.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Set

import torch


class RobustFlags(torch.Tensor):
    """A mask ``[N]`` whose mean is a share: RobustBench takes it of the mask itself, and PyTorch has none of booleans."""

    # What is made of it is an ordinary tensor.
    __torch_function__ = torch._C._disabled_torch_function_impl

    def mean(self, *arguments: Any, **options: Any) -> Any:
        return self.float().mean(*arguments, **options)


@dataclass
class EvaluationState:
    """How far an evaluation has come.

    Attributes
    ----------
    attacks_to_run, run_attacks : set of str
        The attacks, and those that are done.
    robust_flags : Tensor ``[N]`` of bool, or None
        Which images have withstood everything; None until the evaluation is complete.
    clean_accuracy : float
        In [0, 1]; not a number until the evaluation is complete.
    seed : int, optional
        What random numbers derive from.
    """

    attacks_to_run: Set[str]
    path: Optional[Path] = None
    run_attacks: Set[str] = field(default_factory=set)
    robust_flags: Optional[Any] = None
    clean_accuracy: float = math.nan
    seed: Optional[int] = None

    @property
    def robust_accuracy(self) -> float:
        """Share of images that withstood everything.

        Raises
        ------
        ValueError
            If the evaluation is not complete.
        """
        if self.robust_flags is None:
            raise ValueError("the evaluation is not complete, so that its robust accuracy is not known")
        return float(self.robust_flags.float().mean())

    def add_run_attack(self, attack: str) -> None:
        """Notes that an attack is done."""
        self.run_attacks.add(attack)
        self.to_disk()

    def to_disk(self, force: bool = False) -> None:
        """Writes the file, whole or not at all. ``force`` is the reference's; here there is nothing to force."""
        if self.path is None:
            return
        content = {
            "equipoise": 1,
            "attacks_to_run": sorted(self.attacks_to_run),
            "run_attacks": sorted(self.run_attacks),
            "robust_flags": None if self.robust_flags is None else self.robust_flags.tolist(),
            "clean_accuracy": None if math.isnan(self.clean_accuracy) else self.clean_accuracy,
            "seed": self.seed,
        }
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps(content), encoding="utf-8")
        os.replace(partial, self.path)

    @classmethod
    def from_disk(cls, path: Path) -> "EvaluationState":
        """Reads the file.

        Raises
        ------
        ValueError
            If it is another kind of file. Those of the reference implementation hold no images to go on from.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["equipoise"] != 1:
                raise KeyError("equipoise")
            flags = content["robust_flags"]
            accuracy = content["clean_accuracy"]
            return cls(
                attacks_to_run=set(content["attacks_to_run"]),
                path=path,
                run_attacks=set(content["run_attacks"]),
                robust_flags=None if flags is None else robust_flags(flags),
                clean_accuracy=math.nan if accuracy is None else float(accuracy),
                seed=content["seed"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not the state of an evaluation by equipoise (one by the reference AutoAttack holds no images to "
                "go on from): give another state_path"
            ) from error


def robust_flags(flags: Any) -> Any:
    """A mask from booleans."""
    return torch.as_tensor(flags, dtype=torch.bool).as_subclass(RobustFlags)
