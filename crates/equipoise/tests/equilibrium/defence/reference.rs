//! Input entropy reduction of one example, in float64 and dense: the pseudo-code, line by line, with nothing of the library.

/// f(z; x) = tanh(A z + x), logits W f + b.
pub struct Model {
    pub a: Vec<Vec<f64>>,
    pub w: Vec<Vec<f64>>,
    pub b: Vec<f64>,
}

/// How the steps of the input are taken.
#[derive(Clone, Copy)]
pub enum Sign<'a> {
    /// As deployed.
    Deployed,
    /// Those of another image, whatever happens here: the function whose derivative `shift` is.
    Held(&'a [Vec<f64>]),
    /// Those of another image and, from there, q/(|q| + τ): the function whose derivative `smooth(c)` is.
    Smooth(&'a [Vec<f64>], f64),
}

pub struct Run {
    /// z_1..z_8.
    pub states: Vec<Vec<f64>>,
    /// x_0..x_3.
    pub inputs: Vec<Vec<f64>>,
    /// q of every step of the input.
    pub slopes: Vec<Vec<f64>>,
    pub logits: Vec<f64>,
    /// h(f(z; x_s)) for the last state of each segment.
    pub at_segments: Vec<Vec<f64>>,
    /// Segments that did not go on from their last state, and those that ended early.
    pub went_back: usize,
    pub ended_early: usize,
}

type Pairs = Vec<(Vec<f64>, Vec<f64>)>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn times(m: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    m.iter().map(|row| dot(row, x)).collect()
}

fn transposed(m: &[Vec<f64>]) -> Vec<Vec<f64>> {
    (0..m[0].len()).map(|j| m.iter().map(|row| row[j]).collect()).collect()
}

fn plus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// −I + Σ u vᵀ.
fn dense(pairs: &[(Vec<f64>, Vec<f64>)], dim: usize) -> Vec<Vec<f64>> {
    let entry = |i: usize, j: usize| {
        let sum: f64 = pairs.iter().map(|(u, v)| u[i] * v[j]).sum();
        sum - f64::from(u8::from(i == j))
    };
    (0..dim).map(|i| (0..dim).map(|j| entry(i, j)).collect()).collect()
}

fn secant(before: &[(Vec<f64>, Vec<f64>)], step: &[f64], change: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let b = dense(before, step.len());
    let v = times(&transposed(&b), step);
    let numerator = minus(step, &times(&b, change));
    let denominator = dot(&v, change);
    let u = numerator.iter().map(|entry| entry / denominator);
    (u.map(|entry| if entry.is_finite() { entry } else { 0.0 }).collect(), v)
}

impl Model {
    pub fn f(&self, z: &[f64], x: &[f64]) -> Vec<f64> {
        plus(&times(&self.a, z), x).into_iter().map(f64::tanh).collect()
    }

    pub fn head(&self, z: &[f64]) -> Vec<f64> {
        plus(&times(&self.w, z), &self.b)
    }

    /// ∇ₓ of the entropy at f(z; x).
    fn slope(&self, z: &[f64], x: &[f64]) -> Vec<f64> {
        let f = self.f(z, x);
        let logits = self.head(&f);
        let sum: f64 = logits.iter().map(|l| l.exp()).sum();
        let log: Vec<f64> = logits.iter().map(|l| l - sum.ln()).collect();
        let entropy: f64 = -log.iter().map(|l| l.exp() * l).sum::<f64>();
        let at_logits: Vec<f64> = log.iter().map(|l| -l.exp() * (l + entropy)).collect();
        let at_f = times(&transposed(&self.w), &at_logits);
        at_f.iter().zip(&f).map(|(bar, f)| bar * (1.0 - f * f)).collect()
    }

    /// The defended answer, four segments of two steps and ten updates of β within 8/255; `tail` is (lead, steps, damping).
    pub fn run(
        &self,
        x: &[f64],
        (corrected, beta): (bool, f64),
        tail: (usize, usize, f64),
        sign: Sign<'_>,
    ) -> Run {
        let (rho, dim) = (8.0 / 255.0, x.len());
        let mut run = Run {
            states: vec![],
            inputs: vec![],
            slopes: vec![],
            logits: vec![],
            at_segments: vec![],
            went_back: 0,
            ended_early: 0,
        };
        let mut z = vec![0.0; dim];
        let mut x_s = x.to_vec();
        let mut pairs: Pairs = vec![];
        // Δz and g before that step.
        let mut last: Option<(Vec<f64>, Vec<f64>)> = None;
        for s in 0..4 {
            run.inputs.push(x_s.clone());
            let g_of = |z: &[f64]| minus(&self.f(z, &x_s), z);
            let mut g = g_of(&z);
            if let Some((step, before)) = &last {
                pairs.push(secant(&pairs, step, &minus(&g, before)));
            }
            let mut update: Vec<f64> = times(&dense(&pairs, dim), &g).into_iter().map(|d| -d).collect();
            if !corrected {
                pairs.clear();
            }
            let base = pairs.len();
            let (mut lowest, mut best) = (1e8, None);
            let mut trail: Vec<(Vec<f64>, Vec<f64>, Vec<f64>)> = vec![];
            let mut at = z.clone();
            for _ in 0..2 {
                at = plus(&at, &update);
                let next = g_of(&at);
                let (step, change) = (update.clone(), minus(&next, &g));
                trail.push((at.clone(), step.clone(), g.clone()));
                g = next;
                let relative = norm(&g) / (norm(&plus(&g, &at)) + 1e-9);
                if relative < lowest {
                    (lowest, best) = (relative, Some(trail.len() - 1));
                }
                if relative < 1e-3 {
                    break;
                }
                if trail.len() < 2 {
                    pairs.push(secant(&pairs, &step, &change));
                    update = times(&dense(&pairs, dim), &g).into_iter().map(|d| -d).collect();
                }
            }
            run.ended_early += usize::from(trail.len() < 2);
            let best = best.expect("finite numbers");
            run.went_back += usize::from(best + 1 < trail.len());
            run.states.push(trail[0].0.clone());
            run.states.push(at.clone());
            run.at_segments.push(self.head(&self.f(&at, &x_s)));
            z = trail[best].0.clone();
            let about = if corrected { best } else { trail.len() - 1 };
            pairs.truncate(base + about);
            last = Some((trail[about].1.clone(), trail[about].2.clone()));
            if s == 3 {
                run.logits = if corrected { self.tail(&z, &x_s, tail) } else { self.head(&at) };
                break;
            }
            for _ in 0..10 {
                let slope = self.slope(&z, &x_s);
                let signs = self.signs(&slope, run.slopes.len(), sign);
                run.slopes.push(slope);
                let moved = x_s.iter().zip(&signs).map(|(x, sign)| x - beta * sign);
                let clipped = moved.zip(x).map(|(moved, x)| moved.clamp(x - rho, x + rho).clamp(0.0, 1.0));
                x_s = clipped.collect();
            }
        }
        run
    }

    fn signs(&self, slope: &[f64], number: usize, sign: Sign<'_>) -> Vec<f64> {
        let signum = |q: f64| if q == 0.0 { 0.0 } else { q.signum() };
        match sign {
            Sign::Deployed => slope.iter().map(|&q| signum(q)).collect(),
            Sign::Held(at) => at[number].iter().map(|&q| signum(q)).collect(),
            Sign::Smooth(at, c) => {
                let mut sizes: Vec<f64> = at[number].iter().map(|q| q.abs()).collect();
                sizes.sort_by(f64::total_cmp);
                let half = sizes.len() / 2;
                let tau = c * (sizes[half - 1] + sizes[half]) / 2.0;
                let smooth = |q: f64| q / (q.abs() + tau);
                let pairs = slope.iter().zip(&at[number]);
                pairs.map(|(&q, &held)| signum(held) + smooth(q) - smooth(held)).collect()
            }
        }
    }

    fn tail(&self, z: &[f64], x: &[f64], (lead, steps, damping): (usize, usize, f64)) -> Vec<f64> {
        let dampings = std::iter::repeat_n(1.0, lead).chain(std::iter::repeat_n(damping, steps));
        let end = dampings.fold(z.to_vec(), |a, damping| {
            let f = self.f(&a, x);
            a.iter().zip(f).map(|(a, f)| (1.0 - damping) * a + damping * f).collect()
        });
        self.head(&end)
    }
}

/// −log softmax at a class.
pub fn cross_entropy(logits: &[f64], label: usize) -> f64 {
    let sum: f64 = logits.iter().map(|l| l.exp()).sum();
    sum.ln() - logits[label]
}
