"""How a DEQ is used: its solvers, and what follows them. Settings alone, in the words of the record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Union


@dataclass(frozen=True)
class Broyden:
    """Broyden's method, ``z <- z - B g(z)``, from z_0 = 0.

    Parameters
    ----------
    steps : int
        T, the most steps.
    tolerance : float
        An image stops, by itself, at the relative residual ``|f(z) - z| / |f(z)|`` below it; 0 takes all steps.
    """

    steps: int = 8
    tolerance: float = 1e-3

    def _method(self) -> Any:
        return "broyden"


@dataclass(frozen=True)
class Anderson:
    """Anderson's method over the last ``memory`` points, from z_0 = 0.

    Parameters
    ----------
    steps, tolerance
        As for :class:`Broyden`.
    memory : int
        m, the points that are mixed.
    regularisation : float
        Added to the diagonal of the Gram matrix of the residuals.
    mixing : float
        1 mixes the values f(z), 0 the points z.
    """

    steps: int = 8
    tolerance: float = 1e-3
    memory: int = 6
    regularisation: float = 1e-4
    mixing: float = 1.0

    def _method(self) -> Any:
        return {"anderson": {"memory": self.memory, "regularisation": self.regularisation, "mixing": self.mixing}}


@dataclass(frozen=True)
class Picard:
    """Fixed-point iteration ``z <- (1 - damping) z + damping f(z)``, from z_0 = 0.

    Parameters
    ----------
    steps, tolerance
        As for :class:`Broyden`.
    damping : float
        In (0, 1].
    """

    steps: int = 8
    tolerance: float = 1e-3
    damping: float = 1.0

    def _method(self) -> Any:
        return {"picard": {"damping": self.damping}}


Solver = Union[Broyden, Anderson, Picard]


@dataclass(frozen=True)
class Tail:
    """Applications of f after the solver, which are a part of the deployed forward pass: ``lead`` undamped ones, then ``steps``
    of ``a <- (1 - damping) a + damping f(a)``."""

    lead: int = 1
    steps: int = 0
    damping: float = 0.5

    @staticmethod
    def exact() -> "Tail":
        """One application: what a model has that was trained by implicit differentiation."""
        return Tail()

    @staticmethod
    def unrolled() -> "Tail":
        """One application, and nine damped by half: what a model has that was trained by the unrolled (phantom) gradient."""
        return Tail(1, 9, 0.5)

    @staticmethod
    def none() -> "Tail":
        """The head reads the solver's best iterate itself."""
        return Tail(0, 0)


@dataclass(frozen=True)
class Deployment:
    """A DEQ's solvers, tail, readout and training gradient."""

    solver: Solver = field(default_factory=Broyden)
    backward: Solver = field(default_factory=lambda: Broyden(7))
    tail: Tail = field(default_factory=Tail)
    readout: str = "final"
    training_gradient: str = "exact"

    def plain(self) -> Dict[str, Any]:
        """The same as a model file has it."""

        def solver(given: Any) -> Dict[str, Any]:
            if not isinstance(given, (Broyden, Anderson, Picard)):
                raise ValueError(f"{given!r} is no solver: give a Broyden, an Anderson or a Picard")
            return {"method": given._method(), "steps": given.steps, "tolerance": given.tolerance}

        if not isinstance(self.tail, Tail):
            raise ValueError(f"{self.tail!r} is no tail: give a Tail, such as Tail.exact()")
        tail = {"lead": self.tail.lead, "steps": self.tail.steps, "damping": self.tail.damping}
        return {
            "solver": solver(self.solver),
            "backward": solver(self.backward),
            "tail": tail,
            "readout": str(self.readout),
            "training_gradient": str(self.training_gradient),
        }
