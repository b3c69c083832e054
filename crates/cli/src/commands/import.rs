//! `import`: from a PyTorch checkpoint to a model file.

use equipoise::architecture::Architecture;
use equipoise::checkpoint::{
    Configuration, ImportError, ImportOptions, Imported, Metadata, ModelFile, Normalise, import,
};
use equipoise::gradient::Estimator;
use equipoise::lipschitz_layers;
use equipoise::model::monotone::LbenConfig;
use equipoise::model::normalisation::Normalisation;
use equipoise::victim::Deployment;

use super::print;
use crate::error::{Error, input};
use crate::flags::Import;
use crate::setup::Setup;

/// Runs the command.
pub fn run(flags: &Import, setup: &Setup) -> Result<(), Error> {
    let mut configuration = configuration(flags)?;
    if let Some(spec) = &flags.gradient {
        let gradient: Estimator = spec.parse().map_err(|error| input(format!("--gradient: {error}")))?;
        // The tail of unrolled training is part of the deployed forward pass.
        if let Some(tail) = gradient.one_state().and_then(|one| one.applications()) {
            configuration.deployment.tail = tail;
        }
        configuration.deployment.training_gradient = gradient;
        configuration.deployment.validate().map_err(|error| input(format!("--gradient {spec}: {error}")))?;
    }
    let stem = flags.from.file_name().and_then(|name| name.to_str()).unwrap_or("imported");
    let name = flags.name.as_deref().unwrap_or(stem.split('.').next().unwrap_or(stem));
    let channels = configuration.architecture.image()[0];
    let ignore =
        flags.ignore.iter().flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()).collect();
    if let Some(model) = converted(flags, &configuration, name, setup)? {
        model.write(&flags.out)?;
        return print(&format!("{}\n", flags.out.display()));
    }
    let options = ImportOptions { key: flags.key.clone(), normalise: normalise(flags, channels)?, ignore };
    let Imported { model, notes } = import(&flags.from, configuration, name, &options, &setup.device)
        .map_err(|error| {
            let lines = error.lines();
            if flags.list && !lines.is_empty() {
                return input(format!("{error}\n{}", lines.join("\n")));
            }
            let more = match &error {
                ImportError::Weights { source, .. } if source.only_unexpected() => {
                    " (--ignore NAME leaves out what the model does not need; --list names all)"
                }
                _ if lines.is_empty() => "",
                _ => " (--list names all of them)",
            };
            let configuration = match (&error, &flags.config) {
                (ImportError::Weights { .. } | ImportError::Foreign { .. }, Some(path)) => {
                    format!("; the configuration is {}", path.display())
                }
                _ => String::new(),
            };
            input(format!("{error}{configuration}{more}"))
        })?;
    for note in notes {
        tracing::info!("{}: {note}", flags.from.display());
    }
    model.write(&flags.out)?;
    print(&format!("{}\n", flags.out.display()))
}

/// A model of Lipschitz layers from here as the equilibrium network that the configuration describes; `None` for every other file.
fn converted(
    flags: &Import,
    configuration: &Configuration,
    name: &str,
    setup: &Setup,
) -> Result<Option<ModelFile>, Error> {
    let Configuration { architecture, deployment } = configuration;
    if architecture.config::<LbenConfig>().is_none() {
        return Ok(None);
    }
    let Ok(file) = ModelFile::read(&flags.from, &setup.device) else { return Ok(None) };
    let normalisation = file.metadata.architecture.normalisation().cloned();
    let architecture =
        &architecture.with_normalisation(normalisation).unwrap_or_else(|| architecture.clone());
    let Some(model) = lipschitz_layers::converted(&*file.model, architecture, &setup.device) else {
        return Ok(None);
    };
    let flag = |name: &'static str, given: bool| given.then_some(name);
    let foreign = [
        flag("--normalise", flags.normalise.is_some()),
        flag("--mean", flags.mean.is_some()),
        flag("--std", flags.std.is_some()),
        flag("--key", flags.key.is_some()),
        flag("--ignore", !flags.ignore.is_empty()),
    ];
    if let Some(name) = foreign.into_iter().flatten().next() {
        return Err(input(format!(
            "{name}: {} is a model from here, whose layers say how images are normalised and which weights they have; leave this out",
            flags.from.display()
        )));
    }
    let model = model
        .map_err(|error| input(format!("--config for the layers of {}: {error}", flags.from.display())))?;
    let metadata = Metadata {
        name: name.to_owned(),
        architecture: architecture.clone(),
        deployment: deployment.clone(),
        ..file.metadata
    };
    Ok(Some(ModelFile { metadata, model }))
}

