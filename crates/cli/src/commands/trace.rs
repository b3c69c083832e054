//! `trace`: what a model computes on given images, number by number.

use equipoise::solve::StopScope;
use equipoise::trace::{TraceOptions, trace_file};

use super::print;
use crate::args;
use crate::error::{Error, input};
use crate::flags::Trace;
use crate::setup::Setup;

/// Runs the command.
pub fn run(flags: &Trace, setup: &Setup) -> Result<(), Error> {
    let scope = match flags.scope.as_str() {
        "example" => StopScope::Example,
        "batch" => StopScope::Batch,
        other => return Err(input(format!("--scope {other}: use example or batch"))),
    };
    let options = TraceOptions { scope, ..TraceOptions::default() };
    let options =
        options.with_gradients(&flags.gradient).map_err(|error| input(format!("--gradient: {error}")))?;
    let (model, _) = args::model(&flags.model, &setup.device)?;
    for (_, estimator) in &options.gradients {
        let checked = estimator.check(&model.metadata.deployment.solver);
        checked.map_err(|error| input(format!("--gradient: {error}")))?;
    }
    trace_file(&model, &flags.input, &flags.output, &options, &setup.device)?;
    print(&format!("{}\n", flags.output.display()))
}
