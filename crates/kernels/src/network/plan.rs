//! From parameters to layers in use, and which layers a task takes together.

use std::ops::Range;

use crate::convolution::{Counter, Planes};
use crate::image::plane::Plane;
use crate::network::layer::{Layer, Mapping};
use crate::network::parameters::{ChannelMap, LayerParameters, Map, NetworkParameters};
use crate::network::places::{self, Places, Route};

/// Examples of one chunk, at most.
pub(crate) const CHUNK: usize = 16;
/// Pixels of a layer that are worked on together: few enough for a cache near the core, and as many as amortise reading a
/// kernel.
const TOGETHER: usize = 1024;

/// The layers, and where their images are.
#[derive(Debug)]
pub(crate) struct Plan {
    pub layers: Vec<Layer>,
    /// The images' memory, cotangents included.
    pub places: Vec<Place>,
    /// Where the inputs and their cotangents are.
    pub inputs: Vec<[usize; 2]>,
    pub phases: Vec<Phase>,
}

/// Where images of one shape are, one after another.
#[derive(Debug)]
pub(crate) struct Place {
    pub plane: Plane,
    /// For so many examples at a time: those of a chunk, or those that are worked on together where nothing else needs them.
    pub room: usize,
}

/// What is done before tasks meet.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Each chunk goes through some layers by itself.
    Each(Vec<Stage>),
    /// One layer takes the whole batch.
    All(usize),
}

/// Layers that some examples go through before others follow.
#[derive(Debug)]
pub(crate) struct Stage {
    pub layers: Range<usize>,
    pub together: usize,
    /// Whether the inputs come in before it.
    pub first: bool,
    /// Whether the output goes out after it.
    pub last: bool,
}

impl Plan {
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other, a layer reads a later one, or an image is never read.
    pub fn new(parameters: &NetworkParameters, counter: &mut Counter) -> Self {
        let planes: Vec<Plane> =
            parameters.shapes(|conv| conv.bias.len()).into_iter().map(Plane::bordered).collect();
        let mut places = Places::default();
        let (images, inputs) = places::images(&parameters.layers, &planes, &mut places);
        let (cotangents, input_cotangents) = places::cotangents(&parameters.layers, &planes, &mut places);
        let (_, of_layers) = planes.split_at(parameters.inputs.len());
        let layers = parameters.layers.iter().zip(of_layers).zip(images.into_iter().zip(cotangents));
        let layers = layers.map(|((of, &plane), routes)| layer(of, plane, &planes, routes, counter));
        let layers: Vec<Layer> = layers.collect();
        let inputs: Vec<[usize; 2]> =
            inputs.into_iter().zip(input_cotangents).map(|(image, cotangent)| [image, cotangent]).collect();
        let phases = phases(&layers);
        let places = rooms(places.planes, &layers, &inputs, &phases);
        Self { layers, places, inputs, phases }
    }
}

/// Memory for as many examples as a place is needed for: what only one stage touches has to last while a few examples are
/// worked on, and stays in the cache.
fn rooms(planes: Vec<Plane>, layers: &[Layer], inputs: &[[usize; 2]], phases: &[Phase]) -> Vec<Place> {
    // By which stage and for how many; `None` where a second one came.
    let mut rooms: Vec<Option<(Option<usize>, usize)>> = vec![None; planes.len()];
    let mut touch = |place: usize, by: Option<usize>, together: usize| {
        rooms[place] = match rooms[place] {
            Some((other, _)) if other != by => Some((None, CHUNK)),
            _ => Some((by, together)),
        };
    };
    let touched = |layer: &Layer| -> Vec<usize> {
        let steps = layer.forward.iter().chain(&layer.backward).map(|step| step.at);
        steps.chain([layer.image, layer.cotangent]).collect()
    };
    let output = &layers[layers.len() - 1];
    for phase in phases {
        let stages = match phase {
            Phase::All(number) => {
                touched(&layers[*number]).into_iter().for_each(|at| touch(at, None, CHUNK));
                continue;
            }
            Phase::Each(stages) => stages,
        };
        for stage in stages {
            let mut places: Vec<usize> = layers[stage.layers.clone()].iter().flat_map(touched).collect();
            if stage.first {
                places.extend(inputs.iter().flatten());
            }
            if stage.last {
                places.extend([output.image, output.cotangent]);
            }
            places.into_iter().for_each(|at| touch(at, Some(stage.layers.start), stage.together));
        }
    }
    let place = |(plane, room): (Plane, Option<(Option<usize>, usize)>)| Place {
        plane,
        room: room.map_or(CHUNK, |(_, room)| room),
    };
    planes.into_iter().zip(rooms).map(place).collect()
}

/// A layer in use.
fn layer(
    of: &LayerParameters,
    plane: Plane,
    planes: &[Plane],
    (image, cotangent): (Route, Route),
    counter: &mut Counter,
) -> Layer {
    let mut bias = vec![0.0; plane.stride()];
    let mut move_by = |shift: &[f32]| {
        assert_eq!(shift.len(), plane.channels, "a number for each of {} channels", plane.channels);
        bias.iter_mut().zip(shift).for_each(|(bias, shift)| *bias += shift);
    };
    let maps = of.terms.iter().map(|term| {
        let x = planes[term.from];
        match &term.map {
            Map::Same => Mapping::Same(plane),
            Map::Norm(ChannelMap { scale, shift }) => {
                move_by(shift);
                assert_eq!(scale.len(), plane.channels, "a factor for each of {} channels", plane.channels);
                let mut scale = scale.clone();
                scale.resize(plane.stride(), 0.0);
                Mapping::Scale(plane, scale)
            }
            Map::Conv { size, stride, conv } => {
                move_by(&conv.bias);
                let planes = Planes { x, y: plane, u: plane, dx: x };
                Mapping::Conv(Box::new(counter.conv(*size, *stride, &conv.kernel, planes)))
            }
        }
    });
    let maps = maps.collect();
    Layer {
        plane,
        maps,
        bias,
        rectify: of.rectify,
        image: image.at,
        forward: image.steps,
        cotangent: cotangent.at,
        backward: cotangent.steps,
    }
}

/// How many examples' images of a plane are worked on together.
pub(crate) fn together(plane: Plane) -> usize {
    (TOGETHER / (plane.height * plane.width)).clamp(1, CHUNK)
}

/// Layers of one size go together, wide ones by themselves; chunks come in and go out by themselves.
fn phases(layers: &[Layer]) -> Vec<Phase> {
    let stage = |layers: Range<usize>, together: usize| Stage { layers, together, first: false, last: false };
    let mut phases = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        if layer.is_wide() {
            if number == 0 {
                stages.push(stage(0..0, CHUNK));
            }
            phases.push(Phase::Each(std::mem::take(&mut stages)));
            phases.push(Phase::All(number));
            continue;
        }
        let together = together(layer.plane);
        match stages.last_mut() {
            Some(stage) if stage.together == together => stage.layers.end = number + 1,
            _ => stages.push(stage(number..number + 1, together)),
        }
    }
    if stages.is_empty() {
        stages.push(stage(layers.len()..layers.len(), CHUNK));
    }
    phases.push(Phase::Each(stages));
    if let Some(Phase::Each(stages)) = phases.first_mut() {
        stages[0].first = true;
    }
    if let Some(Phase::Each(stages)) = phases.last_mut()
        && let Some(stage) = stages.last_mut()
    {
        stage.last = true;
    }
    phases
}
