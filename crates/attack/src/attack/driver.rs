//! The attack driver: what all attacks share around the search that each of them is.
//!
//! It refuses norms and numbers of classes that an attack has no form for, repeats the search for each restart and
//! each target class, knows which examples still stand, derives their random numbers, tells of every step, decides
//! what the victim misclassifies, and holds the images found. Images are kept row by row on the host: an attack's
//! history of an example is then one small struct, and no example sees another; only the batches that the victim is
//! asked about become tensors.

use std::cell::RefCell;
use std::ops::ControlFlow;

use rayon::prelude::*;

use super::classes::{TargetOrder, rivals};
use super::progress::{Progress, Step};
use super::{Attempt, Budget, Examples, Queries, Question, ValueAndGradient, WhiteBox};
use crate::batch::{Images, Logits, from_vec, predictions, to_vec};
use crate::loss::{Objective, TargetMargin};
use crate::random::{ExampleRng, Key};

/// How often an attack searches, and what one search asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Independent searches, at least 1, for each target class if there are any.
    pub restarts: usize,
    /// Steps of a search, each of which is told by [`Search::step`].
    pub steps: usize,
    /// What a search asks about an example that withstands it.
    pub queries: Queries,
    /// Target classes that are tried one after the other. The driver then looks at the unperturbed images first, and
    /// what is misclassified there is not searched for. `None` for an attack that does not look.
    pub targets: Option<Targets>,
    /// Whether a search ends at images that it has not asked about ([`Search::keep_unseen`]): the driver asks before
    /// the next search.
    pub ends_unseen: bool,
    /// Whether every search is for all examples, those that fell before included.
    pub exhaustive: bool,
}

impl Schedule {
    /// Searches of so many steps, each of which asks for one gradient, that end at the image after the last step.
    pub fn of_gradients(steps: usize, restarts: usize) -> Self {
        let queries = Queries { gradients: steps, logits: 0 };
        Self { ends_unseen: true, ..Self::new(steps, restarts, queries) }
    }

    /// Searches of so many steps that ask this about an example that withstands them, and look at every image that
    /// they keep.
    pub fn new(steps: usize, restarts: usize, queries: Queries) -> Self {
        Self { restarts, steps, queries, targets: None, ends_unseen: false, exhaustive: false }
    }

    /// Searches in all.
    fn searches(&self) -> usize {
        self.targets.map_or(1, |targets| targets.count) * self.restarts
    }

    /// What all searches together ask about an example that withstands them.
    pub(super) fn all_queries(&self) -> Queries {
        let searches = self.searches();
        let between = if self.ends_unseen { searches.saturating_sub(1) } else { 0 };
        let ranking = self.targets.map_or(0, |targets| targets.order.gradients(targets.classes));
        Queries {
            gradients: ranking + searches * self.queries.gradients,
            logits: usize::from(self.targets.is_some()) + searches * self.queries.logits + between,
        }
    }
}

/// The classes that a targeted attack aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Targets {
    /// How many, at least 1.
    pub count: usize,
    /// Which come first.
    pub order: TargetOrder,
    /// K, all classes of the model.
    pub classes: usize,
}

/// What the victim says of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The objective's value.
    pub value: f32,
    /// Whether the image is misclassified; logits that are not finite count as that.
    pub fooled: bool,
    /// Gradient of the objective, one entry for each pixel; empty where none was asked for.
    pub gradient: Vec<f32>,
}

/// One search, for the examples that it is for. They are named by their rows in the batch under attack.
pub struct Search<'a> {
    victim: &'a dyn WhiteBox,
    /// How often the victim was asked about each example.
    asked: RefCell<Vec<usize>>,
    examples: &'a Examples<'a>,
    budget: &'a Budget,
    progress: &'a dyn Progress,
    schedule: Schedule,
    /// Which of all searches this is.
    number: usize,
    steps_done: usize,
    rows: Vec<usize>,
    clean: Vec<f32>,
    /// One image per example; the unperturbed one where nothing was kept.
    found: Vec<f32>,
    claimed: Vec<bool>,
    /// Whether the image found was kept without asking about it.
    unseen: Vec<bool>,
    /// The loss of the image found, where it was kept for its loss.
    highest: Vec<f32>,
    /// The classes beside the label, where the unperturbed images were looked at.
    rivals: Vec<Vec<usize>>,
}

