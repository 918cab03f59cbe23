//! Predicts the time of an answer, from the times of earlier answers.

use std::collections::VecDeque;
use std::time::Duration;

/// Coefficients of the linear model: of the pass itself, its items, their neighbours.
const TERMS: usize = 3;
/// Factor of the weight of older observations at each new one: about a hundred are remembered.
const FORGET: f64 = 0.99;
/// Weight of the prior, relative to the observations.
const RIDGE: f64 = 1e-4;
/// Recent ratios of measured to predicted time, from which the margin is computed.
const WINDOW: usize = 128;
/// Number of observations from which on predictions are trusted.
const ENOUGH: u64 = 16;
/// Shortest prediction, in seconds.
const SHORTEST: f64 = 1e-6;
/// A measured time above this many predicted times is clipped: the machine was slow, not the work larger.
const OUTLIER: f64 = 8.0;

/// The amount of work of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Pairs scored, candidates ranked, nodes embedded.
    pub items: usize,
    /// Their neighbours in the view, where known; else 0.
    pub neighbours: usize,
}

impl Size {
    pub fn of(items: usize) -> Size {
        Size { items, neighbours: 0 }
    }

    pub fn with(self, other: Size) -> Size {
        Size { items: self.items + other.items, neighbours: self.neighbours + other.neighbours }
    }

    fn regressors(self) -> [f64; TERMS] {
        [1.0, self.items as f64, self.neighbours as f64]
    }
}

/// Predicts the time of one kind of pass: `fixed + items * a + neighbours * b`. The coefficients are fitted by least
/// squares of the relative error. Old observations lose weight exponentially, and no coefficient is below zero. The
/// prediction is about the median; the margin, a quantile of the recent ratios of measured to predicted time, makes it
/// an upper bound.
#[derive(Clone, Debug)]
pub(crate) struct CostModel {
    prior: [f64; TERMS],
    /// In seconds: of the pass, an item, a neighbour.
    fitted: [f64; TERMS],
    squares: [[f64; TERMS]; TERMS],
    products: [f64; TERMS],
    ratios: VecDeque<f64>,
    margin: f64,
    seen: u64,
}

impl CostModel {
    /// A model with a prior: seconds of a pass and of an item.
    pub fn new(fixed: f64, item: f64) -> CostModel {
        let prior = [fixed, item, 0.0];
        CostModel {
            prior,
            fitted: prior,
            squares: [[0.0; TERMS]; TERMS],
            products: [0.0; TERMS],
            ratios: VecDeque::with_capacity(WINDOW),
            margin: 1.0,
            seen: 0,
        }
    }

    /// Predicted seconds of a pass of this size.
    pub fn predict(&self, size: Size) -> f64 {
        dot(&self.fitted, &size.regressors()).max(SHORTEST)
    }

    /// Predicted seconds that work of this size adds to a pass that is computed anyway.
    pub fn adds(&self, size: Size) -> f64 {
        (dot(&self.fitted, &size.regressors()) - self.fitted[0]).max(SHORTEST)
    }

    /// Predicted seconds of an empty pass.
    pub fn fixed(&self) -> f64 {
        self.fitted[0]
    }

    /// Seconds of a pass, of an item and of a neighbour.
    pub fn parts(&self) -> [f64; TERMS] {
        self.fitted
    }

    /// The factor by which a prediction is multiplied to hold for 95 % of passes; at least 1.
    pub fn margin(&self) -> f64 {
        self.margin
    }

    /// Whether there are enough observations to refuse a read because of a prediction.
    pub fn is_trusted(&self) -> bool {
        self.seen >= ENOUGH
    }

    /// Adds an observation: a pass of this size took `took`.
    pub fn learn(&mut self, size: Size, took: Duration) {
        let (terms, foretold) = (size.regressors(), self.predict(size));
        let found = took.as_secs_f64().max(SHORTEST);
        self.note_ratio(found / foretold);
        let bounded = if self.is_trusted() { found.min(OUTLIER * foretold) } else { found };
        let weight = 1.0 / (bounded * bounded);
        for (i, &a) in terms.iter().enumerate() {
            for (j, &b) in terms.iter().enumerate() {
                self.squares[i][j] = FORGET * self.squares[i][j] + weight * a * b;
            }
            self.products[i] = FORGET * self.products[i] + weight * a * bounded;
        }
        self.seen += 1;
        self.fit();
    }

    fn note_ratio(&mut self, ratio: f64) {
        if self.ratios.len() == WINDOW {
            self.ratios.pop_front();
        }
        self.ratios.push_back(ratio);
        let mut sorted: Vec<f64> = self.ratios.iter().copied().collect();
        let at = (sorted.len() - 1) * 95 / 100;
        let (_, quantile, _) = sorted.select_nth_unstable_by(at, f64::total_cmp);
        self.margin = quantile.clamp(1.0, OUTLIER);
    }

    /// Least squares over the coefficients that are not fixed at zero. The most negative coefficient is fixed at zero
    /// and the rest fitted again, until none is negative.
    fn fit(&mut self) {
        let mut free = [true; TERMS];
        for _ in 0..TERMS {
            let fitted = self.solve(&free);
            match (0..TERMS).filter(|&i| free[i] && fitted[i] < 0.0).min_by(|&i, &j| fitted[i].total_cmp(&fitted[j])) {
                Some(worst) => free[worst] = false,
                None => {
                    self.fitted = fitted;
                    return;
                }
            }
        }
    }

