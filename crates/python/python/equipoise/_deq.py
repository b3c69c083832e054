"""A DEQ of one's own, from three callables."""

from __future__ import annotations

import json
import math
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch

from . import _equipoise, _rows, _torch
from ._deployment import Broyden, Deployment, Solver, Tail

Shape = Union[int, Sequence[int]]


class Examined:
    """What can be assessed and diagnosed: a model with a name, an identity, a deployment, and somebody who answers."""

    name: str
    deployment: str
    described: Any

    def _prepared(self, images: np.ndarray[Any, Any], say: Callable[[str], None]) -> Any:
        """Who answers, having seen a few images ``[N, C, H, W]``."""
        raise NotImplementedError

    @property
    def classes(self) -> int:
        """Number of classes."""
        raise NotImplementedError

    def _identity(self, images: np.ndarray[Any, Any]) -> str:
        raise NotImplementedError

    def __call__(self, x: Any, readout: Optional[str] = None) -> Any:
        """Logits ``[N, K]`` of images ``[N, C, H, W]`` as the model is deployed, off autograd.

        Parameters
        ----------
        x : Tensor or ndarray
        readout : str, optional
            Another readout than the deployed one, such as ``"early(3)"``.
        """
        x, images = _torch.images(x)
        answer = _equipoise.logits(self._prepared(images, _torch.warn), images, self.deployment, self._readout(readout))
        return torch.from_numpy(answer).to(x)

    def gradient(self, x: Any, y: Any, gradient: Optional[str] = None, readout: Optional[str] = None) -> Any:
        """Gradient ``[N, C, H, W]`` of each image's cross-entropy, by an estimator.

        Parameters
        ----------
        x, y
            Images and true classes.
        gradient : str, optional
            An estimator, such as ``"through-solver"``, ``"adjoint:state=4"`` or ``"unrolled:state=2,lead=1,steps=4"``; the
            training gradient unless given.
        readout : str, optional
            The deployed one unless given.
        """
        x, images, labels = _torch.points(x, y)
        prepared = self._prepared(images, _torch.warn)
        _torch.below(labels, self.classes)
        found = _equipoise.gradient(
            prepared, images, list(labels), self.deployment, self._readout(readout), self._gradient(gradient)
        )
        return torch.from_numpy(found).to(x)

    def _readout(self, given: Optional[str]) -> str:
        return str(json.loads(self.deployment)["readout"]) if given is None else given

    def _gradient(self, given: Optional[str]) -> str:
        return str(json.loads(self.deployment)["training_gradient"]) if given is None else given


