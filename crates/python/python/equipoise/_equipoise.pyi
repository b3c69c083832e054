"""The extension module, in Rust. Arrays are C-contiguous; images have the shape ``[N, C, H, W]``, float32 in [0, 1]."""

from os import PathLike
from typing import Any, Callable, Dict, Final, List, Optional, Protocol, Sequence, Tuple, TypedDict, Union, final, type_check_only

from numpy import float32, float64, int64
from numpy.typing import NDArray

__all__ = [
    "Attack",
    "METHODS",
    "Native",
    "ONE_GRADIENT",
    "SECTIONS",
    "__version__",
    "adversary",
    "assess",
    "certify",
    "check_budget",
    "checked_deployment",
    "diagnose",
    "evaluate",
    "get_num_threads",
    "gradient",
    "logits",
    "predict",
    "prove",
    "render",
    "set_num_threads",
    "statements",
    "train",
]

__version__: Final[str]
METHODS: Final[List[str]]
ONE_GRADIENT: Final[List[str]]
SECTIONS: Final[List[str]]

@type_check_only
class Classifier(Protocol):
    def logits(self, images: NDArray[float32], /) -> NDArray[float32]: ...
    def linearise(
        self, images: NDArray[float32], /
    ) -> Tuple[NDArray[float32], Callable[[NDArray[float32]], NDArray[float32]]]: ...

@type_check_only
class Ranks(Protocol):
    rank: int
    size: int
    def all_to_all(self, parts: List[bytes], /) -> List[bytes]: ...
    def all_gather(self, own: bytes, /) -> List[bytes]: ...

@type_check_only
class TrainWatch(Protocol):
    def begin(self, step: int, steps: int, /) -> None: ...
    def step(self, step: int, loss: float, accuracy: float, /) -> None: ...
    def epoch(self, report: str, /) -> None: ...

# Rows, [N, D]: an array of float32; or, where a Deq has an algebra, whatever the algebra computes with, with a `shape`.
_Rows = Any

@type_check_only
class Algebra(Protocol):
    def plus(self, a: _Rows, b: _Rows, /) -> _Rows: ...
    def minus(self, a: _Rows, b: _Rows, /) -> _Rows: ...
    def scaled(self, a: _Rows, factor: float, /) -> _Rows: ...
    def times(self, a: _Rows, column: _Rows, /) -> _Rows: ...
    def over(self, a: _Rows, column: _Rows, /) -> _Rows: ...
    def dot(self, a: _Rows, b: _Rows, /) -> _Rows: ...
    def select(self, a: _Rows, rows: List[int], /) -> _Rows: ...
    def put(self, a: _Rows, rows: List[int], part: _Rows, /) -> _Rows: ...
    def stack(self, parts: List[_Rows], /) -> _Rows: ...
    def zeros(self, a: _Rows, rows: int, width: int, /) -> _Rows: ...
    def like(self, a: _Rows, numbers: NDArray[float64], width: int, /) -> _Rows: ...
    def finite_or_zero(self, a: _Rows, /) -> _Rows: ...
    def numbers(self, a: _Rows, /) -> NDArray[float64]: ...
    def broyden(
        self, z: _Rows, g: _Rows, previous: Optional[Tuple[_Rows, _Rows]], corrections: List[Tuple[_Rows, _Rows]], following: bool, /
    ) -> Tuple[_Rows, Optional[Tuple[_Rows, _Rows]]]: ...
    def residual(self, state: _Rows, value: _Rows, /) -> Tuple[_Rows, NDArray[float64]]: ...

@type_check_only
class Linearised(Protocol):
    def vjp_state(self, cotangent: _Rows, /) -> _Rows: ...
    def vjp(self, cotangent: _Rows, /) -> Tuple[_Rows, _Rows]: ...

@type_check_only
class Cell(Protocol):
    def apply(self, states: _Rows, /) -> _Rows: ...
    def linearise(self, states: _Rows, /) -> Tuple[_Rows, Linearised]: ...
    def select(self, rows: List[int], /) -> Cell: ...

@type_check_only
class Deq(Protocol):
    @property
    def classes(self) -> int: ...
    @property
    def state_dim(self) -> int: ...
    @property
    def injection_dim(self) -> int: ...
    @property
    def algebra(self) -> Optional[Algebra]: ...
    def stem(self, images: NDArray[float32], /) -> _Rows: ...
    def linearise_stem(self, images: NDArray[float32], /) -> Tuple[_Rows, Callable[[_Rows], NDArray[float32]]]: ...
    def bind(self, injection: _Rows, /) -> Cell: ...
    def head(self, states: _Rows, /) -> NDArray[float32]: ...
    def linearise_head(self, states: _Rows, /) -> Tuple[NDArray[float32], Callable[[NDArray[float32]], _Rows]]: ...

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
    draws: int
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

