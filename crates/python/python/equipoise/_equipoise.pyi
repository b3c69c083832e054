"""The extension module, in Rust. Arrays are C-contiguous; images have the shape ``[N, C, H, W]``, float32 in [0, 1]."""

from os import PathLike
from typing import Any, Callable, Dict, Final, List, Optional, Protocol, Sequence, Tuple, TypedDict, Union, final, type_check_only

from numpy import float32, int64
from numpy.typing import NDArray

__all__ = [
    "Attack",
    "ONE_GRADIENT",
    "__version__",
    "check_budget",
    "evaluate",
    "get_num_threads",
    "render",
    "set_num_threads",
    "statements",
]

__version__: Final[str]
ONE_GRADIENT: Final[List[str]]

@type_check_only
class Classifier(Protocol):
    def logits(self, images: NDArray[float32], /) -> NDArray[float32]: ...
    def linearise(
        self, images: NDArray[float32], /
    ) -> Tuple[NDArray[float32], Callable[[NDArray[float32]], NDArray[float32]]]: ...

@type_check_only
class WrittenAttack(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> str: ...
    @property
    def gradient_free(self) -> bool: ...
    def attempt(
        self, images: NDArray[float32], labels: List[int], indices: List[int], seed: int, start: int, /
    ) -> NDArray[float32]: ...

@type_check_only
class Watch(Protocol):
    def stage(self, label: str, total: int, /) -> None: ...
    def advance(self, examples: int, met: int, broken: int, /) -> None: ...
    def beat(self, done: int, total: int, standing: int, /) -> None: ...

@type_check_only
class Options(TypedDict):
    labels: Sequence[int]
    indices: Sequence[int]
    classes: int
    name: str
    dataset: str
    class_names: Sequence[str]
    norm: str
    eps: float
    seed: int
    batch_size: int
    time_limit: Optional[float]
    left_out: Sequence[Tuple[str, str]]
    journal: Optional[Union[str, PathLike[str]]]
    identity: str
    configuration: str

@final
class Attack:
    @staticmethod
    def named(name: str) -> List[Attack]: ...
    @staticmethod
    def apgd(loss: str, *, iterations: int, restarts: int, targets: int, rho: float) -> Attack: ...
    @staticmethod
    def fab(
        *, iterations: int, restarts: int, targets: Optional[int], alpha_max: float, eta: float, beta: float
    ) -> Attack: ...
    @staticmethod
    def square(*, queries: int, restarts: int, share: float) -> Attack: ...
    @property
    def name(self) -> str: ...
    def refusal(self, classes: int, norm: str) -> Optional[str]: ...

def evaluate(
    model: Classifier,
    attacks: Sequence[Union[Attack, WrittenAttack]],
    images: NDArray[float32],
    options: Options,
    watch: Optional[Watch],
) -> Tuple[str, NDArray[float32], NDArray[int64], NDArray[int64]]: ...
def check_budget(norm: str, eps: float) -> None: ...
def render(record: str, format: str, title: str) -> str: ...
def statements(record: str) -> List[Tuple[str, str, List[str], List[str]]]: ...
def set_num_threads(threads: int) -> None: ...
def get_num_threads() -> int: ...
