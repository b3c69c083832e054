//! `import`: from a PyTorch checkpoint to a model file.

use equipoise::checkpoint::{Configuration, import};
use equipoise::deployed::Deployment;
use equipoise::gradient::Estimator;
use equipoise::network::Architecture;

use super::print;
use crate::error::{Error, input};
use crate::flags::Import;
use crate::setup::Setup;

/// Runs the command.
pub fn run(flags: &Import, setup: &Setup) -> Result<(), Error> {
    let mut configuration = configuration(flags)?;
    if let Some(spec) = &flags.gradient {
        let gradient: Estimator = spec.parse().map_err(input)?;
        gradient.check(&configuration.deployment.solver).map_err(input)?;
        // The tail of unrolled training is part of the deployed forward pass.
        if let Estimator::Unrolled { tail, .. } = gradient {
            configuration.deployment.tail = tail;
        }
        configuration.deployment.training_gradient = gradient;
    }
    let stem = flags.from.file_name().and_then(|name| name.to_str()).unwrap_or("imported");
    let name = flags.name.as_deref().unwrap_or(stem.split('.').next().unwrap_or(stem));
    let model = import(&flags.from, configuration, name, &setup.device)?;
    model.write(&flags.out)?;
    print(&format!("{}\n", flags.out.display()))
}

/// `--arch`, `--config` and `--width`.
fn configuration(flags: &Import) -> Result<Configuration, Error> {
    let mut configuration = match &flags.config {
        Some(path) => Configuration::read(path)?,
        None if flags.arch == "mdeq" => {
            return Err(input("--arch mdeq needs --config: the sizes of an MDEQ are not in its weights"));
        }
        None => {
            let architecture = Architecture::named(&flags.arch);
            let architecture =
                architecture.filter(|architecture| !matches!(architecture, Architecture::Mdeq(_)));
            let architecture = architecture
                .ok_or_else(|| input(format!("--arch {}: use mdeq, resnet18 or wrn-34-10", flags.arch)))?;
            Configuration { architecture, deployment: Deployment::default() }
        }
    };
    let kind = match configuration.architecture {
        Architecture::Mdeq(_) => "mdeq",
        Architecture::ResNet18(_) => "resnet18",
        Architecture::WideResNet(_) => "wrn-34-10",
    };
    if kind != flags.arch {
        return Err(input(format!("--arch {}, but the configuration is that of {kind}", flags.arch)));
    }
    if let Some(width) = flags.width {
        let wider = configuration.architecture.with_width(width);
        configuration.architecture =
            wider.ok_or_else(|| input("--width: an mdeq has none; its sizes are in --config"))?;
    }
    Ok(configuration)
}
