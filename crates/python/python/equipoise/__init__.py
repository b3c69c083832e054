"""Equipoise: is the measured robustness of a classifier real, or an artefact of gradient obfuscation?

``AutoAttack`` takes the place of the reference implementation; :func:`evaluate` says more. Both take any callable from
images to logits in PyTorch. A deep equilibrium model is a :class:`Deq` of three callables, a TorchDEQ model
(:func:`from_torchdeq`), or a file of Equipoise's own (:func:`load`).
"""

from ._adversary import adversary
from ._attack import Attack, Batch, WhiteBox
from ._certify import Bound, Certified, certify, predict
from ._deployment import Anderson, Broyden, Picard, Tail
from ._deq import Deq, scales
from ._diagnose import Diagnosis, diagnose
from ._equipoise import METHODS, __version__, get_num_threads, set_num_threads
from ._evaluate import evaluate
from ._native import Model, load
from ._report import report
from ._result import Result, Verdict
from ._torchdeq import from_torchdeq
from ._train import Ranks, TorchRanks, Trained, train
from .autoattack import AutoAttack

__all__ = [
    "Anderson",
    "Attack",
    "AutoAttack",
    "Batch",
    "Bound",
    "Broyden",
    "Certified",
    "Deq",
    "Diagnosis",
    "METHODS",
    "Model",
    "Picard",
    "Ranks",
    "Result",
    "Tail",
    "TorchRanks",
    "Trained",
    "Verdict",
    "WhiteBox",
    "__version__",
    "adversary",
    "certify",
    "diagnose",
    "evaluate",
    "from_torchdeq",
    "get_num_threads",
    "load",
    "predict",
    "report",
    "scales",
    "set_num_threads",
    "train",
]