/// The unperturbed images under attack and the ball around each: what an example's work needs while the victim waits.
#[derive(Clone, Copy)]
pub struct Region<'a> {
    clean: &'a [f32],
    /// `[C, H, W]`.
    shape: [usize; 3],
    budget: &'a Budget,
}

impl<'a> Region<'a> {
    /// `[C, H, W]`.
    pub fn image_shape(self) -> [usize; 3] {
        self.shape
    }

    /// The ball to search in.
    pub fn budget(self) -> &'a Budget {
        self.budget
    }

    /// The unperturbed image in this row, its pixels in row-major order.
    pub fn clean(self, row: usize) -> &'a [f32] {
        let size: usize = self.shape.into_iter().product();
        &self.clean[row * size..][..size]
    }

    /// Moves an image of the example in this row to the nearest one within the budget and \[0, 1\].
    pub fn project(self, row: usize, pixels: &mut [f32]) {
        self.budget.project_example(self.clean(row), pixels);
    }
}

/// What every example does by itself between two questions to the victim, on all threads: its state, and what is there for
/// it, such as the victim's answer. Examples are independent, so that the order of work does not matter.
pub fn each_example<S: Send, A: Send, R: Send>(
    states: &mut [S],
    given: Vec<A>,
    work: impl Fn(&mut S, A) -> R + Sync,
) -> Vec<R> {
    assert_eq!(states.len(), given.len(), "one of each for every example");
    // A single example is not worth waking a thread for.
    if states.len() < 2 {
        return states.iter_mut().zip(given).map(|(state, given)| work(state, given)).collect();
    }
    states.par_iter_mut().zip(given).map(|(state, given)| work(state, given)).collect()
}

