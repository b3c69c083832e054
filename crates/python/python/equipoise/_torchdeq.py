"""A TorchDEQ model as it is deployed, taken apart without its author's help.

TorchDEQ's module is called with the cell f and a first state, and returns the state that the rest of the network reads. While a
stand-in answers in its place, a forward pass up to that call shows f with its injection, and one that is given a state shows the
head. So the injection is the images themselves, and f is the stem and the cell together: the way from a state's gradient to the
images passes through the stem once more.
"""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch

from . import _equipoise, _rows, _torch
from ._deployment import Anderson, Broyden, Deployment, Picard, Solver, Tail
from ._deq import Deq, Linearised, _way_back


class _Captured(BaseException):
    """Ends a forward pass once f is known."""


class TorchDeq(Deq):
    """What :func:`from_torchdeq` makes."""

    def __init__(self, net: Any, deq: Any, example: Any, deployment: Deployment, notes: List[str], name: Optional[str],
                 states: str) -> None:
        self._net, self._deq = net, deq
        self.notes = notes
        self._module = net
        self.name = name or type(net).__name__
        self.deployment = _equipoise.checked_deployment(json.dumps(deployment.plain()))
        parameter = next(iter(net.parameters()), None)
        self.device = example.device if parameter is None else parameter.device
        self.dtype = torch.float32 if parameter is None else parameter.dtype
        self._kept = _rows.kept(states, self.device, self.dtype)
        _, start, listed = _capture(net, deq, example.to(device=self.device, dtype=self.dtype))
        self._tuple = listed
        self.shapes = [tuple(part.shape[1:]) for part in start]
        self._several = False
        self.described = {"name": self.name, "deployment": json.loads(self.deployment), "torchdeq": notes,
                          "arithmetic": self._kept.described}
        self._answers = None

    def _prepared(self, images: np.ndarray[Any, Any], say: Callable[[str], None]) -> Any:
        shape = images.shape[1:]
        if self._answers is None or self._answers.image != shape:
            _evaluating(self._net)
            self._answers = _Answers(self, images[:2])  # type: ignore[assignment]
        return self._answers

    def __repr__(self) -> str:
        return "\n".join([super().__repr__(), *(f"  {note}" for note in self.notes)])


def from_torchdeq(
    net: Any,
    deq: Any,
    *,
    example: Any,
    solver: Optional[Solver] = None,
    backward: Optional[Solver] = None,
    tail: Optional[Tail] = None,
    readout: Optional[str] = None,
    training_gradient: Optional[str] = None,
    name: Optional[str] = None,
    states: str = "auto",
) -> TorchDeq:
    """A network with a TorchDEQ module, as it is deployed: f, head, solver and training gradient are read from it.

    ``print`` the result to see what was read and what differs: solvers here stop image by image, TorchDEQ's on the largest
    residual of the batch.

    Parameters
    ----------
    net : Module
        In ``eval()``. Called with images, it returns logits ``[N, K]``.
    deq : Module
        TorchDEQ's module within it, such as ``net.deq``.
    example : Tensor ``[N, C, H, W]``
        At least two images, different from each other, to try the network on.
    solver, backward, tail, readout, training_gradient
        What is to differ from what was read.
    name : str, optional
        For the record; the network's class unless given.
    states : str
        Where states are between two calls of f, as for :class:`Deq`.

    Returns
    -------
    Deq

    Raises
    ------
    ValueError
        By name, what is not covered: a network in ``train()``, no call of ``deq`` or several, a first state that is not 0, a head
        that sees the images past the state, an unknown solver, options that change the iteration (``LBFGS_thres``, ``ls``,
        ``return_final``), a cell that is randomised.
    """
    for what, module in [("net", net), ("deq", deq)]:
        if not isinstance(module, torch.nn.Module):
            raise ValueError(f"{what} must be a Module and is a {type(module).__name__}")
    if not any(part is deq for part in net.modules()):
        raise ValueError("deq is no part of net: give the module within it, such as net.deq")
    _evaluating(net)
    x, _ = _torch.images(example)
    if len(x) < 2 or torch.equal(x[0], x[1]):
        raise ValueError("example must hold at least two images that differ")
    read, notes, start = _settings(net, deq, x)
    deployment = Deployment(
        solver if solver is not None else read.solver,
        backward if backward is not None else read.backward,
        tail if tail is not None else read.tail,
        readout if readout is not None else read.readout,
        training_gradient if training_gradient is not None else read.training_gradient,
    )
    model = TorchDeq(net, deq, x, deployment, notes, name, states)
    model._prepared(_torch.images(x)[1], _torch.warn)
    return model