    fn solve(&self, free: &[bool; TERMS]) -> [f64; TERMS] {
        let (mut a, mut b) = (self.squares, self.products);
        for i in 0..TERMS {
            // The prior is weighted in the unit of each coefficient.
            let ridge = RIDGE * self.squares[i][i] + f64::MIN_POSITIVE;
            a[i][i] += ridge;
            b[i] += ridge * self.prior[i];
            if !free[i] {
                (0..TERMS).for_each(|j| (a[i][j], a[j][i]) = (0.0, 0.0));
                (a[i][i], b[i]) = (1.0, 0.0);
            }
        }
        solve(a, b)
    }
}

fn dot(a: &[f64; TERMS], b: &[f64; TERMS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves `a x = b` for a positive definite `a`, by elimination.
fn solve(mut a: [[f64; TERMS]; TERMS], mut b: [f64; TERMS]) -> [f64; TERMS] {
    for i in 0..TERMS {
        for j in i + 1..TERMS {
            let factor = a[j][i] / a[i][i];
            let above = a[i];
            a[j].iter_mut().zip(above).skip(i).for_each(|(number, above)| *number -= factor * above);
            b[j] -= factor * b[i];
        }
    }
    let mut x = [0.0; TERMS];
    for i in (0..TERMS).rev() {
        let known: f64 = (i + 1..TERMS).map(|j| a[i][j] * x[j]).sum();
        x[i] = (b[i] - known) / a[i][i];
    }
    x
}

#[cfg(test)]
mod tests {
    use tempograph_framework::{Draw, Purpose, RandomNumbers};

    use super::*;

    fn chance() -> RandomNumbers {
        Draw::new(3).of(Purpose::Sampling).at(0, 0)
    }

    /// A model after passes of random sizes, whose times are linear in the sizes with random noise.
    fn taught(
        passes: usize,
        line: [f64; TERMS],
        noise: f64,
        mut model: CostModel,
        chance: &mut RandomNumbers,
    ) -> CostModel {
        for _ in 0..passes {
            let items = 1 + chance.below(200) as usize;
            let size = Size { items, neighbours: chance.below(10 * items as u32) as usize };
            let factor = 1.0 + noise * (2.0 * chance.uniform_f64() - 1.0);
            model.learn(size, Duration::from_secs_f64(factor * dot(&line, &size.regressors())));
        }
        model
    }

    fn off_by(model: &CostModel, line: [f64; TERMS], size: Size) -> f64 {
        (model.predict(size) / dot(&line, &size.regressors()) - 1.0).abs()
    }

    #[test]
    fn a_line_is_found_under_noise_for_small_and_large_passes() {
        let line = [80e-6, 12e-6, 1.5e-6];
        let model = taught(400, line, 0.3, CostModel::new(1e-3, 1e-3), &mut chance());
        for size in [Size::of(1), Size { items: 10, neighbours: 60 }, Size { items: 400, neighbours: 2000 }] {
            assert!(
                off_by(&model, line, size) < 0.15,
                "{size:?}: {} for {}",
                model.predict(size),
                dot(&line, &size.regressors())
            );
        }
    }

    #[test]
    fn a_change_is_followed() {
        let (mut chance, before, after) = (chance(), [50e-6, 10e-6, 0.0], [200e-6, 40e-6, 0.0]);
        let model = taught(500, before, 0.2, CostModel::new(1e-4, 1e-5), &mut chance);
        let model = taught(600, after, 0.2, model, &mut chance);
        assert!(off_by(&model, after, Size::of(50)) < 0.2, "{}", model.predict(Size::of(50)));
    }

    #[test]
    fn passes_of_one_size_only_still_foretell_that_size() {
        let mut model = CostModel::new(1e-4, 1e-5);
        (0..300).for_each(|_| model.learn(Size { items: 64, neighbours: 640 }, Duration::from_micros(900)));
        assert!((model.predict(Size { items: 64, neighbours: 640 }) - 900e-6).abs() < 9e-6);
        assert!(model.fitted.iter().all(|&part| part >= 0.0), "{:?}", model.fitted);
    }

    #[test]
    fn no_part_of_a_time_is_negative_when_larger_passes_happen_to_be_faster() {
        let mut model = CostModel::new(1e-4, 1e-5);
        (1..200).for_each(|i| model.learn(Size::of(i), Duration::from_micros(1000 - 2 * i as u64)));
        assert!(model.fitted.iter().all(|&part| part >= 0.0), "{:?}", model.fitted);
        assert!(model.predict(Size::of(1)) > 0.0 && model.adds(Size::of(1)) > 0.0);
    }

    #[test]
    fn the_margin_covers_nineteen_passes_in_twenty() {
        let (line, mut chance) = ([80e-6, 12e-6, 0.0], chance());
        let mut model = taught(400, line, 0.5, CostModel::new(1e-4, 1e-5), &mut chance);
        let mut within = 0;
        for _ in 0..1000 {
            let size = Size::of(1 + chance.below(100) as usize);
            let took = dot(&line, &size.regressors()) * (0.5 + chance.uniform_f64());
            within += usize::from(took <= model.margin() * model.predict(size));
            model.learn(size, Duration::from_secs_f64(took));
        }
        assert!((900..=990).contains(&within), "{within} of 1000");
    }

    #[test]
    fn one_pass_that_was_interrupted_moves_little() {
        let line = [80e-6, 12e-6, 0.0];
        let mut model = taught(400, line, 0.1, CostModel::new(1e-4, 1e-5), &mut chance());
        model.learn(Size::of(10), Duration::from_secs(2));
        assert!(off_by(&model, line, Size::of(100)) < 0.15, "{}", model.predict(Size::of(100)));
    }
}
