//! From parameters to layers in use: which image lies where, and which layers a task takes together.
//!
//! Images whose shapes are the same and that are not needed at the same time share their memory. An image that is added
//! unchanged, and not read again, is where the sum is made.

use std::ops::Range;

use crate::convolution::{Counter, Planes};
use crate::image::plane::Plane;
use crate::network::layer::{Layer, Mapping, Step};
use crate::network::parameters::{LayerParameters, Map, NetworkParameters, Term};

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

/// Which places are taken.
#[derive(Debug, Default)]
struct Places {
    planes: Vec<Plane>,
    taken: Vec<bool>,
}

impl Places {
    fn take(&mut self, plane: Plane) -> usize {
        let free = (0..self.planes.len()).find(|&at| !self.taken[at] && self.planes[at] == plane);
        let at = free.unwrap_or_else(|| {
            self.planes.push(plane);
            self.taken.push(false);
            self.planes.len() - 1
        });
        self.taken[at] = true;
        at
    }

    fn free(&mut self, at: usize) {
        self.taken[at] = false;
    }
}

impl Plan {
    /// # Panics
    ///
    /// If the parameters' shapes contradict each other, a layer reads a later one, or an image is never read.
    pub fn new(parameters: &NetworkParameters, counter: &mut Counter) -> Self {
        let NetworkParameters { inputs, layers, .. } = parameters;
        assert!(!inputs.is_empty() && !layers.is_empty(), "a network has inputs and layers");
        let mut planes: Vec<Plane> = inputs.iter().map(|&shape| Plane::bordered(shape)).collect();
        let mut made = Vec::with_capacity(layers.len());
        for of in layers {
            let layer = layer(of, &planes, counter);
            planes.push(layer.plane);
            made.push(layer);
        }
        let mut places = Places::default();
        let images = lay_out_images(&mut made, layers, &planes, inputs.len(), &mut places);
        let cotangents = lay_out_cotangents(&mut made, layers, &planes, inputs.len(), &mut places);
        let inputs: Vec<[usize; 2]> =
            images.into_iter().zip(cotangents).map(|(image, cotangent)| [image, cotangent]).collect();
        let phases = phases(&made);
        let places = rooms(places.planes, &made, &inputs, &phases);
        Self { layers: made, places, inputs, phases }
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

/// A layer that is nowhere yet.
fn layer(of: &LayerParameters, planes: &[Plane], counter: &mut Counter) -> Layer {
    let shape = |term: &Term| {
        let x = planes.get(term.from).expect("a layer reads inputs and earlier layers");
        match &term.map {
            Map::Conv { stride, conv, .. } => {
                [conv.bias.len(), x.height.div_ceil(*stride), x.width.div_ceil(*stride)]
            }
            Map::Same | Map::Affine { .. } => [x.channels, x.height, x.width],
        }
    };
    let plane = Plane::bordered(shape(of.terms.first().expect("a layer has terms")));
    let mut bias = vec![0.0; plane.stride()];
    let mut move_by = |shift: &[f32]| {
        assert_eq!(shift.len(), plane.channels, "a number for each of {} channels", plane.channels);
        bias.iter_mut().zip(shift).for_each(|(bias, shift)| *bias += shift);
    };
    let maps = of.terms.iter().map(|term| {
        assert_eq!(Plane::bordered(shape(term)), plane, "terms of one shape");
        let x = planes[term.from];
        match &term.map {
            Map::Same => Mapping::Same(plane),
            Map::Affine { scale, shift } => {
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
    let rectify = of.rectify;
    Layer { plane, maps, bias, rectify, image: 0, forward: vec![], cotangent: 0, backward: vec![] }
}

/// Gives every image a place; returns those of the inputs.
fn lay_out_images(
    made: &mut [Layer],
    layers: &[LayerParameters],
    planes: &[Plane],
    inputs: usize,
    places: &mut Places,
) -> Vec<usize> {
    let mut last_read = vec![None; planes.len()];
    for (number, of) in layers.iter().enumerate() {
        of.terms.iter().for_each(|term| last_read[term.from] = Some(number));
    }
    let read = &last_read[..planes.len() - 1];
    assert!(read.iter().all(Option::is_some), "every image but the last is read");
    let mut at: Vec<usize> = planes[..inputs].iter().map(|&plane| places.take(plane)).collect();
    for (number, (layer, of)) in made.iter_mut().zip(layers).enumerate() {
        let once = |from: usize| of.terms.iter().filter(|term| term.from == from).count() == 1;
        let ends = |from: usize| last_read[from] == Some(number);
        let become_sum =
            of.terms.iter().position(|term| term.map == Map::Same && ends(term.from) && once(term.from));
        layer.image = match become_sum {
            Some(term) => at[of.terms[term].from],
            None => places.take(layer.plane),
        };
        for (map, term) in of.terms.iter().enumerate().filter(|(map, _)| become_sum != Some(*map)) {
            let add = become_sum.is_some() || !layer.forward.is_empty();
            layer.forward.push(Step { map, at: at[term.from], add });
        }
        for term in of.terms.iter().filter(|term| ends(term.from) && at[term.from] != layer.image) {
            places.free(at[term.from]);
        }
        at.push(layer.image);
    }
    places.taken.fill(false);
    at.truncate(inputs);
    at
}

/// Gives every cotangent a place; returns those of the inputs.
fn lay_out_cotangents(
    made: &mut [Layer],
    layers: &[LayerParameters],
    planes: &[Plane],
    inputs: usize,
    places: &mut Places,
) -> Vec<usize> {
    let mut at = vec![None; planes.len()];
    at[planes.len() - 1] = Some(places.take(planes[planes.len() - 1]));
    for (number, (layer, of)) in made.iter_mut().zip(layers).enumerate().rev() {
        layer.cotangent = at[inputs + number].expect("every image but the last is read by a later layer");
        // What is added unchanged comes last: the cotangent itself may become the other one's.
        let is_same = |map: &usize| of.terms[*map].map == Map::Same;
        let maps = (0..of.terms.len()).filter(|map| !is_same(map)).chain((0..of.terms.len()).filter(is_same));
        let mut moved = false;
        for (done, map) in maps.enumerate() {
            let from = of.terms[map].from;
            let add = at[from].is_some();
            if !add && is_same(&map) && done + 1 == of.terms.len() {
                (at[from], moved) = (Some(layer.cotangent), true);
                continue;
            }
            let to = *at[from].get_or_insert_with(|| places.take(planes[from]));
            layer.backward.push(Step { map, at: to, add });
        }
        if !moved {
            places.free(layer.cotangent);
        }
    }
    at[..inputs].iter().map(|at| at.expect("every input is read")).collect()
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
        let together = (TOGETHER / (layer.plane.height * layer.plane.width)).clamp(1, CHUNK);
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