def _evaluating(net: Any) -> None:
    if any(part.training for part in net.modules()):
        raise ValueError("net is in training mode: TorchDEQ then returns other states than in deployment, and dropout and batch "
                         "statistics are attacked; call net.eval() first")


@contextlib.contextmanager
def _standing_in(deq: Any, answer: Callable[..., Any]) -> Iterator[None]:
    """While it lasts, the module answers as is said."""
    deq.forward = answer
    try:
        yield
    finally:
        del deq.forward


def _capture(net: Any, deq: Any, x: Any) -> Tuple[Callable[..., Any], List[Any], bool]:
    """f with the injection of these images, the first state's parts, and whether they were given as a tuple or list."""
    found: List[Any] = []

    def answer(func: Any, z_init: Any = None, **options: Any) -> Any:
        z_init = options.get("z_star", z_init)
        found.append((func, z_init, options))
        raise _Captured

    with _standing_in(deq, answer):
        try:
            net(x)
        except _Captured:
            pass
    if not found:
        raise ValueError("net(x) does not call deq: give the TorchDEQ module that its forward pass uses")
    func, start, _ = found[0]
    listed = isinstance(start, (tuple, list))
    parts = list(start) if listed else [start]
    if not all(isinstance(part, torch.Tensor) and part.dim() >= 1 and len(part) == len(x) for part in parts):
        raise ValueError("deq is called with first states whose rows are not the images'")
    return func, parts, listed


def _settings(net: Any, deq: Any, x: Any) -> Tuple[Deployment, List[str], Any]:
    """What TorchDEQ's module says of itself, and what differs here."""
    parameter = next(iter(net.parameters()), None)
    if parameter is not None:
        x = x.to(device=parameter.device, dtype=parameter.dtype)
    calls: List[Tuple[Any, Any, Dict[str, Any]]] = []
    original = type(deq).forward

    def counting(*given: Any, **options: Any) -> Any:
        names = dict(zip(["func", "z_init", "solver_kwargs"], given))
        first = names.get("z_init", options.get("z_init", options.get("z_star")))
        calls.append((names.get("func"), first, names.get("solver_kwargs") or options.get("solver_kwargs") or {}))
        return original(deq, *given, **options)

    with torch.no_grad(), _standing_in(deq, counting):
        net(x)
    if len(calls) != 1:
        raise ValueError(f"net(x) calls deq {len(calls)} times: a model with one equilibrium calls it once")
    _, start, options = calls[0]
    parts = list(start) if isinstance(start, (tuple, list)) else [start]
    if any(bool((part != 0).any()) for part in parts):
        raise ValueError("deq is called with a first state that is not 0: solvers here begin from 0")
    options = dict(options)
    steps = int(options.pop("f_max_iter", deq.eval_f_max_iter))
    notes: List[str] = []
    solver, tail, readout = _solver(deq.f_solver.__name__, steps, float(deq.f_tol), str(deq.f_stop_mode), options, notes)
    backward, gradient = _backward(deq, notes)
    return Deployment(solver, backward, tail, readout, gradient), notes, start


def _tolerance(tolerance: float, mode: str, what: str, notes: List[str]) -> float:
    if mode == "rel":
        notes.append(f"{what} stops at the relative residual {tolerance:g}: here each image by itself, in TorchDEQ all of a batch "
                     "once the last one has it")
        return tolerance
    notes.append(f"{what} stops in TorchDEQ where all of a batch have the absolute residual {tolerance:g}: here each image takes "
                 "all steps (tolerance 0), since the tolerance here is of the relative residual; give solver= for another")
    return 0.0


