//! A solver as one file: its settings, its step, and what gradients may follow of it.
//!
//! A [`Solver`] is what files say under `method`; a [`Method`] is a handle to one. `#[typetag::serde(name = "NAME")]` on the
//! implementation makes it readable wherever a solver is read, under that name, and that is all of its registration: one
//! of another crate is read like a built-in one in every program that links the crate.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::value::{self, MapAccessDeserializer, MapDeserializer};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Anderson, Broyden, Evaluated, Picard, Trajectory};
use crate::model::cell::FixedPointMap;
use crate::state::State;

/// A fixed-point method with its settings.
///
/// Settings are the type's fields, with serde's derives; a unit struct is a solver without settings, which files name by a
/// string alone. The crate of the implementation needs `typetag` among its dependencies.
#[typetag::serde]
pub trait Solver: Any + fmt::Debug + Send + Sync {
    /// Whether the settings make sense.
    ///
    /// # Errors
    ///
    /// Names the solver, the setting and its range.
    fn validate(&self) -> Result<(), String>;

    /// What it remembers at the beginning of a solve.
    fn start(&self) -> Box<dyn Memory>;

    /// Evaluations of f that a step takes at most, that of the new iterate included: what a plan of attacks reckons with.
    fn evaluations_per_step(&self) -> usize {
        1
    }

    /// The iteration run backwards, which the gradient `through-solver` needs; `None` for a solver that has none: the
    /// gradient is refused then.
    fn backwards(&self) -> Option<Box<dyn Reverse>> {
        None
    }

    /// The estimate of the inverse Jacobian that the solver makes on its way, which the gradient `adjoint` needs; none
    /// made yet. `None` for a solver that makes none: the gradient is refused then.
    fn inverse_jacobian(&self) -> Option<Box<dyn InverseJacobian>> {
        None
    }
}

/// What a solver remembers between steps, and how it takes one.
pub trait Memory {
    /// The next iterate, `[N, D]`, of the examples that are still in the batch.
    ///
    /// `map` is f for these examples, for solvers that evaluate it on their way to the next iterate; f at that iterate is
    /// evaluated by the loop and comes with the next call. Every operation must work row by row, and what an example
    /// evaluates must not depend on the others: one that needs no more evaluations leaves by [`FixedPointMap::select`].
    fn next(&mut self, current: &Evaluated, map: &dyn FixedPointMap) -> State;

    /// Keeps only the given examples: the others have stopped.
    fn select(&mut self, rows: &[usize]);
}

/// A solver's iteration run backwards.
///
/// First [`follow`](Self::follow). Then, for t from T−1 down to 0: [`memory`](Self::memory), after which whoever knows the
/// cell turns the cotangent of g_{t+1} into one of z_{t+1}, then [`step`](Self::step).
pub trait Reverse {
    /// Takes in the iteration that is to be run backwards.
    fn follow(&mut self, trajectory: &Trajectory);

    /// Pulls what steps after t left to what the solver learned from g_{t+1} back to the residuals.
    fn memory(&mut self, t: usize, bars: &mut Bars) {
        let _ = (t, bars);
    }

    /// Pulls the cotangent of z_{t+1} back to z_0..z_t and g_0..g_t. It is 0 for examples that did not take the step.
    fn step(&mut self, t: usize, next: &State, bars: &mut Bars);
}

/// The estimate B of the inverse Jacobian of g that a step z ← z − B g amounts to.
pub trait InverseJacobian {
    /// Takes in the next point.
    fn observe(&mut self, point: Evaluated);

    /// Bᵀ x, `[N, D]`.
    fn transposed_product(&self, x: &State) -> State;
}

/// Cotangents, which formulas write with a bar: of the iterates z_0..z_T, and of g_0..g_T at them.
pub struct Bars {
    pub(crate) states: Vec<Option<State>>,
    pub(crate) residuals: Vec<Option<State>>,
}

impl Bars {
    /// Those of the iterates z_0..z_T, before anything is pulled back.
    pub(crate) fn new(states: Vec<Option<State>>) -> Self {
        let residuals = vec![None; states.len()];
        Self { states, residuals }
    }

    /// Adds to the cotangent of z_t.
    pub fn add_state(&mut self, t: usize, term: State) {
        add(&mut self.states[t], term);
    }

    /// Adds to the cotangent of g_t.
    pub fn add_residual(&mut self, t: usize, term: State) {
        add(&mut self.residuals[t], term);
    }
}

/// A sum that may have no terms yet.
pub(crate) fn add(sum: &mut Option<State>, term: State) {
    *sum = Some(match sum.take() {
        None => term,
        Some(sum) => sum + term,
    });
}

/// Which solver, with its own settings: `"broyden"` in files, or `{"anderson": {"memory": 6}}`.
#[derive(Clone)]
pub struct Method(Arc<dyn Solver>);

impl Method {
    /// z ← z − B g with a limited-memory inverse Jacobian B.
    pub fn broyden() -> Self {
        Broyden.into()
    }

    /// Mixes the last `memory` points; see [`Anderson`].
    pub fn anderson(memory: usize, regularisation: f64, mixing: f64) -> Self {
        Anderson { memory, regularisation, mixing }.into()
    }

    /// z ← (1−τ) z + τ f(z), with τ = `damping`.
    pub fn picard(damping: f64) -> Self {
        Picard { damping }.into()
    }

    /// The name under which files have it.
    pub fn name(&self) -> &'static str {
        self.0.typetag_name()
    }
}