@type_check_only
class AssessOptions(TypedDict):
    deployment: str
    labels: Sequence[int]
    indices: Sequence[int]
    class_names: Sequence[str]
    name: str
    dataset: str
    norm: str
    eps: Sequence[float]
    white_box: bool
    gradients: Optional[str]
    readouts: Sequence[str]
    control: bool
    margin: float
    checks: Optional[int]
    seed: int
    batch_size: int
    time_limit: Optional[float]
    noise: Optional[float]
    protocol: Optional[str]
    folder: Optional[Union[str, PathLike[str]]]
    identity: str
    described: str

@type_check_only
class DiagnoseOptions(TypedDict):
    deployment: str
    labels: Sequence[int]
    indices: Sequence[int]
    class_names: Sequence[str]
    name: str
    dataset: str
    norm: str
    eps: float
    sections: Sequence[str]
    horizon: Optional[int]
    gallery: int
    seed: int
    batch_size: int
    described: str

@type_check_only
class AdversaryOptions(TypedDict):
    deployment: str
    readout: str
    gradient: str
    labels: Sequence[int]
    indices: Sequence[int]
    norm: str
    eps: float
    steps: int
    step_size: Optional[float]
    random_start: bool
    seed: int

@type_check_only
class Asked(TypedDict):
    deployment: Optional[str]
    readout: str
    labels: Sequence[int]
    indices: Sequence[int]
    class_names: Sequence[str]
    name: str
    dataset: str
    norm: str
    eps: Sequence[float]
    seed: int
    batch_size: int
    described: str

@type_check_only
class SmoothingSettings(TypedDict):
    sigma: float
    selection: int
    samples: int
    alpha: float
    serialized: Optional[Tuple[int, int, int]]

@final
class Native:
    @staticmethod
    def read(path: Union[str, PathLike[str]]) -> Native: ...
    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def identity(self) -> str: ...
    @property
    def classes(self) -> int: ...
    @property
    def image(self) -> Tuple[int, int, int]: ...
    @property
    def deployment(self) -> str: ...
    @property
    def metadata(self) -> str: ...
    @property
    def is_equilibrium(self) -> bool: ...

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
def assess(
    model: Union[Deq, Native],
    attacks: Sequence[Attack],
    images: NDArray[float32],
    options: AssessOptions,
    development: Optional[Tuple[NDArray[float32], Sequence[int], Sequence[int]]],
    watch: Optional[Watch],
) -> Tuple[str, List[Tuple[str, NDArray[float32], NDArray[int64], NDArray[int64]]]]: ...
def diagnose(
    model: Union[Deq, Native], images: NDArray[float32], options: DiagnoseOptions, watch: Optional[Watch]
) -> Tuple[str, List[str]]: ...
def adversary(
    model: Union[Deq, Native], images: NDArray[float32], options: AdversaryOptions
) -> NDArray[float32]: ...
def certify(
    model: Union[Classifier, Deq, Native],
    images: NDArray[float32],
    asked: Asked,
    settings: SmoothingSettings,
    watch: Optional[Watch],
) -> str: ...
def predict(
    model: Union[Classifier, Deq, Native],
    images: NDArray[float32],
    asked: Asked,
    settings: SmoothingSettings,
    watch: Optional[Watch],
) -> List[Tuple[Optional[int], List[int]]]: ...
def prove(
    model: Native,
    images: NDArray[float32],
    asked: Asked,
    methods: Sequence[str],
    network: Optional[str],
    at_eps: bool,
    watch: Optional[Watch],
) -> Tuple[str, List[str]]: ...
def gradient(
    model: Union[Deq, Native],
    images: NDArray[float32],
    labels: Sequence[int],
    deployment: str,
    readout: str,
    gradient: str,
) -> NDArray[float32]: ...
def logits(
    model: Union[Deq, Native], images: NDArray[float32], deployment: str, readout: str
) -> NDArray[float32]: ...
def train(
    images: NDArray[float32],
    labels: Sequence[int],
    request: str,
    ranks: Optional[Ranks],
    watch: Optional[TrainWatch],
) -> str: ...
def checked_deployment(text: str) -> str: ...
def check_budget(norm: str, eps: float) -> None: ...
def render(records: Sequence[str], format: str, title: str) -> str: ...
def statements(record: str) -> List[Tuple[str, str, List[str], List[str]]]: ...
def set_num_threads(threads: int) -> None: ...
def get_num_threads() -> int: ...
