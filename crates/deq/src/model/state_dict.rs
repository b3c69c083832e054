//! Modules as state dicts: parameters by the names that PyTorch gives them.
//!
//! The path of a parameter through Burn's modules is its name: struct fields and list indices, without the
//! variants of enums. An MDEQ drops the three parts that it is made of (`stem.`, `cell.`, `head.`), its cell
//! being called `fullstage` as in the release.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// One tensor: its shape and its float32 content in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Row-major content.
    pub values: Vec<f32>,
}

impl Entry {
    /// The content, little-endian.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

/// Tensors by name.
pub type StateDict = BTreeMap<String, Entry>;

/// Why a state dict does not fit a model. Lists everything that is wrong at once.
#[derive(Debug, Clone, Default, PartialEq, thiserror::Error)]
#[error("the weights do not fit the model: {}", self.lines().join("; "))]
pub struct StateDictError {
    /// Names that the model has and the state dict has not.
    pub missing: Vec<String>,
    /// Names that the state dict has and the model has not.
    pub unexpected: Vec<String>,
    /// Names whose shapes differ: expected and found.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Names whose tensors hold a number that is not finite.
    pub not_finite: Vec<String>,
}

impl StateDictError {
    /// Whether the model has all that it needs, and there is more.
    pub fn only_unexpected(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty() && self.not_finite.is_empty()
    }

    /// An entry of `misshapen` in words.
    pub(crate) fn shapes((name, expected, found): &(String, Vec<usize>, Vec<usize>)) -> String {
        format!("{name} (expected {expected:?}, found {found:?})")
    }

    /// One line for each kind of problem.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut list = |what: &str, names: Vec<String>| {
            if !names.is_empty() {
                lines.push(format!("{what}: {}", names.join(", ")));
            }
        };
        list("missing", self.missing.clone());
        list("unexpected", self.unexpected.clone());
        list("wrong shape", self.misshapen.iter().map(Self::shapes).collect());
        list("NaN or infinite", self.not_finite.clone());
        lines
    }
}

/// Shapes by name: what a model needs.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// A parameter without its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its state-dict name.
    pub name: String,
    /// Its identity, by which optimisers and gradients know it.
    pub id: u64,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether there are numbers, rather than the shape alone.
    pub initialized: bool,
}

impl Parameter {
    /// How many numbers.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it is the running mean or variance of a batch normalisation, which is not trained.
    pub fn is_running_statistic(&self) -> bool {
        self.name.ends_with("running_mean") || self.name.ends_with("running_var")
    }
}

/// What is done with each parameter of a module, by its state-dict name.
trait Each {
    fn float<const D: usize>(&mut self, name: String, param: &Param<Tensor<D>>);
}

/// Visits the parameters of a module.
fn walk<E: Each>(module: &impl Module, each: E) -> E {
    struct Walk<E>(Path, E);
    impl<E: Each> ModuleVisitor for Walk<E> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.0.exit(container);
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.float(self.0.name(), param);
        }
    }
    let mut walk = Walk(Path::default(), each);
    module.visit(&mut walk);
    walk.1
}

impl Each for Vec<Parameter> {
    fn float<const D: usize>(&mut self, name: String, param: &Param<Tensor<D>>) {
        let (id, shape) = (param.id.val(), param.lazy_shape().to_vec());
        self.push(Parameter { name, id, shape, initialized: param.is_initialized() });
    }
}

impl Each for StateDict {
    fn float<const D: usize>(&mut self, name: String, param: &Param<Tensor<D>>) {
        let tensor = param.val().inner();
        let entry = Entry { shape: tensor.dims().to_vec(), values: equipoise_attack::batch::to_vec(tensor) };
        self.insert(name, entry);
    }
}

/// The parameters of a module in the order in which it is walked, also where they have no memory yet.
pub fn parameters<M: Module>(module: &M) -> Vec<Parameter> {
    walk(module, Vec::new())
}

/// The parameters of a module by name.
pub fn state_dict<M: Module>(module: &M) -> StateDict {
    walk(module, StateDict::new())
}

/// The module with its parameters replaced by those of a state dict. Counters of batch normalisation
/// (`num_batches_tracked`) are passed over: nothing here uses them.
///
/// # Errors
///
/// If names or shapes do not match exactly, or a value is not finite; the error lists all of them.
pub fn load_state_dict<M: Module>(module: M, mut tensors: StateDict) -> Result<M, StateDictError> {
    struct Replace {
        path: Path,
        tensors: StateDict,
        missing: Vec<String>,
        misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    }
    impl ModuleMapper for Replace {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let name = self.path.name();
            let shape = param.lazy_shape().to_vec();
            match self.tensors.remove(&name) {
                None => self.missing.push(name),
                Some(entry) if entry.shape != shape => {
                    self.misshapen.push((name, shape, entry.shape));
                }
                Some(entry) => {
                    let data = TensorData::new(entry.values, shape);
                    let (tensor, id) = (Tensor::from_data(data, &param.lazy_device()), param.id);
                    return param.transform_for_load(tensor, id);
                }
            }
            param
        }
    }
    tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let broken = |(name, entry): (&String, &Entry)| {
        entry.values.iter().any(|value| !value.is_finite()).then(|| name.clone())
    };
    let not_finite: Vec<String> = tensors.iter().filter_map(broken).collect();
    let mut replace = Replace { path: Path::default(), tensors, missing: Vec::new(), misshapen: Vec::new() };
    let module = module.map(&mut replace);
    let Replace { tensors, missing, misshapen, .. } = replace;
    let unexpected: Vec<String> = tensors.into_keys().collect();
    if missing.is_empty() && unexpected.is_empty() && misshapen.is_empty() && not_finite.is_empty() {
        return Ok(module);
    }
    Err(StateDictError { missing, unexpected, misshapen, not_finite })
}

/// Where a visitor is.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    /// The state-dict name of the parameter here.
    fn name(&self) -> String {
        let path = self.0.join(".");
        match path.split_once('.') {
            Some(("stem" | "head", rest)) => rest.to_owned(),
            Some(("cell", rest)) => format!("fullstage.{rest}"),
            _ => path,
        }
    }
}