def _solver(
    name: str, steps: int, tolerance: float, mode: str, options: Dict[str, Any], notes: List[str]
) -> Tuple[Solver, Tail, str]:
    """The solver in our words, the applications of f in the state that TorchDEQ returns, and which state that is."""
    if options.pop("return_final", False) and name != "simple_fixed_point_iter":
        raise ValueError("return_final: TorchDEQ then returns the last iterate, not the best; describe the model as an equipoise.Deq "
                         "with readout='early(T)' and tail=Tail.none()")
    damping = float(options.pop("tau", 1.0))
    defaults: Dict[str, Dict[str, Any]] = {
        "anderson_solver": {"m": 6, "lam": 1e-4},
        "broyden_solver": {"LBFGS_thres": None, "ls": False},
    }
    given = {key: options.pop(key, value) for key, value in defaults.get(name, {}).items()}
    if options:
        raise ValueError(f"solver_kwargs {sorted(options)}: not known of {name}")
    if name == "broyden_solver":
        if given["ls"]:
            raise ValueError("ls: Broyden's method here has no line search")
        if given["LBFGS_thres"] is not None and given["LBFGS_thres"] < steps:
            raise ValueError(f"LBFGS_thres {given['LBFGS_thres']}: Broyden's method here keeps all {steps} steps")
        notes.append(f"forward: Broyden, {steps} steps; the head reads the best iterate")
        return Broyden(steps, _tolerance(tolerance, mode, "the solver", notes)), Tail.none(), "final"
    if name == "anderson_solver":
        if steps < 3:
            raise ValueError(f"anderson with f_max_iter {steps}: TorchDEQ returns the first state below 3")
        if damping != 1.0:
            raise ValueError(f"anderson with tau {damping}: TorchDEQ takes its first step undamped; only 1 is known here")
        notes.append(f"forward: Anderson, {steps} evaluations of f, {given['m']} points; the head reads f at the best iterate")
        solver = Anderson(
            steps - 1, _tolerance(tolerance, mode, "the solver", notes), int(given["m"]), float(given["lam"]), 1.0
        )
        return solver, Tail.exact(), "final"
    if name == "fixed_point_iter":
        if steps < 2:
            raise ValueError(f"fixed_point_iter with f_max_iter {steps}: at least 2 are needed")
        damped = "" if damping == 1.0 else f", damped by {damping:g}"
        notes.append(f"forward: Picard{damped}, {steps} evaluations of f; the head reads the step after the best iterate")
        tail = Tail.exact() if damping == 1.0 else Tail(0, 1, damping)
        return Picard(steps - 1, _tolerance(tolerance, mode, "the solver", notes), damping), tail, "final"
    if name == "simple_fixed_point_iter":
        notes.append(f"forward: Picard, {steps} steps, none left out; the head reads the last one, early({steps})")
        return Picard(steps, 0.0, damping), Tail.none(), f"early({steps})"
    raise ValueError(f"solver {name}: only anderson, broyden, fixed_point_iter and simple_fixed_point_iter are known; describe the "
                     "model as an equipoise.Deq")


def _backward(deq: Any, notes: List[str]) -> Tuple[Solver, str]:
    """The training gradient: of the last state, which is the one that is deployed."""
    arguments = deq.args
    if arguments.get("ift", False) or arguments.get("hook_ift", False):
        steps, name = int(deq.b_max_iter), deq.b_solver.__name__
        notes.append(f"training gradient: implicit differentiation, {name} with {steps} steps backward")
        tolerance = float(deq.b_tol) if deq.b_stop_mode == "rel" else 0.0
        solvers: Dict[str, Solver] = {
            "anderson_solver": Anderson(steps, tolerance), "broyden_solver": Broyden(steps, tolerance),
            "fixed_point_iter": Picard(steps, tolerance), "simple_fixed_point_iter": Picard(steps, tolerance),
        }
        if name not in solvers:
            raise ValueError(f"backward solver {name}: only anderson, broyden and fixed_point_iter are known; give backward=")
        return solvers[name], "exact"
    grad = arguments.get("grad", 1)
    steps = int(grad if isinstance(grad, int) else grad[-1])
    damping = float(arguments.get("tau", 1.0))
    notes.append(f"training gradient: {steps} unrolled steps, damped by {damping:g}, from the best iterate (phantom gradient)")
    return Broyden(7), f"unrolled:state=best,lead=0,steps={steps},damping={damping:g}"


