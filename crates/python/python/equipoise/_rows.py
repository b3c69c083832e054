"""Where states and injections are between two calls of a model: arrays in memory, or tensors that stay on its device.

Arrays cross to the Rust side by copy, in float32, and its solvers compute with them. Tensors stay as they are: the Rust side holds
references to them and asks for each operation by its name, so that nothing of a state leaves the device but norms and inner
products.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch

from . import _torch


class Arrays:
    """States are arrays ``[N, D]``, float32."""

    #: What computes with tensors that stay: nothing does.
    algebra: Optional["Tensors"] = None

    def __init__(self, device: Any, dtype: Any) -> None:
        self.device, self.dtype = device, dtype

    @property
    def described(self) -> Dict[str, str]:
        """For the record."""
        return _described(self, "memory")

    def tensor(self, rows: Any) -> Any:
        """Rows as the model takes them."""
        return torch.from_numpy(rows).to(device=self.device, dtype=self.dtype)

    def rows(self, tensor: Any) -> Any:
        """What the model answered, as rows."""
        return _torch.array(tensor)

    def select(self, rows: Any, chosen: List[int]) -> Any:
        """Some of the rows."""
        return np.ascontiguousarray(rows[chosen])

    def among(self, rows: Any, chosen: List[int], count: int) -> Any:
        """``count`` rows, of which these are the chosen ones and the others are 0."""
        full = np.zeros((count, rows.shape[1]), rows.dtype)
        full[chosen] = rows
        return full


def _plain(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Off autograd, whatever mode the caller is in: cells differentiate with respect to what comes out."""

    @functools.wraps(operation)
    def plainly(*given: Any) -> Any:
        # Asked first: entering a mode costs as much as a small operation.
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False):
                return plainly(*given)
        with torch.no_grad():
            return operation(*given)

    return plainly


class Tensors:
    """States are tensors ``[N, D]`` on the model's device and in its precision, and this is their algebra: row by row, nothing in
    place."""

    def __init__(self, device: Any, dtype: Any) -> None:
        self.device, self.dtype = device, dtype
        self.algebra = self

    @property
    def described(self) -> Dict[str, str]:
        return _described(self, "model")

    def tensor(self, rows: Any) -> Any:
        return rows if isinstance(rows, torch.Tensor) else torch.from_numpy(rows).to(device=self.device, dtype=self.dtype)

    def rows(self, tensor: Any) -> Any:
        return tensor.detach().to(device=self.device, dtype=self.dtype)

    @_plain
    def among(self, rows: Any, chosen: List[int], count: int) -> Any:
        return rows.new_zeros(count, rows.shape[1]).index_copy_(0, self._indices(chosen), rows)

    def _indices(self, rows: List[int]) -> Any:
        return torch.as_tensor(rows, device=self.device)

    # What the Rust side asks of an algebra:

    @_plain
    def plus(self, a: Any, b: Any) -> Any:
        return a + b

    @_plain
    def minus(self, a: Any, b: Any) -> Any:
        return a - b

    @_plain
    def scaled(self, a: Any, factor: float) -> Any:
        return a * factor

    @_plain
    def times(self, a: Any, column: Any) -> Any:
        return a * column

    @_plain
    def over(self, a: Any, column: Any) -> Any:
        return a / column

    @_plain
    def dot(self, a: Any, b: Any) -> Any:
        return self._dot(a, b)

    @_plain
    def select(self, a: Any, rows: List[int]) -> Any:
        return a.index_select(0, self._indices(rows))

    @_plain
    def put(self, a: Any, rows: List[int], part: Any) -> Any:
        return a.index_copy(0, self._indices(rows), part)

    @_plain
    def stack(self, parts: List[Any]) -> Any:
        return torch.cat(parts)

    @_plain
    def zeros(self, a: Any, rows: int, width: int) -> Any:
        return a.new_zeros(rows, width)

    @_plain
    def like(self, a: Any, numbers: np.ndarray[Any, Any], width: int) -> Any:
        return torch.from_numpy(numbers).reshape(-1, width).to(a)

    @_plain
    def finite_or_zero(self, a: Any) -> Any:
        return self._finite(a)

    @_plain
    def numbers(self, a: Any) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = a.double().cpu().contiguous().numpy().reshape(-1)
        return found

    @_plain
    def broyden(
        self, z: Any, g: Any, previous: Optional[Tuple[Any, Any]], corrections: List[Tuple[Any, Any]], following: bool
    ) -> Tuple[Any, Optional[Tuple[Any, Any]]]:
        """A step of Broyden's method: ``B g``, or ``z - B g`` if the state that follows is wanted, with the correction of
        ``B = -I + sum u v^T`` by the change since the previous z and g."""
        direction = -g
        for u, v in corrections:
            direction = torch.addcmul(direction, u, self._dot(v, g))
        found = None
        if previous is not None:
            change, image = z - previous[0], g - previous[1]
            v_new = -change
            for u, v in corrections:
                v_new = torch.addcmul(v_new, v, self._dot(u, change))
            u_new = self._finite(-direction / self._dot(v_new, image))
            v_new = self._finite(v_new)
            direction = torch.addcmul(direction, u_new, self._dot(v_new, g))
            found = (u_new, v_new)
        return (z - direction if following else direction), found

    @staticmethod
    def _dot(a: Any, b: Any) -> Any:
        return (a * b).sum(1, keepdim=True)

    @staticmethod
    def _finite(a: Any) -> Any:
        return torch.where(torch.isfinite(a), a, torch.zeros_like(a))

    @_plain
    def residual(self, state: Any, value: Any) -> Tuple[Any, np.ndarray[Any, Any]]:
        """``value - state``, and its norms and then those of ``value``, in one way across."""
        residual = value - state
        norms = torch.cat([residual.norm(dim=1), value.norm(dim=1)])
        return residual, self.numbers(norms)


def _described(kept: Any, states: str) -> Dict[str, str]:
    return {"device": str(kept.device), "dtype": str(kept.dtype).replace("torch.", ""), "states": states}


def kept(states: str, device: Any, dtype: Any) -> Any:
    """Arrays or tensors, as ``states`` says: ``"memory"``, ``"model"``, or ``"auto"``.

    Raises
    ------
    ValueError
        If it says anything else.
    """
    if states not in ("auto", "memory", "model"):
        raise ValueError(f"states {states!r}: use 'auto', 'memory' (copies in the memory of the CPU, float32) or 'model' (tensors "
                         "on the model's device, in its precision)")
    in_memory = torch.device(device).type == "cpu" and dtype == torch.float32
    return Arrays(device, dtype) if states == "memory" or (states == "auto" and in_memory) else Tensors(device, dtype)