class Deq(Examined):
    """A deep equilibrium model ``head(z*)``, ``z* = f(z*, stem(x))``, from three callables in PyTorch.

    Attacks, gradients, diagnoses and readouts are Equipoise's: solver and gradient estimators ask f for its value and for
    vector-Jacobian products, by ``torch.autograd.grad``. Of a float32 model on the CPU they work on copies of the states; of any
    other, on tensors that stay on its device. Parameters, their ``.grad`` and the training mode of modules are left as they are.

    Parameters
    ----------
    stem : callable
        From images ``[N, C, H, W]`` to the injection: a tensor, or a tuple or list of tensors, N rows each.
    f : callable
        ``f(z, injection)``, the cell, row by row: a state like ``z``. No noise, no batch statistics, no operation in place on
        ``z``.
    head : callable
        From states to logits ``[N, K]``, row by row.
    state : int, tuple of int, or list of these
        The shape of one image's state: ``z`` is ``[N, D]`` for a number D, and ``[N, *shape]`` for a shape. For several scales, a
        list of shapes: ``z`` is then ``[N, D]``, all scales flattened one after another, which :func:`scales` takes apart; f
        may return a list of tensors.
    solver, backward
        The forward solver, from z_0 = 0, and that of the backward equation ``u = u J + v``.
    tail : Tail
        Applications of f after the solver.
    readout : str
        What is deployed: ``"final"``, ``"early(t)"``, ``"ensemble-states"`` or ``"ensemble-logits"``.
    training_gradient : str
        The gradient that it was trained with, and that ready-made attacks follow: ``"exact"``, or for instance
        ``"unrolled:state=best,lead=1,steps=9,damping=0.5"``.
    name : str, optional
        A name for the record; that of the module which ``f`` is or belongs to, unless given.
    module : Module, optional
        Whose parameters tell this model from others when a journal is resumed; found by itself where callables are modules
        or their methods.
    device, dtype
        Where and in which precision to compute: the module's, or CPU and float32, unless given. Images and logits cross in float32.
    states : str
        Where states are between two calls of f: ``"memory"``, copies in the memory of the CPU, float32; ``"model"``, tensors on the
        model's device and in its precision; ``"auto"``, the first for float32 on the CPU and else the second.

    Raises
    ------
    ValueError
        If a setting makes no sense; at the first use, if what the callables return does not fit together.
    """

    def __init__(
        self,
        stem: Callable[[Any], Any],
        f: Callable[[Any, Any], Any],
        head: Callable[[Any], Any],
        *,
        state: Union[Shape, Sequence[Shape]],
        solver: Optional[Solver] = None,
        backward: Optional[Solver] = None,
        tail: Optional[Tail] = None,
        readout: str = "final",
        training_gradient: str = "exact",
        name: Optional[str] = None,
        module: Any = None,
        device: Any = None,
        dtype: Any = None,
        states: str = "auto",
    ) -> None:
        for what, given in [("stem", stem), ("f", f), ("head", head)]:
            if not callable(given):
                raise ValueError(f"{what} must be callable and is a {type(given).__name__}")
        self.stem, self.f, self.head = stem, f, head
        self.shapes = _shapes(state)
        self._several = isinstance(state, (list, tuple)) and len(state) > 0 and not isinstance(state[0], int)
        deployment = Deployment(
            solver if solver is not None else Broyden(),
            backward if backward is not None else Broyden(7),
            tail if tail is not None else Tail.exact(),
            readout,
            training_gradient,
        )
        self.deployment = _equipoise.checked_deployment(json.dumps(deployment.plain()))
        self._module = module if module is not None else _module([stem, f, head])
        named = self._module is not None and not isinstance(self._module, torch.nn.ModuleList)
        self.name = name or (type(self._module).__name__ if named else "DEQ")
        self.described = {"name": self.name, "deployment": json.loads(self.deployment), "callables": _words(self)}
        parameter = next(iter(self._module.parameters()), None) if self._module is not None else None
        self.device = device if device is not None else ("cpu" if parameter is None else parameter.device)
        self.dtype = dtype if dtype is not None else (torch.float32 if parameter is None else parameter.dtype)
        self._kept = _rows.kept(states, self.device, self.dtype)
        self.described["arithmetic"] = self._kept.described
        self._answers: Optional[_Answers] = None

    @property
    def state_dim(self) -> int:
        """D, the numbers of one image's state."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def classes(self) -> int:
        if self._answers is None:
            raise ValueError("the number of classes is known once the model has seen images: call it first")
        return self._answers.classes

    def _prepared(self, images: np.ndarray[Any, Any], say: Callable[[str], None]) -> "_Answers":
        shape = images.shape[1:]
        if self._answers is None or self._answers.image != shape:
            if self._module is not None and any(part.training for part in self._module.modules()):
                say("the model is in training mode: dropout and batch statistics are attacked, which is not what is "
                    "deployed; call .eval() first")
            self._answers = _Answers(self, images[:3])
        return self._answers

    def _identity(self, images: np.ndarray[Any, Any]) -> str:
        if self._module is not None:
            return _torch.identity_of(self._module)
        answers = self._prepared(images, _torch.warn)
        return "callables, " + _torch.digest(answers.head(answers.bind(answers.stem(images[:4])).apply(
            answers.zeros(len(images[:4])))))

    def __repr__(self) -> str:
        solver = json.loads(self.deployment)["solver"]
        return f"<Deq {self.name}: states of length {self.state_dim}, {solver['method']}, {solver['steps']} steps>"


def scales(z: Any, shapes: Sequence[Shape]) -> List[Any]:
    """Takes states ``[N, D]`` of several scales apart: a tensor ``[N, *shape]`` for each of the shapes, whose sizes add up to D.

    Raises
    ------
    ValueError
        If they do not.
    """
    shapes = _shapes(list(shapes))
    sizes = [math.prod(shape) for shape in shapes]
    if z.dim() != 2 or sum(sizes) != z.shape[1]:
        raise ValueError(f"shapes {shapes} hold {sum(sizes)} numbers, and z is {list(z.shape)}: it must be [N, {sum(sizes)}]")
    return [part.reshape(len(z), *shape) for part, shape in zip(z.split(sizes, dim=1), shapes)]


class _Answers:
    """What the Rust side asks of three callables. Images and logits are arrays of float32; states ``[N, D]`` and injections
    ``[N, I]`` are rows, as ``kept`` has them."""

    def __init__(self, deq: Deq, images: np.ndarray[Any, Any]) -> None:
        self.deq, self.image = deq, images.shape[1:]
        self.kept = deq._kept
        #: What computes with states that stay tensors.
        self.algebra = self.kept.algebra
        self.state_dim = deq.state_dim
        count = len(images)
        with torch.no_grad():
            injection = self._checked_stem(deq.stem(self._images(images)), count)
            #: The shape of one row of each part of the injection; None where it is one tensor, not a tuple.
            self.parts = [tuple(part.shape[1:]) for part in _listed(injection)]
            self.single = isinstance(injection, torch.Tensor)
            self.injection_dim = sum(math.prod(shape) for shape in self.parts)
            start = self.zeros(count)
            value = self._flat(deq.f(self._state(start), injection), count)
            again = self._flat(deq.f(self._state(start), injection), count)
            logits = self._checked_head(deq.head(self._state(start)), count)
        if not torch.equal(value.nan_to_num(), again.nan_to_num()) and not torch.allclose(value, again, rtol=1e-4):
            raise ValueError("f answers differently when asked again: it is randomised, and a solver needs a fixed map; call "
                             ".eval() if it has dropout")
        self.classes = int(logits.shape[1])

    def _images(self, array: np.ndarray[Any, Any]) -> Any:
        return torch.from_numpy(array).to(device=self.deq.device, dtype=self.deq.dtype)

    def zeros(self, count: int) -> Any:
        """So many states of zeros."""
        return self.kept.rows(torch.zeros(count, self.state_dim))

    def _state(self, rows: Any) -> Any:
        return self._shaped(self.kept.tensor(rows))

    def _shaped(self, z: Any) -> Any:
        return z if self.deq._several else z.reshape(len(z), *self.deq.shapes[0])

    def _flat(self, value: Any, count: int) -> Any:
        """f's answer as ``[N, D]``."""
        if isinstance(value, (tuple, list)) and all(isinstance(part, torch.Tensor) for part in value) and value:
            shapes = [(count, *shape) for shape in self.deq.shapes]
            if [tuple(part.shape) for part in value] != shapes:
                given = [list(part.shape) for part in value]
                raise ValueError(f"f returned tensors of shapes {given} and must return {[list(shape) for shape in shapes]}")
            return torch.cat([part.reshape(count, -1) for part in value], dim=1)
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"f must return a tensor like z and returned a {type(value).__name__}")
        whole = [(count, self.state_dim)] + ([] if self.deq._several else [(count, *self.deq.shapes[0])])
        if tuple(value.shape) not in whole:
            raise ValueError(f"f returned {list(value.shape)} and must return {list(whole[-1])}, like z")
        return value.reshape(count, self.state_dim)

    def _checked_stem(self, injection: Any, count: int) -> Any:
        parts = _listed(injection)
        if not parts or not all(isinstance(part, torch.Tensor) and part.is_floating_point() for part in parts):
            raise ValueError("stem must return a tensor of floats, or a tuple or list of such, and returned a "
                             f"{type(injection).__name__}")
        for part in parts:
            if part.dim() < 1 or len(part) != count:
                raise ValueError(f"stem returned a tensor of shape {list(part.shape)} for {count} images: its rows must be theirs")
        return injection

    def _checked_head(self, logits: Any, count: int) -> Any:
        if not isinstance(logits, torch.Tensor):
            hint = ": wrap it, as in `lambda z: head(z)[0]`" if isinstance(logits, (tuple, list)) else ""
            raise ValueError(f"head must return a tensor of logits and returned a {type(logits).__name__}{hint}")
        if logits.dim() != 2 or len(logits) != count or logits.shape[1] < 2 or not logits.is_floating_point():
            raise ValueError(f"head must return logits [N, K], K at least 2, and returned {list(logits.shape)} for {count} states")
        return logits

    def _injection(self, rows: Any) -> Any:
        """The flat injection as the stem returned it."""
        sizes = [math.prod(shape) for shape in self.parts]
        flat = self.kept.tensor(rows)
        parts = [part.reshape(len(rows), *shape) for part, shape in zip(flat.split(sizes, dim=1), self.parts)]
        return parts[0] if self.single else parts

    def _flat_injection(self, injection: Any, count: int) -> Any:
        return torch.cat([part.reshape(count, -1) for part in _listed(injection)], dim=1)

    # What is asked:

    def stem(self, images: np.ndarray[Any, Any]) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return self.kept.rows(self._flat_injection(self.deq.stem(self._images(images)), len(images)))

    def linearise_stem(self, images: np.ndarray[Any, Any]) -> Tuple[Any, Callable[..., Any]]:
        with torch.inference_mode(False), torch.enable_grad():
            x = self._images(images).requires_grad_(True)
            injection = self._flat_injection(self.deq.stem(x), len(images))
        return self.kept.rows(injection), _way_back(injection, x, "stem", _torch.array)

    def bind(self, injection: Any) -> "_Cell":
        return _Cell(self, injection)

    def head(self, states: Any) -> np.ndarray[Any, Any]:
        with torch.no_grad():
            return _torch.array(self._checked_head(self.deq.head(self._state(states)), len(states)))

    def linearise_head(self, states: Any) -> Tuple[np.ndarray[Any, Any], Callable[..., Any]]:
        with torch.inference_mode(False), torch.enable_grad():
            z = self.kept.tensor(states).detach().requires_grad_(True)
            logits = self._checked_head(self.deq.head(self._shaped(z)), len(states))
        return _torch.array(logits), _way_back(logits, z, "head", self.kept.rows)