class _Answers:
    """What the Rust side asks. The injection of an image is the image."""

    def __init__(self, model: TorchDeq, images: np.ndarray[Any, Any]) -> None:
        self.model, self.image = model, images.shape[1:]
        self.kept = model._kept
        self.algebra = self.kept.algebra
        self.state_dim = model.state_dim
        self.injection_dim = math.prod(self.image)
        x = self._images(images)
        with torch.no_grad():
            states = [torch.randn(len(x), *shape, generator=torch.Generator().manual_seed(0)).to(x) for shape in model.shapes]
            logits = self._head(states, x)
            cell = self.bind(self.stem(images))
            state = self.kept.rows(torch.cat([part.flatten(1) for part in states], dim=1))
            first = cell.apply(state)
            # Passes on other images lie between: an f that reads what they leave behind is found out.
            others = self._head(states, x.roll(1, 0))
            second = cell.apply(state)
        if not torch.allclose(logits, others, rtol=1e-4, atol=1e-6):
            raise ValueError("the head sees the images past the state (a skip connection around the equilibrium): only heads of the "
                             "state alone are covered")
        first, second = (self.kept.tensor(value) for value in (first, second))
        if not torch.allclose(first, second, rtol=1e-4, atol=1e-6):
            raise ValueError("f answers differently when asked again after a pass on other images: it is randomised, or keeps its "
                             "injection where the next pass overwrites it; pass the injection to f by its closure")
        self.classes = int(logits.shape[1])

    def _images(self, rows: Any) -> Any:
        """Images from an array of them, or from rows."""
        given = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(rows)
        return given.to(device=self.model.device, dtype=self.model.dtype).reshape(len(rows), *self.image)

    def parts(self, z: Any) -> List[Any]:
        """States ``[N, D]`` as the network has them."""
        sizes = [math.prod(shape) for shape in self.model.shapes]
        return [part.reshape(len(z), *shape) for part, shape in zip(z.split(sizes, dim=1), self.model.shapes)]

    def _head(self, states: List[Any], x: Any) -> Any:
        def answer(func: Any, z_init: Any = None, **options: Any) -> Any:
            return [list(states) if self.model._tuple else states[0]], {"sradius": torch.zeros(1)}

        with _standing_in(self.model._deq, answer):
            logits = self.model._net(x)
        if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2:
            given = list(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
            raise ValueError(f"net must return logits [N, K] and returned {given} for {len(x)} images: wrap it in a module that does")
        return logits

    def _blank(self, count: int) -> Any:
        """Images for passes that only the head matters of."""
        return torch.zeros(count, *self.image, device=self.model.device, dtype=self.model.dtype)

    # What is asked:

    def stem(self, images: np.ndarray[Any, Any]) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return self.kept.rows(self._images(images).flatten(1))

    def linearise_stem(self, images: np.ndarray[Any, Any]) -> Tuple[Any, Callable[..., Any]]:
        def pullback(cotangent: Any) -> np.ndarray[Any, Any]:
            return _torch.array(self.kept.tensor(cotangent)).reshape(images.shape)

        return self.stem(images), pullback

    def bind(self, injection: Any) -> "_Cell":
        return _Cell(self, injection)

    def head(self, states: Any) -> np.ndarray[Any, Any]:
        with torch.inference_mode(False), torch.no_grad():
            return _torch.array(self._head(self.parts(self.kept.tensor(states)), self._blank(len(states))))

    def linearise_head(self, states: Any) -> Tuple[np.ndarray[Any, Any], Callable[..., Any]]:
        with torch.inference_mode(False), torch.enable_grad():
            z = self.kept.tensor(states).detach().requires_grad_(True)
            logits = self._head(self.parts(z), self._blank(len(states)))
        return _torch.array(logits), _way_back(logits, z, "the head", self.kept.rows)


class _Cell:
    """f as a forward pass on some images showed it, or some of its rows. f has the injection of all the images within it, so that
    rows are asked for by asking for all."""

    def __init__(self, answers: _Answers, injection: Any, rows: Optional[List[int]] = None) -> None:
        self.answers, self.injection, self.rows = answers, injection, rows
        self._f: Any = None

    def select(self, rows: List[int]) -> "_Cell":
        chosen = rows if self.rows is None else [self.rows[row] for row in rows]
        part = _Cell(self.answers, self.injection, chosen)
        part._f = self._f
        return part

    def _call(self, func: Any, z: Any) -> Any:
        parts = self.answers.parts(z)
        value = func(*parts)
        listed = list(value) if isinstance(value, (tuple, list)) else [value]
        if [part.shape for part in listed] != [part.shape for part in parts]:
            raise ValueError(f"f returned {[list(part.shape) for part in listed]} and must return states like z")
        return torch.cat([part.reshape(len(z), -1) for part in listed], dim=1)

    def apply(self, states: Any) -> Any:
        answers, kept = self.answers, self.answers.kept
        with torch.inference_mode(False), torch.no_grad():
            if self._f is None:
                x = answers._images(self.injection)
                self._f, _, _ = _capture(answers.model._net, answers.model._deq, x)
            full = states if self.rows is None else kept.among(states, self.rows, len(self.injection))
            value = kept.rows(self._call(self._f, kept.tensor(full)))
        return value if self.rows is None else kept.select(value, self.rows)

    def linearise(self, states: Any) -> Tuple[Any, Linearised]:
        answers, kept = self.answers, self.answers.kept
        injection = self.injection if self.rows is None else kept.select(self.injection, self.rows)
        with torch.inference_mode(False), torch.enable_grad():
            x = answers._images(injection).detach().requires_grad_(True)
            func, _, _ = _capture(answers.model._net, answers.model._deq, x)
            z = kept.tensor(states).detach().requires_grad_(True)
            value = self._call(func, z)
        return kept.rows(value), Linearised(value, z, [x], kept)
