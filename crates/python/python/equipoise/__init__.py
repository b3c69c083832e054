"""Equipoise: is the measured robustness of a classifier real, or an artefact of gradient obfuscation?

``AutoAttack`` takes the place of the reference implementation; :func:`evaluate` says more. Both take any callable from
images to logits in PyTorch.
"""

from ._attack import Attack, Batch, WhiteBox
from ._equipoise import __version__, get_num_threads, set_num_threads
from ._evaluate import evaluate
from ._result import Result, Verdict
from .autoattack import AutoAttack

__all__ = [
    "Attack",
    "AutoAttack",
    "Batch",
    "Result",
    "Verdict",
    "WhiteBox",
    "__version__",
    "evaluate",
    "get_num_threads",
    "set_num_threads",
]