class _Cell:
    """f with an injection fixed."""

    def __init__(self, answers: _Answers, injection: Any) -> None:
        self.answers, self.rows = answers, injection
        self.injection = answers._injection(injection)

    def select(self, rows: List[int]) -> "_Cell":
        return _Cell(self.answers, self.answers.kept.select(self.rows, rows))

    def apply(self, states: Any) -> Any:
        answers = self.answers
        with torch.inference_mode(False), torch.no_grad():
            return answers.kept.rows(answers._flat(answers.deq.f(answers._state(states), self.injection), len(states)))

    def linearise(self, states: Any) -> Tuple[Any, "Linearised"]:
        answers = self.answers
        with torch.inference_mode(False), torch.enable_grad():
            z = answers.kept.tensor(states).detach().requires_grad_(True)
            injection = [part.detach().requires_grad_(True) for part in _listed(self.injection)]
            value = answers.deq.f(answers._shaped(z), injection[0] if answers.single else injection)
            value = answers._flat(value, len(states))
        return answers.kept.rows(value), Linearised(value, z, injection, answers.kept)


class Linearised:
    """A value of f, and products with its Jacobians from the left."""

    def __init__(self, value: Any, z: Any, injection: List[Any], kept: Any) -> None:
        self.value, self.z, self.injection, self.kept = value, z, injection, kept

    def _products(self, cotangent: Any, inputs: List[Any]) -> List[Any]:
        if not self.value.requires_grad:
            raise RuntimeError("f's value does not depend on its inputs as far as autograd sees: it computes under "
                               "torch.no_grad or detaches")
        with torch.inference_mode(False):
            u = self.kept.tensor(cotangent).to(self.value)
            found = torch.autograd.grad(self.value, inputs, u, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(given) if part is None else part for part, given in zip(found, inputs)]

    def vjp_state(self, cotangent: Any) -> Any:
        return self.kept.rows(self._products(cotangent, [self.z])[0])

    def vjp(self, cotangent: Any) -> Tuple[Any, Any]:
        z, *injection = self._products(cotangent, [self.z, *self.injection])
        count = len(cotangent)
        with torch.inference_mode(False), torch.no_grad():
            flat = torch.cat([part.reshape(count, -1) for part in injection], dim=1)
        return self.kept.rows(z), self.kept.rows(flat)