/// `--normalise`, `--mean` and `--std`.
fn normalise(flags: &Import, channels: usize) -> Result<Normalise, Error> {
    let numbers = |flag: &str, list: &str| -> Result<Vec<f32>, Error> {
        let wrong =
            |_| input(format!("{flag} {list}: give a number for each channel, such as 0.49,0.48,0.45"));
        list.split(',').map(|number| number.trim().parse::<f32>().map_err(wrong)).collect()
    };
    match (&flags.normalise, &flags.mean, &flags.std) {
        (None, Some(mean), Some(std)) => {
            let (mean, std) = (numbers("--mean", mean)?, numbers("--std", std)?);
            let normalisation = Normalisation { mean, std };
            let checked = normalisation.validate(channels);
            checked.map_err(|error| input(format!("--mean and --std: {}", error.problem)))?;
            Ok(Normalise::By(normalisation))
        }
        (None, None, None) => Ok(Normalise::AsInFile),
        (Some(name), None, None) if name == "none" => Ok(Normalise::No),
        (Some(name), None, None) => Normalisation::named(name, channels).map(Normalise::By).ok_or_else(|| {
            let names: Vec<&str> = Normalisation::usual(channels).into_iter().map(|(name, _)| name).collect();
            input(format!(
                "--normalise {name}: for images of {channels} channels use {} or none, or give --mean and --std",
                names.join(", ")
            ))
        }),
        _ => Err(input("--mean and --std go together, and without --normalise")),
    }
}

/// `--arch`, `--config` and `--width`.
fn configuration(flags: &Import) -> Result<Configuration, Error> {
    let mut configuration = match (&flags.config, flags.arch.as_deref()) {
        (Some(path), _) => Configuration::read(path)?,
        (None, None) => {
            return Err(input(
                "--arch or --config is needed: a checkpoint does not say what its weights belong to; use --arch resnet18 or \
                 wrn-34-10, or the --config of a model",
            ));
        }
        (None, Some("mdeq")) => {
            return Err(input("--arch mdeq needs --config: the sizes of an MDEQ are not in its weights"));
        }
        (None, Some("sll")) => {
            return Err(input(
                "--arch sll needs --config: the bound of Lipschitz layers is not in their weights",
            ));
        }
        (None, Some(name @ ("monotone" | "monotone-conv" | "monotone-multi" | "lben"))) => {
            return Err(input(format!(
                "--arch {name} needs --config: monotonicity and step of a monotone DEQ are not in its weights"
            )));
        }
        (None, Some(name)) => {
            let architecture = Architecture::named(name);
            let architecture = architecture.filter(|architecture| architecture.kind() == name);
            let architecture = architecture.ok_or_else(|| {
                input(format!(
                    "--arch {name}: use mdeq, monotone, monotone-conv, monotone-multi, lben, sll, resnet18 or wrn-34-10"
                ))
            })?;
            Configuration { architecture, deployment: Deployment::default() }
        }
    };
    let kind = configuration.architecture.kind();
    if let Some(name) = flags.arch.as_deref().filter(|name| *name != kind) {
        return Err(input(format!("--arch {name}, but the configuration is that of {kind}")));
    }
    if let Some(width) = flags.width {
        let wider = configuration.architecture.with_width(width);
        configuration.architecture = wider.ok_or_else(|| {
            input("--width: an mdeq and a monotone-multi have none; their sizes are in --config")
        })?;
    }
    let [channels, height, width] = configuration.architecture.image();
    let classes = flags.classes.unwrap_or(configuration.architecture.classes());
    let image = match &flags.image {
        None => [channels, height, width],
        Some(size) => {
            let sides: Option<Vec<usize>> = size.split('x').map(|side| side.trim().parse().ok()).collect();
            match sides.as_deref() {
                Some([side]) => [channels, *side, *side],
                Some([channels, height, width]) => [*channels, *height, *width],
                _ => {
                    return Err(input(format!(
                        "--image {size}: write 28, or 1x28x28 (channels, height, width)"
                    )));
                }
            }
        }
    };
    configuration.architecture = configuration.architecture.for_data(image, classes);
    // A file's sizes were checked when it was read: what is wrong now came with a flag.
    configuration.architecture.validate().map_err(|error| {
        let flag = match error.field {
            "width" => "--width",
            "classes" => "--classes",
            "image" => "--image",
            _ => "--width, --classes and --image",
        };
        input(format!("{flag}: {error}"))
    })?;
    Ok(configuration)
}
