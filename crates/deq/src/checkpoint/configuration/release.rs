//! The YAML keys of the authors' release.
//!
//! Keys that change what the model computes are honoured or refused by name; those of training, data and
//! logging are passed over. Where the file leaves a key out, the release's own default is assumed, or the key
//! is asked for if a wrong guess would go unnoticed.

use serde_json::Value;

use super::{Configuration, KeyError};
use crate::model::mdeq::MdeqConfig;
use crate::solve::{Anderson, Method, SolverConfig};
use crate::victim::Deployment;

const STAGE: &str = "MODEL.EXTRA.FULL_STAGE";

/// A configuration from the release's keys.
pub(super) fn understand(tree: &Value) -> Result<Configuration, KeyError> {
    let at = |key: &str| Key { tree, name: key.to_owned() };
    let stage = |key: &str| at(&format!("{STAGE}.{key}"));

    let channels = stage("NUM_CHANNELS").sizes()?;
    let branches = channels.len();
    stage("NUM_BRANCHES").must_be(branches, "as many as NUM_CHANNELS has entries")?;
    stage("NUM_MODULES").must_be(1, "only one module is supported")?;
    stage("NUM_BLOCKS").must_all_be(1, "only one block per branch is supported")?;
    stage("BIG_KERNELS").must_all_be(0, "only 3×3 kernels are supported")?;
    stage("BLOCK").must_read("BASIC", "only basic blocks are supported")?;
    stage("FUSE_METHOD").must_read("SUM", "only fusion by summing is supported")?;
    if !at("MODEL.WNORM").flag(false)? {
        return at("MODEL.WNORM").wrong("false, or absent: only weight-normalised cells are supported");
    }
    if at("MODEL.CONV_INJECTION").flag(false)? {
        return at("MODEL.CONV_INJECTION").wrong("true: only the identity injection is supported");
    }
    if let Some(mode) = at("DEQ.STOP_MODE").text()?.filter(|mode| *mode != "rel") {
        return at("DEQ.STOP_MODE").wrong(&format!("`{mode}`: only `rel`, relative residuals, is supported"));
    }
    let image = match at("MODEL.IMAGE_SIZE").sizes()?.as_slice() {
        // Width before height, as the release's comments have it.
        [width, height] => [3, *height, *width],
        other => return at("MODEL.IMAGE_SIZE").wrong(&format!("{other:?}: width and height are needed")),
    };
    let config = MdeqConfig {
        channels,
        head_channels: stage("HEAD_CHANNELS").sizes()?,
        final_channels: stage("FINAL_CHANSIZE").needed()?,
        groups: at("MODEL.NUM_GROUPS").needed()?,
        expansion: at("MODEL.EXPANSION_FACTOR").number()?.unwrap_or(5),
        downsample_times: at("MODEL.DOWNSAMPLE_TIMES").needed()?,
        block_affine: at("MODEL.BLOCK_GN_AFFINE").flag(true)?,
        fuse_affine: at("MODEL.FUSE_GN_AFFINE").flag(true)?,
        post_affine: at("MODEL.POST_GN_AFFINE").flag(true)?,
        dropout: at("MODEL.DROPOUT").real()?.unwrap_or(0.0),
        image,
        classes: at("MODEL.NUM_CLASSES").needed()?,
        normalisation: None,
    };
    let solver = |solver: &str, steps: &str, or: SolverConfig| -> Result<SolverConfig, KeyError> {
        let steps = at(steps).number()?.unwrap_or(or.steps);
        match at(solver).text()? {
            None => Ok(SolverConfig { steps, ..or }),
            Some("broyden") => Ok(SolverConfig { method: Method::broyden(), steps, ..or }),
            Some("anderson") => Ok(SolverConfig { method: Anderson::default().into(), steps, ..or }),
            Some(other) => at(solver).wrong(&format!("`{other}`: use broyden or anderson")),
        }
    };
    let default = Deployment::exact();
    let deployment = Deployment {
        solver: solver("DEQ.F_SOLVER", "DEQ.F_THRES", default.solver.clone())?,
        backward: solver("DEQ.B_SOLVER", "DEQ.B_THRES", default.backward.clone())?,
        ..default
    };
    Ok(Configuration { architecture: config.into(), deployment })
}

/// A place in the tree.
struct Key<'a> {
    tree: &'a Value,
    name: String,
}

impl<'a> Key<'a> {
    fn wrong<T>(&self, problem: &str) -> Result<T, KeyError> {
        Err((self.name.clone(), problem.to_owned()))
    }

    fn value(&self) -> Option<&'a Value> {
        self.name.split('.').try_fold(self.tree, |at, key| at.get(key)).filter(|value| !value.is_null())
    }

    fn missing<T>(&self) -> Result<T, KeyError> {
        self.wrong("is missing")
    }

    fn number(&self) -> Result<Option<usize>, KeyError> {
        match self.value() {
            None => Ok(None),
            Some(value) => match size(value) {
                Some(number) => Ok(Some(number)),
                None => self.wrong(&format!("{value}: a whole number is needed")),
            },
        }
    }

    fn needed(&self) -> Result<usize, KeyError> {
        self.number()?.map_or_else(|| self.missing(), Ok)
    }

    fn real(&self) -> Result<Option<f64>, KeyError> {
        match self.value() {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => self.wrong(&format!("{value}: a number is needed")),
            },
        }
    }

    fn flag(&self, default: bool) -> Result<bool, KeyError> {
        match self.value() {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => self.wrong(&format!("{value}: true or false is needed")),
        }
    }

    fn text(&self) -> Result<Option<&'a str>, KeyError> {
        match self.value() {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => self.wrong(&format!("{value}: a word is needed")),
        }
    }

    fn sizes(&self) -> Result<Vec<usize>, KeyError> {
        let Some(value) = self.value() else { return self.missing() };
        match value.as_array().and_then(|list| list.iter().map(size).collect()) {
            Some(sizes) => Ok(sizes),
            None => self.wrong(&format!("{value}: a list of whole numbers is needed")),
        }
    }

    fn must_be(&self, expected: usize, reason: &str) -> Result<(), KeyError> {
        match self.number()? {
            Some(number) if number != expected => {
                self.wrong(&format!("{number} instead of {expected}: {reason}"))
            }
            _ => Ok(()),
        }
    }

    fn must_all_be(&self, expected: usize, reason: &str) -> Result<(), KeyError> {
        if self.value().is_none() {
            return Ok(());
        }
        match self.sizes()?.into_iter().find(|&number| number != expected) {
            Some(number) => self.wrong(&format!("{number} instead of {expected}: {reason}")),
            None => Ok(()),
        }
    }

    fn must_read(&self, expected: &str, reason: &str) -> Result<(), KeyError> {
        match self.text()? {
            Some(text) if text != expected => {
                self.wrong(&format!("`{text}` instead of `{expected}`: {reason}"))
            }
            _ => Ok(()),
        }
    }
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}