/// Runs all searches of a schedule. A search that breaks is the last.
pub(super) fn drive(
    schedule: Schedule,
    victim: &dyn WhiteBox,
    (examples, budget): (&Examples<'_>, &Budget),
    progress: &dyn Progress,
    mut run: impl FnMut(&mut Search<'_>) -> ControlFlow<()>,
) -> Attempt {
    let mut search = Search::new(schedule, victim, (examples, budget), progress);
    if let Some(targets) = schedule.targets {
        search.look_at_clean();
        if targets.order == TargetOrder::Near {
            search.rank_by_distance();
        }
    }
    let searchable = search.standing();
    for number in 0..schedule.searches() {
        let rows = if schedule.exhaustive { searchable.clone() } else { search.standing() };
        if rows.is_empty() {
            break;
        }
        search.begin(number, rows);
        if run(&mut search).is_break() {
            break;
        }
        if number + 1 < schedule.searches() {
            search.look_at_unseen();
        }
    }
    search.finish()
}

impl<'a> Search<'a> {
    pub(super) fn new(
        schedule: Schedule,
        victim: &'a dyn WhiteBox,
        (examples, budget): (&'a Examples<'a>, &'a Budget),
        progress: &'a dyn Progress,
    ) -> Self {
        let clean = to_vec(examples.images.clone());
        let count = examples.labels.len();
        Self {
            victim,
            asked: RefCell::new(vec![0; count]),
            examples,
            budget,
            progress,
            schedule,
            number: 0,
            steps_done: 0,
            rows: Vec::new(),
            found: clean.clone(),
            clean,
            claimed: vec![false; count],
            unseen: vec![false; count],
            highest: vec![f32::NEG_INFINITY; count],
            rivals: Vec::new(),
        }
    }

    /// Begins one of the searches, for the examples in these rows.
    pub(super) fn begin(&mut self, number: usize, rows: Vec<usize>) {
        (self.number, self.rows) = (number, rows);
        // Steps of earlier searches that nobody was left for need not be taken.
        self.steps_done = number * self.schedule.steps;
    }

    /// Claims what is misclassified without a perturbation, and ranks the classes of the others.
    fn look_at_clean(&mut self) {
        if self.examples.labels.is_empty() {
            return;
        }
        let keys = self.keys(0..self.examples.labels.len());
        let logits = self.victim.answer(&Question { images: self.examples.images, keys: &keys });
        for (row, class) in predictions(&logits).into_iter().enumerate() {
            self.claimed[row] = class != Some(self.examples.labels[row]);
        }
        self.rivals = rivals(&logits, self.examples.labels);
    }

    /// Ranks the most likely classes of what still stands anew, by the distance of their linearised boundaries; the others
    /// stay behind them.
    fn rank_by_distance(&mut self) {
        let rows = self.standing();
        if rows.is_empty() {
            return;
        }
        let candidates = TargetOrder::Near.gradients(self.rivals[rows[0]].len() + 1);
        let labels: Vec<usize> = rows.iter().map(|&row| self.label(row)).collect();
        let mut distances = vec![Vec::with_capacity(candidates); rows.len()];
        for place in 0..candidates {
            let points: Vec<(usize, &[f32])> = rows.iter().map(|&row| (row, self.clean(row))).collect();
            let targets = rows.iter().map(|&row| self.rivals[row][place]).collect();
            let answers = self.gradients(&points, &TargetMargin { labels: labels.clone(), targets });
            for (distances, answer) in distances.iter_mut().zip(answers) {
                let gradient = answer.gradient.iter().map(|&entry| f64::from(entry));
                distances.push(self.budget.norm().to_zero(f64::from(answer.value), gradient));
            }
        }
        for (row, distances) in rows.into_iter().zip(distances) {
            let mut order: Vec<usize> = (0..candidates).collect();
            order.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
            let nearest: Vec<usize> = order.into_iter().map(|place| self.rivals[row][place]).collect();
            self.rivals[row][..candidates].copy_from_slice(&nearest);
        }
    }

    /// Asks about what was kept without asking.
    fn look_at_unseen(&mut self) {
        let rows: Vec<usize> = (0..self.unseen.len()).filter(|&row| self.unseen[row]).collect();
        if rows.is_empty() {
            return;
        }
        let points: Vec<(usize, &[f32])> = rows.iter().map(|&row| (row, self.found(row))).collect();
        let fooled = self.fooled(&points);
        for (row, fooled) in rows.into_iter().zip(fooled) {
            (self.unseen[row], self.claimed[row]) = (false, fooled);
        }
    }

    /// The rows for which no success was claimed.
    fn standing(&self) -> Vec<usize> {
        (0..self.claimed.len()).filter(|&row| !self.claimed[row]).collect()
    }

    fn finish(self) -> Attempt {
        let (shape, device) = (self.examples.images.dims(), self.examples.images.device());
        Attempt { images: from_vec(self.found, shape, &device), claimed: self.claimed }
    }

    /// The victim, for questions that [`Self::gradients`], [`Self::values`] and [`Self::fooled`] do not ask; by [`Self::ask`].
    pub fn victim(&self) -> &'a dyn WhiteBox {
        self.victim
    }

    /// The ball to search in.
    pub fn budget(&self) -> &'a Budget {
        self.budget
    }

    /// The rows of the examples that this search is for.
    pub fn rows(&self) -> Vec<usize> {
        self.rows.clone()
    }

    /// The unperturbed images and the ball around each.
    pub fn region(&self) -> Region<'_> {
        Region { clean: &self.clean, shape: self.image_shape(), budget: self.budget }
    }

    /// The unperturbed image in this row, its pixels in row-major order.
    pub fn clean(&self, row: usize) -> &[f32] {
        self.region().clean(row)
    }

    /// The true class of the example in this row.
    pub fn label(&self, row: usize) -> usize {
        self.examples.labels[row]
    }

    /// The class that this search is to reach with the example in this row.
    ///
    /// # Panics
    ///
    /// Unless the schedule has targets.
    pub fn target(&self, row: usize) -> usize {
        self.rivals(row)[self.number / self.schedule.restarts]
    }

    /// All classes but the label, in the order of the schedule's targets.
    ///
    /// # Panics
    ///
    /// Unless the schedule has targets.
    pub fn rivals(&self, row: usize) -> &[usize] {
        &self.rivals[row]
    }

    /// Whether this is the first search for its target from the first start. An attack may begin it at the
    /// unperturbed image; every other search begins at random.
    pub fn is_first(&self) -> bool {
        self.number.is_multiple_of(self.schedule.restarts) && self.examples.start == 0
    }

    /// Random numbers that belong to this search for the example in this row: those of another restart, target, start,
    /// example, seed or purpose are others, and the batch does not matter. The purpose is the attack's name, say.
    pub fn rng(&self, purpose: &str, row: usize) -> ExampleRng {
        let Examples { seed, indices, start, .. } = *self.examples;
        ExampleRng::new(seed, purpose, indices[row], self.number).starting(start)
    }

    /// `[C, H, W]`.
    pub fn image_shape(&self) -> [usize; 3] {
        let [_, channels, height, width] = self.examples.images.dims();
        [channels, height, width]
    }

    /// Pixels of an image, all channels counted.
    pub fn size(&self) -> usize {
        self.image_shape().into_iter().product()
    }

    /// Tells that so many examples are about to take a step. Every step is told.
    ///
    /// # Errors
    ///
    /// Breaks if the search is to end here, with what was kept: pass it on with `?`.
    pub fn step(&mut self, standing: usize) -> ControlFlow<()> {
        let done = self.steps_done;
        self.steps_done += 1;
        let total = self.schedule.searches() * self.schedule.steps;
        self.progress.step(Step { done, total, examples: self.claimed.len(), standing })
    }

    /// Moves an image of the example in this row to the nearest one within the budget and \[0, 1\].
    pub fn project(&self, row: usize, pixels: &mut [f32]) {
        self.region().project(row, pixels);
    }

    /// Asks about images, given with the rows of their examples, for the objective's value and gradient. The objective
    /// is one of these examples, in this order.
    pub fn gradients(&self, points: &[(usize, &[f32])], objective: &dyn Objective) -> Vec<Answer> {
        let answer = self.ask(points, |question| self.victim.differentiate(question, objective));
        self.answers(points, answer)
    }

    /// What a victim's answer says of each of these images.
    pub(super) fn answers(&self, points: &[(usize, &[f32])], answer: ValueAndGradient) -> Vec<Answer> {
        let gradients = to_vec(answer.gradient);
        let mut gradients = gradients.chunks_exact(self.size().max(1)).map(<[f32]>::to_vec);
        let values = to_vec(answer.values).into_iter().zip(self.wrong(points, &answer.logits));
        let answer = |(value, fooled)| {
            // An image without pixels has a gradient without entries.
            Answer { value, fooled, gradient: gradients.next().unwrap_or_default() }
        };
        values.map(answer).collect()
    }

    /// Asks about images, given with the rows of their examples, for the objective's value alone.
    pub fn values(&self, points: &[(usize, &[f32])], objective: &dyn Objective) -> Vec<Answer> {
        let logits = self.ask(points, |question| self.victim.answer(question));
        let fooled = self.wrong(points, &logits);
        let values = to_vec(objective.values(logits)).into_iter().zip(fooled);
        values.map(|(value, fooled)| Answer { value, fooled, gradient: Vec::new() }).collect()
    }

    /// Asks whether images, given with the rows of their examples, are misclassified.
    pub fn fooled(&self, points: &[(usize, &[f32])]) -> Vec<bool> {
        self.wrong(points, &self.ask(points, |question| self.victim.answer(question)))
    }

    fn wrong(&self, points: &[(usize, &[f32])], logits: &Logits) -> Vec<bool> {
        let classes = predictions(logits).into_iter().zip(points);
        classes.map(|(class, &(row, _))| class != Some(self.label(row))).collect()
    }

    /// A question to the victim about images, given with the rows of their examples. Each has a key of its own, so that a
    /// victim that draws random numbers draws new ones.
    pub fn ask<T>(&self, points: &[(usize, &[f32])], of: impl FnOnce(&Question<'_>) -> T) -> T {
        let keys = self.keys(points.iter().map(|&(row, _)| row));
        of(&Question { images: &self.images(points), keys: &keys })
    }

    /// The keys of another question about the examples in these rows.
    fn keys(&self, rows: impl Iterator<Item = usize>) -> Vec<Key> {
        let Examples { seed, indices, start, .. } = *self.examples;
        let mut asked = self.asked.borrow_mut();
        rows.map(|row| {
            let draw = asked[row];
            asked[row] += 1;
            Key { seed, asker: "attack", index: indices[row], start, draw }
        })
        .collect()
    }

    /// Images as the victim takes them, `[N, C, H, W]`.
    pub(super) fn images(&self, points: &[(usize, &[f32])]) -> Images {
        let [channels, height, width] = self.image_shape();
        let pixels: Vec<&[f32]> = points.iter().map(|&(_, pixels)| pixels).collect();
        from_vec(pixels.concat(), [points.len(), channels, height, width], &self.examples.images.device())
    }

    /// Whether no success was claimed for this row.
    pub fn stands(&self, row: usize) -> bool {
        !self.claimed[row]
    }

    fn found(&self, row: usize) -> &[f32] {
        &self.found[row * self.size()..][..self.size()]
    }

    /// Keeps an image within the budget for this row, in place of what was there, and claims it as a success where the
    /// victim was seen to misclassify it.
    pub fn keep(&mut self, row: usize, image: &[f32], fooled: bool) {
        let size = self.size();
        self.found[row * size..][..size].copy_from_slice(image);
        (self.claimed[row], self.unseen[row]) = (fooled, false);
    }

    /// Keeps an image that the victim was not asked about. It is no claim, and is looked at before the next search.
    pub fn keep_unseen(&mut self, row: usize, image: &[f32]) {
        self.keep(row, image, false);
        self.unseen[row] = true;
    }

    /// Keeps an image, as [`Self::keep`] does, unless an earlier search kept one of higher loss.
    pub fn keep_highest(&mut self, row: usize, image: &[f32], loss: f32, fooled: bool) {
        if loss >= self.highest[row] {
            self.highest[row] = loss;
            self.keep(row, image, fooled);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::super::{Classifier, Norm, Uninterrupted};
    use super::*;

    /// Logits Wx + b of two pixels.
    struct Linear;

    const WEIGHTS: [[f32; 2]; 4] = [[0.0, 0.0], [1.0, 1.0], [0.0, 8.0], [0.25, 0.0]];
    const BIASES: [f32; 4] = [0.0, -1.0, -6.0, -1.5];

    impl Classifier for Linear {
        fn classes(&self) -> usize {
            4
        }

        fn answer(&self, question: &Question<'_>) -> Logits {
            let [n, ..] = question.images.dims();
            let rows = to_vec(question.images.clone());
            let logits = rows.chunks_exact(2).flat_map(|x| {
                WEIGHTS.iter().zip(BIASES).map(|(w, b)| w[0] * x[0] + w[1] * x[1] + b).collect::<Vec<_>>()
            });
            from_vec(logits.collect(), [n, 4], &question.images.device())
        }
    }

    impl WhiteBox for Linear {
        fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
            let logits = self.answer(question);
            let (values, slopes) = objective.values_and_derivative(&logits);
            let slopes = to_vec(slopes);
            let gradient = slopes.chunks_exact(4).flat_map(|slope| {
                [0, 1].map(|pixel| slope.iter().zip(WEIGHTS).map(|(s, w)| s * w[pixel]).sum())
            });
            let gradient = from_vec(gradient.collect(), question.images.dims(), &question.images.device());
            ValueAndGradient { logits, values, gradient }
        }
    }

    /// At x = 0 the margins are 1, 6 and 1.5, and the slopes (1, 1), (0, 8) and (0.25, 0): in L∞ class 1 is 0.5 away, class
    /// 2 0.75, class 3 6; in L2 class 1 is 0.71 away; in L1 classes 1 and 2 are 1 and 0.75 away.
    #[test]
    fn targets_are_ranked_by_logit_or_by_distance() {
        let device = Device::default();
        let images = from_vec(vec![0.0, 0.0, 0.0, 0.0], [2, 1, 1, 2], &device);
        let examples = Examples { images: &images, labels: &[0, 0], indices: &[0, 1], seed: 0, start: 0 };
        for (norm, order, expected) in [
            (Norm::Linf, TargetOrder::Likely, [1, 3, 2]),
            (Norm::Linf, TargetOrder::Near, [1, 2, 3]),
            (Norm::L2, TargetOrder::Near, [1, 2, 3]),
            (Norm::L1, TargetOrder::Near, [2, 1, 3]),
        ] {
            let budget = Budget::new(norm, 0.01).unwrap();
            let targets = Targets { count: 3, order, classes: 4 };
            let schedule = Schedule { targets: Some(targets), ..Schedule::new(1, 1, Queries::default()) };
            let ranking = if order == TargetOrder::Near { 3 } else { 0 };
            assert_eq!(schedule.all_queries(), Queries { gradients: ranking, logits: 1 });
            let mut seen = Vec::new();
            drive(schedule, &Linear, (&examples, &budget), &Uninterrupted, |search| {
                seen.push(search.target(1));
                assert_eq!(search.rivals(0), expected);
                ControlFlow::Continue(())
            });
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn each_example_meets_what_is_its_own() {
        for count in [0, 1, 2, 257] {
            let mut states: Vec<usize> = (0..count).collect();
            let given: Vec<usize> = (0..count).map(|k| 10 * k).collect();
            let sums = each_example(&mut states, given, |state, given| {
                *state += 1;
                *state + given
            });
            assert_eq!(states, (1..=count).collect::<Vec<_>>());
            assert_eq!(sums, (0..count).map(|k| 11 * k + 1).collect::<Vec<_>>());
        }
    }
}
