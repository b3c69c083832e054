"""PyTorch, and nothing else of the package, is known here: a callable in it as arrays, and arrays as its tensors.

The Rust side asks two things of a classifier. ``logits(images)`` is the black box; ``linearise(images)`` answers with the
logits and with the function that takes a derivative with respect to them to one with respect to the images. A classifier of
another library needs the same two methods.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np

try:
    import torch
except ImportError as error:  # pragma: no cover
    raise ImportError("equipoise attacks PyTorch models and needs torch: https://pytorch.org says how to install it") from error


class Classifier:
    """A callable from images to logits, as the attacks see it.

    Parameters and training mode stay as they are: gradients are taken with respect to the images alone, by
    ``torch.autograd.grad``, which writes nothing to ``.grad``.
    """

    def __init__(self, model: Callable[[Any], Any], device: Any, dtype: Any) -> None:
        if not callable(model):
            raise ValueError(f"the model must be callable, from images to logits, and is a {type(model).__name__}")
        self.model, self.device, self.dtype = model, device, dtype
        self.classes: Optional[int] = None

    def images(self, images: np.ndarray[Any, Any]) -> Any:
        """Images as the model takes them."""
        return torch.from_numpy(images).to(device=self.device, dtype=self.dtype)

    def checked(self, answer: Any, images: Any) -> Any:
        """The model's answer, if it is logits ``[N, K]``.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        if not isinstance(answer, torch.Tensor):
            hint = ": wrap it, as in `lambda x: model(x)[0]`" if isinstance(answer, (tuple, list)) else ""
            if isinstance(getattr(answer, "logits", None), torch.Tensor):
                hint = ": wrap it, as in `lambda x: model(x).logits`"
            raise ValueError(f"the model must return a tensor of logits and returned a {type(answer).__name__}{hint}")
        if answer.dim() != 2 or len(answer) != len(images) or not answer.is_floating_point():
            raise ValueError(
                f"the model must return logits [N, K], one row per image, and returned {_words(answer)} for "
                f"{len(images)} images"
            )
        if answer.shape[1] < 2:
            raise ValueError("the model returned a single logit per image: give it two, as in `torch.cat([-z, z], 1)`")
        if self.classes is not None and answer.shape[1] != self.classes:
            raise ValueError(f"the model returned {answer.shape[1]} logits, and {self.classes} before")
        return answer

    def logits(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Logits ``[N, K]`` of images ``[N, C, H, W]``, float32."""
        with torch.no_grad():
            x = self.images(images)
            return array(self.checked(self.model(x), x))

    def linearise(self, images: np.ndarray[Any, Any]) -> Tuple[np.ndarray[Any, Any], Callable[..., Any]]:
        """Logits, and the function from a derivative ``[N, K]`` to one ``[N, C, H, W]``, which can be called once."""
        with torch.inference_mode(False), torch.enable_grad():
            x = self.images(images).requires_grad_(True)
            logits = self.checked(self.model(x), x)

        def pullback(derivative: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            with torch.inference_mode(False):
                return array(gradient(logits, x, torch.from_numpy(derivative).to(logits)))

        return array(logits), pullback


def gradient(values: Any, x: Any, derivative: Any) -> Any:
    """The derivative with respect to ``x`` of what ``values`` came from.

    Raises
    ------
    RuntimeError
        If autograd sees no way from one to the other.
    """
    found = None
    if values.requires_grad:
        with torch.inference_mode(False):
            (found,) = torch.autograd.grad(values, x, derivative, allow_unused=True)
    if found is None:
        raise RuntimeError(
            "the model's logits do not depend on its images as far as autograd sees: it computes under torch.no_grad or "
            "detaches. A TorchDEQ module in eval() does: give equipoise.evaluate what equipoise.from_torchdeq makes of the "
            "network. Attacks that follow a gradient cannot be run on it as it is; attacks='square' needs none"
        )
    return found


def probed(model: Callable[[Any], Any], x: Any, device: Any, say: Callable[[str], None], draws: int = 1) -> Classifier:
    """A classifier whose number of classes is known by its answer on images ``x``; says what looks wrong."""
    module = module_of(model)
    if device is None:
        parameter = next(iter(module.parameters()), None) if module is not None else None
        device = x.device if parameter is None else parameter.device
    classifier = Classifier(model, device, x.dtype)
    if module is not None and any(part.training for part in module.modules()):
        say("the model is in training mode: dropout and batch statistics are attacked, which is not what is deployed; "
            "call model.eval() first")
    with torch.no_grad():
        first, second = (classifier.checked(model(x.to(device)), x).double() for _ in range(2))
    classifier.classes = int(first.shape[1])
    scale = second.norm(dim=1).clamp_min(1e-10)
    if draws == 1 and bool(((first - second).norm(dim=1) / scale > 1e-4).any()):
        say("the model answers differently when asked again: it is randomised, and attacks follow single draws; draws=20 (of "
            "AutoAttack, version='rand') has them follow the mean of so many")
    if bool((first.min() >= 0) & ((first.sum(1) - 1).abs() < 1e-5).all()):
        say("the model seems to return probabilities: attacks want logits, from before the softmax")
    return classifier


def module_of(model: Any) -> Any:
    """The module that a callable is, or is a method of; None where that cannot be seen."""
    for candidate in (model, getattr(model, "__self__", None)):
        if isinstance(candidate, torch.nn.Module):
            return candidate
    return None


def modules_of(function: Any) -> List[Any]:
    """The modules that a callable is, is a method of, or refers to: those in its closure, and globals that it names."""
    module = module_of(function)
    if module is not None:
        return [module]
    if isinstance(function, functools.partial):
        parts = [function.func, *function.args, *function.keywords.values()]
        return [module for part in parts for module in modules_of(part)]
    code = getattr(function, "__code__", None)
    found = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _filled(cell)]
    if code is not None:
        found += [function.__globals__[name] for name in code.co_names if name in function.__globals__]
    return [part for part in found if isinstance(part, torch.nn.Module)]


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents
    except ValueError:
        return False
    return True


def identity(classifier: Classifier, images: np.ndarray[Any, Any]) -> str:
    """What tells a model from others: a hash of its parameters, or of its classes on some images where it has none."""
    module = module_of(classifier.model)
    if module is None:
        return f"callable, predictions {digest(classifier.logits(images[:16]).argmax(1))}"
    return identity_of(module)


def identity_of(module: Any) -> str:
    """What tells a module from others: a hash of its parameters."""
    sha256 = hashlib.sha256()
    for name, value in module.state_dict().items():
        sha256.update(name.encode())
        if isinstance(value, torch.Tensor):
            sha256.update(f"{value.dtype} {tuple(value.shape)}".encode())
            sha256.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"{type(module).__name__}, parameters {sha256.hexdigest()[:16]}"


def digest(numbers: np.ndarray[Any, Any]) -> str:
    """A short hash of numbers."""
    return hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).hexdigest()[:16]


def points(x: Any, y: Any) -> Tuple[Any, np.ndarray[Any, Any], Sequence[int]]:
    """Images as a tensor and as an array of float32 ``[N, C, H, W]``, and their labels.

    Raises
    ------
    ValueError
        If they are not images and labels.
    """
    x, found = images(x)
    y = torch.as_tensor(y)
    if y.shape != (len(x),) or y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(f"y must be one class number for each of the {len(x)} images, and is {_words(y)}")
    if int(y.min()) < 0:
        raise ValueError(f"y holds the label {int(y.min())}: classes are numbered from 0")
    return x, found, y.tolist()


def below(labels: Sequence[int], classes: int) -> None:
    """Refuses labels that are no classes.

    Raises
    ------
    ValueError
        With the first of them.
    """
    for index, label in enumerate(labels):
        if label >= classes:
            raise ValueError(f"image {index} has the label {label}, and the model has {classes} classes: use the data it is for")


def rows(indices: Optional[Sequence[int]], count: int) -> Sequence[int]:
    """Where images stand in their data set: 0, 1, .. unless given.

    Raises
    ------
    ValueError
        If there is not one for each image.
    """
    if indices is None:
        return range(count)
    if len(indices) != count:
        raise ValueError(f"{len(indices)} indices for {count} images: give one for each")
    return [int(index) for index in indices]


def images(x: Any) -> Tuple[Any, np.ndarray[Any, Any]]:
    """Images as a tensor and as an array of float32 ``[N, C, H, W]``.

    Raises
    ------
    ValueError
        If they are none.
    """
    x = torch.as_tensor(x)
    if x.dim() != 4 or 0 in x.shape:
        raise ValueError(f"x must be images [N, C, H, W], at least one, and is {_words(x)}")
    if x.dtype not in (torch.float32, torch.float64):
        hint = "divide by 255 to have intensities in [0, 1]" if not x.is_floating_point() else (
            "an adversarial image would be rounded out of its budget; give x in float32 and round within the model, "
            "as in `lambda x: model(x.half())`"
        )
        raise ValueError(f"x must be float32 or float64 and is {x.dtype}: {hint}")
    x = x.detach()
    return x, np.ascontiguousarray(array(x))


def adversarial(x: Any, images: np.ndarray[Any, Any], broken: np.ndarray[Any, Any]) -> Any:
    """``x`` with the images of its broken rows replaced, on its device and in its dtype."""
    rows = torch.from_numpy(np.flatnonzero(broken))
    found = torch.from_numpy(images)[rows]
    result = x.clone()
    result[rows.to(x.device)] = found.to(x)
    return result


def warn(message: str) -> None:
    """A warning at the line that called the package."""
    warnings.warn(message, UserWarning, stacklevel=5)


def array(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor as an array of float32 in the memory of the CPU."""
    found: np.ndarray[Any, Any] = tensor.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
    return found


def _words(tensor: Any) -> str:
    return f"{str(tensor.dtype).replace('torch.', '')} of shape {list(tensor.shape)}"
