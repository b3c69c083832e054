"""AutoAttack by the interface of the reference implementation (Croce and Hein 2020, arXiv 2003.01690).

A program that imports it by name can be given this package instead::

    import sys, equipoise.autoattack
    sys.modules["autoattack"] = equipoise.autoattack
    sys.modules["autoattack.state"] = equipoise.autoattack.state
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch

from .. import _equipoise, _evaluate, _torch
from .._result import Result
from . import state
from .state import EvaluationState

__all__ = ["AutoAttack", "EvaluationState", "state"]

VERSIONS = {
    "standard": ["apgd-ce", "apgd-t", "fab-t", "square"],
    "plus": ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"],
    "rand": ["apgd-ce", "apgd-dlr"],
}


@dataclasses.dataclass
class _Parameters:
    """Settings of an attack. One that there is not is refused, lest it be set in vain."""

    def __setattr__(self, name: str, value: Any) -> None:
        known = [field.name for field in dataclasses.fields(self)]
        if name not in known:
            raise AttributeError(f"{type(self).__name__} has no setting {name!r}; it has {', '.join(known)}")
        object.__setattr__(self, name, value)


@dataclasses.dataclass
class APGD(_Parameters):
    """Settings of APGD-CE and APGD-DLR: iterations, restarts, the share of steps that must raise the loss.

    ``eot_iter``: of a randomised model, each answer to the attack is the mean of so many (expectation over transformation).
    ``use_largereps`` holds in L1 and nowhere else.
    """

    n_restarts: int = 5
    n_iter: int = 100
    rho: float = 0.75
    eot_iter: int = 1
    use_largereps: bool = False


@dataclasses.dataclass
class APGDTargeted(APGD):
    """Settings of APGD-T: those of APGD, for each of so many target classes."""

    n_restarts: int = 1
    n_target_classes: int = 9


@dataclasses.dataclass
class FAB(_Parameters):
    """Settings of FAB and, with one restart for each target class, of FAB-T."""

    n_restarts: int = 5
    n_iter: int = 100
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9
    n_target_classes: int = 9


@dataclasses.dataclass
class Square(_Parameters):
    """Settings of Square Attack: queries, restarts, the share of an image in the first squares, whose schedule is not
    rescaled to the number of queries."""

    n_queries: int = 5000
    n_restarts: int = 1
    p_init: float = 0.8
    resc_schedule: bool = False


class Logger:
    """Prints lines, and appends them to a file if one is named."""

    def __init__(self, log_path: Optional[Union[str, Path]]) -> None:
        self.log_path = log_path

    def log(self, text: str) -> None:
        print(text)
        if self.log_path is not None:
            with open(self.log_path, "a", encoding="utf-8") as file:
                file.write(text + "\n")


class AutoAttack:
    """AutoAttack, in the place of the reference implementation: the same constructor, methods, attributes and log.

    What differs: every success is verified by a forward pass of its own; an interrupted evaluation with ``state_path`` goes on
    where it was and returns all its images; an image's result depends on nothing but the image and the seed, as far as
    the model's does; attacks without gradients (Square) are run last, so that what only they break is known;
    :attr:`result` holds everything, with a verdict.

    Parameters
    ----------
    model : callable
        From images ``[N, C, H, W]`` in [0, 1] to logits ``[N, K]``: a module in ``eval()``, or any function.
    norm : str
        ``"Linf"``, ``"L2"`` or ``"L1"`` (where FAB and Square do not search).
    eps : float
        The radius, in units of pixel intensity.
    seed : int, optional
        Another evaluation draws other numbers unless it is given.
    verbose : bool
        Whether to print the log; warnings are always logged.
    attacks_to_run : list of str
        Of ``apgd-ce``, ``apgd-dlr``, ``apgd-t``, ``fab``, ``fab-t``, ``square``, with ``version="custom"``.
    version : str
        ``"standard"``, ``"plus"``, ``"rand"`` for models that answer at random, or ``"custom"``.
    is_tf_model : bool
        TensorFlow models are refused.
    device
        Where to compute: where the model's parameters are unless given, or else where the images are.
    log_path : path, optional
        A file to which the log is appended.

    Attributes
    ----------
    apgd, apgd_targeted, fab, square
        Settings of the attacks, to be changed before a run.
    result : Result or None
        What the last run found. After ``run_standard_evaluation_individual``, of the last attack.

    Raises
    ------
    ValueError
        If an argument is not what is said above.
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        norm: str = "Linf",
        eps: float = 0.3,
        seed: Optional[int] = None,
        verbose: bool = True,
        attacks_to_run: Sequence[str] = (),
        version: str = "standard",
        is_tf_model: bool = False,
        device: Any = None,
        log_path: Optional[Union[str, Path]] = None,
    ) -> None:
        if is_tf_model:
            raise ValueError("is_tf_model=True: models of TensorFlow are not supported; give a function in PyTorch")
        if norm not in ("Linf", "L2", "L1"):
            raise ValueError(f"norm is {norm!r}: give 'Linf', 'L2' or 'L1'")
        if version != "custom" and attacks_to_run:
            raise ValueError("attacks_to_run will be overridden unless you use version='custom'")
        _equipoise.check_budget(norm, eps)
        self.model, self.norm, self.epsilon, self.seed, self.verbose = model, norm, eps, seed, verbose
        self.attacks_to_run: List[str] = list(attacks_to_run)
        self.version, self.is_tf_model, self.device = version, is_tf_model, device
        self.logger = Logger(log_path)
        largereps = norm == "L1"
        self.apgd, self.apgd_targeted = APGD(use_largereps=largereps), APGDTargeted(use_largereps=largereps)
        self.fab, self.square = FAB(), Square()
        self.result: Optional[Result] = None
        if version != "custom":
            self.set_version(version)

    def set_version(self, version: str = "standard") -> None:
        """Sets attacks and their settings to those of ``"standard"``, ``"plus"`` or ``"rand"``.

        Raises
        ------
        ValueError
            For other versions.
        """
        if version not in VERSIONS:
            raise ValueError(f"version is {version!r}: give 'standard', 'plus', 'rand' or 'custom'")
        if self.verbose:
            print(f"setting parameters for {version} version")
        l1 = self.norm == "L1"
        self.attacks_to_run = list(VERSIONS[version])
        self.apgd.n_restarts = 5 if version == "plus" or l1 else 1
        self.fab.n_restarts = 5 if version == "plus" else 1
        self.apgd.eot_iter = 20 if version == "rand" else 1
        self.apgd_targeted.n_restarts = self.apgd_targeted.eot_iter = 1
        self.apgd_targeted.n_target_classes = 5 if version == "standard" and l1 else 9
        self.fab.n_target_classes = 9
        self.square.n_queries = 5000

    def get_logits(self, x: Any) -> Any:
        """The model's logits ``[N, K]`` on images ``[N, C, H, W]``."""
        return self.model(x)

    def get_seed(self) -> int:
        """The seed, or a fresh one where none was given."""
        return secrets.randbits(63) if self.seed is None else self.seed

    def clean_accuracy(self, x_orig: Any, y_orig: Any, bs: int = 250) -> float:
        """Share of images ``[N, C, H, W]`` that are classified as ``y_orig`` ``[N]``, in [0, 1]."""
        x_orig, _, labels = _torch.points(x_orig, y_orig)
        device = _torch.probed(self.model, x_orig[:1], self.device, self._warn).device
        correct = 0
        with torch.no_grad():
            for first in range(0, len(x_orig), bs):
                found = self.get_logits(x_orig[first : first + bs].to(device)).argmax(1).tolist()
                correct += sum(a == b for a, b in zip(found, labels[first : first + bs]))
        accuracy = correct / len(labels)
        if self.verbose:
            print(f"clean accuracy: {accuracy:.2%}")
        return accuracy

    def run_standard_evaluation(
        self,
        x_orig: Any,
        y_orig: Any,
        bs: int = 250,
        return_labels: bool = False,
        state_path: Optional[Union[str, Path]] = None,
    ) -> Any:
        """Runs the attacks one after the other, each on what stands.

        Parameters
        ----------
        x_orig : Tensor ``[N, C, H, W]``, float32 or float64
            Images in [0, 1].
        y_orig : Tensor ``[N]`` of integers
            True classes.
        bs : int
            Images at once.
        return_labels : bool
            Whether to return the model's classes too.
        state_path : path, optional
            A file for the state, with the journal in a folder beside it. Where it is there already, the evaluation goes
            on from it, to the same images as without the interruption.

        Returns
        -------
        Tensor ``[N, C, H, W]``, or with ``return_labels`` that and a Tensor ``[N]``
            Adversarial images where there are, ``x_orig`` elsewhere, on its device and in its dtype; the model's classes on
            them (−1 where its logits are not finite).

        Raises
        ------
        ValueError
            If images, labels, attacks or settings are not what is said, or the state is that of another evaluation.
        KeyboardInterrupt
            On Ctrl-C; with ``state_path`` the same call goes on.
        Exception
            Whatever the model raises, as it is.
        """
        path = None if state_path is None else Path(state_path)
        is_new = path is not None and not path.exists()
        attacks = self._attacks(self.attacks_to_run)
        names = [name for name, _ in attacks]
        kept = self._state(path, set(names))
        if self.verbose:
            left = [name for name in names if name not in kept.run_attacks]
            self.logger.log(f"using {self.version} version including {', '.join(left)}.")
            if kept.run_attacks:
                self.logger.log(f"{', '.join(sorted(kept.run_attacks))} was/were already run.")
        assert kept.seed is not None
        log = _Log(self.logger if self.verbose else None, names, bs, kept)
        try:
            result = _evaluate.run(
                self.model,
                x_orig,
                y_orig,
                norm=self.norm,
                eps=self.epsilon,
                attacks=[attack for _, attack in attacks],
                seed=kept.seed,
                batch_size=bs,
                device=self.device,
                draws=self._draws(names),
                journal=None if path is None else _journal(path),
                watch=log,
                say=self._warn,
            )
        except ValueError:
            # Refused before anything was kept: a state of nothing would be in the way of the next call.
            if path is not None and is_new:
                journal = _journal(path)
                if not journal.is_dir():
                    path.unlink()
                elif not any(journal.iterdir()):
                    journal.rmdir()
                    path.unlink()
            raise
        self.result = result
        x_orig = torch.as_tensor(x_orig).detach()
        x_adv = result.adversarial()
        kept.run_attacks = set(names)
        kept.robust_flags = state.robust_flags([example["robust"] for example in result.examples])
        kept.clean_accuracy = result.clean_accuracy
        kept.to_disk(force=True)
        if self.verbose:
            size, nan = _sizes(x_adv - x_orig, self.norm).max(), (x_adv != x_adv).sum()
            self.logger.log(
                f"max {self.norm} perturbation: {size:.5f}, nan in tensor: {nan}, max: {x_adv.max():.5f}, "
                f"min: {x_adv.min():.5f}"
            )
            self.logger.log(f"robust accuracy: {result.robust_accuracy:.2%}")
        if not return_labels:
            return x_adv
        y_orig = torch.as_tensor(y_orig)
        return x_adv, torch.tensor(_classes(result), dtype=y_orig.dtype, device=y_orig.device)

    def run_standard_evaluation_individual(
        self, x_orig: Any, y_orig: Any, bs: int = 250, return_labels: bool = False
    ) -> Dict[str, Any]:
        """Runs each attack by itself on all images; what ``run_standard_evaluation`` returns for each, by name."""
        if self.verbose:
            print(f"using {self.version} version including {', '.join(self.attacks_to_run)}")
        attacks, verbose = self.attacks_to_run, self.verbose
        found = {}
        try:
            for attack in attacks:
                started = time.time()
                self.attacks_to_run, self.verbose = [attack], False
                x_adv, y_adv = self.run_standard_evaluation(x_orig, y_orig, bs=bs, return_labels=True)
                found[attack] = (x_adv, y_adv) if return_labels else x_adv
                if verbose and self.result is not None:
                    space = "\t \t" if attack == "fab" else "\t"
                    self.logger.log(
                        f"robust accuracy by {attack.upper()} {space} {self.result.robust_accuracy:.2%} \t "
                        f"(time attack: {time.time() - started:.1f} s)"
                    )
        finally:
            self.attacks_to_run, self.verbose = attacks, verbose
        return found

    def _warn(self, message: str) -> None:
        self.logger.log(f"Warning: {message}")

    def _draws(self, names: Sequence[str]) -> int:
        """The model's answers that each answer to an attack is the mean of."""
        used = {(self.apgd_targeted if name == "apgd-t" else self.apgd).eot_iter for name in names if name.startswith("apgd")}
        if len(used) > 1:
            raise ValueError(f"eot_iter is {self.apgd.eot_iter} of apgd and {self.apgd_targeted.eot_iter} of apgd_targeted: one number "
                             "holds for all attacks of a run")
        return used.pop() if used else 1

    def _attacks(self, names: Sequence[str]) -> List[Tuple[str, _equipoise.Attack]]:
        """The attacks with their settings, in the order in which they are run."""
        for which in (self.apgd, self.apgd_targeted):
            if which.use_largereps != (self.norm == "L1"):
                raise ValueError(f"use_largereps is {which.use_largereps} in {self.norm}: APGD goes through larger balls in "
                                 "L1, and nowhere else")
        if self.square.resc_schedule:
            raise ValueError("resc_schedule is True: the schedule of squares is not rescaled; leave it at False")
        apgd, targeted, fab, square = self.apgd, self.apgd_targeted, self.fab, self.square
        attack = _equipoise.Attack

        def apgd_on(loss: str, which: APGD, targets: int) -> _equipoise.Attack:
            return attack.apgd(
                loss, iterations=which.n_iter, restarts=which.n_restarts, targets=targets, rho=which.rho
            )

        def fab_on(restarts: int, targets: Optional[int]) -> _equipoise.Attack:
            weights = {"alpha_max": fab.alpha_max, "eta": fab.eta, "beta": fab.beta}
            return attack.fab(iterations=fab.n_iter, restarts=restarts, targets=targets, **weights)

        known: Dict[str, Callable[[], _equipoise.Attack]] = {
            "apgd-ce": lambda: apgd_on("ce", apgd, 1),
            "apgd-dlr": lambda: apgd_on("dlr", apgd, 1),
            "apgd-t": lambda: apgd_on("dlr-targeted", targeted, targeted.n_target_classes),
            "fab": lambda: fab_on(fab.n_restarts, None),
            "fab-t": lambda: fab_on(1, fab.n_target_classes),
            "square": lambda: attack.square(
                queries=square.n_queries, restarts=square.n_restarts, share=square.p_init
            ),
        }
        unknown = [name for name in names if name not in known]
        if unknown or not names or len(set(names)) < len(names):
            problem = f"{unknown[0]!r} is no attack" if unknown else "names are missing or stand twice"
            raise ValueError(f"attacks_to_run is {list(names)}: {problem}; give some of {', '.join(known)}, each once")
        ordered = sorted(names, key=lambda name: name == "square")
        return [(name, known[name]()) for name in ordered]

    def _state(self, path: Optional[Path], names: "set[str]") -> EvaluationState:
        """What is on disk, or a new state, written there."""
        if path is not None and path.exists():
            kept = EvaluationState.from_disk(path)
            if kept.attacks_to_run != names:
                raise ValueError(
                    f"the state in {path} was created with a different set of attacks to run: "
                    f"{', '.join(sorted(kept.attacks_to_run))}. You are probably using the wrong state file."
                )
            if self.seed not in (None, kept.seed):
                raise ValueError(f"the state in {path} was created with seed {kept.seed}, and the seed is {self.seed}")
            if kept.run_attacks and not _journal(path).is_dir():
                raise ValueError(f"the state in {path} has lost its images: {_journal(path)} is missing; delete the file")
            if self.verbose:
                self.logger.log(f"Restored state from {path}")
            return kept
        if path is not None and _journal(path).is_dir():
            raise ValueError(f"{_journal(path)} belongs to a state whose file, {path}, is missing: delete the folder")
        kept = EvaluationState(names, path=path, seed=self.get_seed())
        kept.to_disk(force=True)
        if self.verbose and path is not None:
            self.logger.log(f"Created state in {path}")
        return kept