impl<S: Solver> From<S> for Method {
    fn from(solver: S) -> Self {
        Self(Arc::new(solver))
    }
}

impl Deref for Method {
    type Target = dyn Solver;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// That of the solver itself.
impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Two methods are the same if files say the same of them.
impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        let written = |method: &Self| serde_json::to_value(&*method.0).ok();
        written(self).is_some_and(|own| Some(own) == written(other))
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = self.name();
        let written = serde_json::to_value(&*self.0).map_err(serde::ser::Error::custom)?;
        if written.get(name).is_some_and(serde_json::Value::is_null) {
            return serializer.serialize_unit_variant("Method", 0, name);
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// A name, or a name with settings.
struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Method;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a solver, or a table of one name with the solver's settings")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Method, E> {
        let alone: MapDeserializer<'_, _, value::Error> = MapDeserializer::new(std::iter::once((name, ())));
        let solver = Box::<dyn Solver>::deserialize(alone).map_err(|error| {
            let hint = r#"a solver with settings is written {"NAME": {"SETTING": VALUE}}"#;
            E::custom(format!("solver `{name}` without settings: {error}; {hint}"))
        })?;
        Ok(Method(solver.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Method, A::Error> {
        let solver = Box::<dyn Solver>::deserialize(MapAccessDeserializer::new(&mut map))?;
        match map.next_entry::<String, IgnoredAny>()? {
            None => Ok(Method(solver.into())),
            Some((other, _)) => {
                let first = solver.typetag_name();
                Err(A::Error::custom(format!("one solver is needed, and `{first}` is followed by `{other}`")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solve::{Reversible, SolverConfig};

    #[test]
    fn files_say_a_name_alone_or_with_its_settings() {
        for (method, text) in [
            (Method::broyden(), r#""broyden""#),
            (Method::picard(0.5), r#"{"picard":{"damping":0.5}}"#),
            (Reversible { beta: 0.8 }.into(), r#"{"reversible":{"beta":0.8}}"#),
            (
                Method::anderson(6, 1e-4, 1.0),
                r#"{"anderson":{"memory":6,"regularisation":0.0001,"mixing":1.0}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&method).unwrap(), text);
            assert_eq!(serde_json::from_str::<Method>(text).unwrap(), method);
            let config = SolverConfig { method: method.clone(), ..SolverConfig::default() };
            let written = toml::Value::try_from(&config).unwrap();
            assert_eq!(written.clone().try_into::<SolverConfig>().unwrap(), config, "{written:?}");
        }
        // Defaults, and what a file of TOML says.
        for (text, method) in [
            (r#"method = "broyden""#, Method::broyden()),
            ("method = { anderson = {} }", Method::anderson(6, 1e-4, 1.0)),
            ("[method.anderson]\nmemory = 3\nmixing = 1", Method::anderson(3, 1e-4, 1.0)),
            ("[method.picard]\ndamping = 1", Method::picard(1.0)),
            ("method = { reversible = {} }", Reversible { beta: 0.8 }.into()),
            ("steps = 8", Method::broyden()),
        ] {
            assert_eq!(
                toml::from_str::<SolverConfig>(text).unwrap(),
                SolverConfig { method, ..SolverConfig::default() }
            );
        }
        assert_ne!(Method::picard(0.5), Method::picard(0.25));
        assert_eq!(Method::anderson(2, 0.0, 1.0).name(), "anderson");
        assert_eq!(format!("{:?}", Method::picard(0.5)), "Picard { damping: 0.5 }");
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, problems) in [
            (r#""newton""#, &["`newton`", "`anderson`", "`broyden`", "`picard`", "`reversible`"][..]),
            (r#"{"newton": {}}"#, &["`newton`", "`anderson`", "`broyden`", "`picard`", "`reversible`"]),
            (r#"{"picard": {}}"#, &["missing field `damping`"]),
            (r#""picard""#, &["solver `picard` without settings", "Picard", "is written"]),
            (r#"{"picard": {"damping": 1, "depth": 3}}"#, &["unknown field `depth`", "`damping`"]),
            (r#"{"anderson": {"memory": -1}}"#, &["`-1`", "usize"]),
            (
                r#"{"anderson": {"memroy": 1}}"#,
                &["unknown field `memroy`", "`memory`", "`regularisation`", "`mixing`"],
            ),
            (r#"{"broyden": {"memory": 6}}"#, &["invalid type: map", "Broyden"]),
            (r#"{"picard": {"damping": 1}, "anderson": {}}"#, &["one solver", "`picard`", "`anderson`"]),
            ("3", &["`3`", "the name of a solver"]),
        ] {
            let message = serde_json::from_str::<Method>(text).unwrap_err().to_string();
            assert!(problems.iter().all(|problem| message.contains(problem)), "{text}: {message}");
        }
        // In TOML, as in recipes, with the line.
        for (text, problems) in [
            ("method = \"newton\"", &["line 1", "`newton`", "`broyden`"][..]),
            ("steps = 3\n[method.picard]\ndepth = 1", &["line 2", "unknown field `depth`"]),
            ("[method.picard]\ndamping = \"much\"", &["line", "invalid type: string \"much\""]),
        ] {
            let message = toml::from_str::<SolverConfig>(text).unwrap_err().to_string();
            assert!(problems.iter().all(|problem| message.contains(problem)), "{text}: {message}");
        }
    }
}
