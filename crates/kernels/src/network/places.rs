//! Which image lies where in memory, and by which steps a layer's image is made and its cotangent goes back.
//!
//! Images whose shapes are the same and that are not needed at the same time share their memory. An image that is added
//! unchanged, and not read again, is where the sum is made.

use crate::image::plane::Plane;
use crate::network::parameters::{LayerParameters, Map, Term};

/// Where a layer's image or cotangent is, and the maps on the way to the image or from the cotangent.
#[derive(Debug)]
pub(crate) struct Route {
    pub at: usize,
    pub steps: Vec<Step>,
}

/// One of a layer's maps, forward from another image to the layer's, backward from the layer's cotangent to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// Which of the layer's maps.
    pub map: usize,
    /// Where the other image or cotangent is.
    pub at: usize,
    /// Whether something is there already to which this is added.
    pub add: bool,
}

/// Which places are taken.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub planes: Vec<Plane>,
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

fn is_same<C, N>(term: &Term<C, N>) -> bool {
    matches!(term.map, Map::Same)
}

/// Gives every image a place: each layer's, and where the inputs are.
///
/// # Panics
///
/// If an image other than the last is never read.
pub(crate) fn images<C, N>(
    layers: &[LayerParameters<C, N>],
    planes: &[Plane],
    places: &mut Places,
) -> (Vec<Route>, Vec<usize>) {
    let inputs = planes.len() - layers.len();
    let mut last_read = vec![None; planes.len()];
    for (number, of) in layers.iter().enumerate() {
        of.terms.iter().for_each(|term| last_read[term.from] = Some(number));
    }
    let read = &last_read[..planes.len() - 1];
    assert!(read.iter().all(Option::is_some), "every image but the last is read");
    let mut at: Vec<usize> = planes[..inputs].iter().map(|&plane| places.take(plane)).collect();
    let mut routes = Vec::with_capacity(layers.len());
    for (number, of) in layers.iter().enumerate() {
        let once = |from: usize| of.terms.iter().filter(|term| term.from == from).count() == 1;
        let ends = |from: usize| last_read[from] == Some(number);
        let become_sum = of.terms.iter().position(|term| is_same(term) && ends(term.from) && once(term.from));
        let here = match become_sum {
            Some(term) => at[of.terms[term].from],
            None => places.take(planes[inputs + number]),
        };
        let mut route = Route { at: here, steps: Vec::new() };
        for (map, term) in of.terms.iter().enumerate().filter(|(map, _)| become_sum != Some(*map)) {
            let add = become_sum.is_some() || !route.steps.is_empty();
            route.steps.push(Step { map, at: at[term.from], add });
        }
        for term in of.terms.iter().filter(|term| ends(term.from) && at[term.from] != route.at) {
            places.free(at[term.from]);
        }
        at.push(route.at);
        routes.push(route);
    }
    places.taken.fill(false);
    at.truncate(inputs);
    (routes, at)
}

/// Gives every cotangent a place: each layer's, and where those of the inputs are.
///
/// # Panics
///
/// If an image other than the last is never read.
pub(crate) fn cotangents<C, N>(
    layers: &[LayerParameters<C, N>],
    planes: &[Plane],
    places: &mut Places,
) -> (Vec<Route>, Vec<usize>) {
    let inputs = planes.len() - layers.len();
    let mut at = vec![None; planes.len()];
    at[planes.len() - 1] = Some(places.take(planes[planes.len() - 1]));
    let mut routes = Vec::with_capacity(layers.len());
    for (number, of) in layers.iter().enumerate().rev() {
        let here = at[inputs + number].expect("every image but the last is read");
        let mut route = Route { at: here, steps: Vec::new() };
        // What is added unchanged comes last: the cotangent itself may become the other one's.
        let same = |map: &usize| is_same(&of.terms[*map]);
        let maps = (0..of.terms.len()).filter(|map| !same(map)).chain((0..of.terms.len()).filter(same));
        let mut moved = false;
        for (done, map) in maps.enumerate() {
            let from = of.terms[map].from;
            let add = at[from].is_some();
            if !add && same(&map) && done + 1 == of.terms.len() {
                (at[from], moved) = (Some(here), true);
                continue;
            }
            let to = *at[from].get_or_insert_with(|| places.take(planes[from]));
            route.steps.push(Step { map, at: to, add });
        }
        if !moved {
            places.free(here);
        }
        routes.push(route);
    }
    routes.reverse();
    let inputs = at[..inputs].iter().map(|at| at.expect("every image but the last is read")).collect();
    (routes, inputs)
}