class _Log:
    """The lines of the log, batch by batch and attack by attack."""

    def __init__(self, logger: Optional[Logger], names: List[str], bs: int, kept: EvaluationState) -> None:
        self._logger, self._bs, self._kept = logger, bs, kept
        self._names = iter(names)
        self._started = time.time()
        self._restored = set(kept.run_attacks)
        self._stage, self._total, self._met, self._broken = "", 0, 0, 0
        self._points = self._robust = 0

    def stage(self, label: str, total: int) -> None:
        # Stages are the clean pass, what a resumed run looks at again, and the attacks in their order.
        attack = label not in ("clean", "verifying what was kept")
        self._stage = next(self._names) if attack else label
        self._total, self._met, self._broken = total, 0, 0
        if attack and total == 0:
            self._kept.add_run_attack(self._stage)

    def advance(self, examples: int, met: int, broken: int) -> None:
        if self._stage == "verifying what was kept":
            return
        new, fell = met - self._met, broken - self._broken
        self._met, self._broken = met, broken
        if self._stage == "clean":
            self._points, self._robust = met, met - broken
            if met == self._total:
                word = "initial clean accuracy" if self._restored else "initial accuracy"
                self._say(f"{word}: {self._share()}")
            return
        self._robust -= fell
        silent = self._stage in self._restored
        if not silent:
            batch, batches = -(-met // self._bs), -(-self._total // self._bs)
            self._say(f"{self._stage} - {batch}/{batches} - {fell} out of {new} successfully perturbed")
        if met == self._total:
            if not silent:
                self._say(
                    f"robust accuracy after {self._stage.upper()}: {self._share()} "
                    f"(total time {time.time() - self._started:.1f} s)"
                )
            self._kept.add_run_attack(self._stage)

    def beat(self, done: int, total: int, standing: int) -> None:
        pass

    def _share(self) -> str:
        return f"{self._robust / self._points:.2%}"

    def _say(self, text: str) -> None:
        if self._logger is not None:
            self._logger.log(text)


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def _sizes(change: Any, norm: str) -> Any:
    change = change.flatten(1)
    if norm == "Linf":
        return change.abs().amax(1)
    return change.norm(dim=1) if norm == "L2" else change.abs().sum(1)


def _classes(result: Result) -> List[int]:
    """The model's class on each image that is returned."""
    classes = []
    for example in result.examples:
        broken = example["broken_by"] is not None
        found = example["adversarial_prediction"] if broken else example["clean_prediction"]
        classes.append(-1 if found is None else int(found))
    return classes