def _way_back(values: Any, x: Any, what: str, answered: Callable[[Any], Any]) -> Callable[..., Any]:
    """From a derivative with respect to ``values``, an array or a tensor, to one with respect to ``x``, as it is to be answered."""
    def pullback(derivative: Any) -> Any:
        found = None
        if values.requires_grad:
            with torch.inference_mode(False):
                given = derivative if isinstance(derivative, torch.Tensor) else torch.from_numpy(derivative)
                (found,) = torch.autograd.grad(values, x, given.to(values), allow_unused=True)
        if found is None:
            raise RuntimeError(f"what {what} returns does not depend on its input as far as autograd sees: it computes under "
                               "torch.no_grad or detaches")
        return answered(found)

    return pullback


def _listed(injection: Any) -> List[Any]:
    return list(injection) if isinstance(injection, (tuple, list)) else [injection]


def _shapes(state: Any) -> List[Tuple[int, ...]]:
    def one(shape: Any) -> Tuple[int, ...]:
        sides = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        if not sides or not all(isinstance(side, (int, np.integer)) and side > 0 for side in sides):
            raise ValueError(f"state {shape!r}: give a number, a shape such as (64, 32, 32), or a list of shapes")
        return tuple(int(side) for side in sides)

    if isinstance(state, (int, np.integer)):
        return [one(state)]
    if not isinstance(state, (list, tuple)) or not state:
        raise ValueError(f"state {state!r}: give a number, a shape such as (64, 32, 32), or a list of shapes")
    return [one(state)] if isinstance(state[0], (int, np.integer)) else [one(shape) for shape in state]


def _module(callables: List[Any]) -> Any:
    """The one module that the callables are, belong to or refer to; a container of them if they are several."""
    found = [module for given in callables for module in _torch.modules_of(given)]
    distinct = [module for k, module in enumerate(found) if all(module is not other for other in found[:k])]
    outermost = [module for module in distinct
                 if not any(module is not other and any(module is part for part in other.modules()) for other in distinct)]
    if len(outermost) <= 1:
        return outermost[0] if outermost else None
    container = torch.nn.ModuleList(outermost)
    container.training = False  # of the container alone: what is in it keeps its mode
    return container


def _words(deq: Deq) -> Any:
    return {what: getattr(given, "__qualname__", type(given).__name__)
            for what, given in [("stem", deq.stem), ("f", deq.f), ("head", deq.head)]}
