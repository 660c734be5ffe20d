//! AdamW with warm-up and a cosine schedule (Loshchilov and Hutter, 2019).

use ndarray::{Array2, Zip};

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// The optimizer's state for a fixed list of arrays.
#[derive(Debug)]
pub(super) struct AdamW {
    moments: Vec<(Array2<f32>, Array2<f32>)>,
    step: usize,
    n_steps: usize,
    rate: f64,
    weight_decay: f32,
}

impl AdamW {
    /// Prepares `n_steps` steps with the peak learning rate `rate`.
    pub(super) fn new(shapes: &[(usize, usize)], n_steps: usize, rate: f64, weight_decay: f32) -> Self {
        let moments = shapes.iter().map(|&shape| (Array2::zeros(shape), Array2::zeros(shape))).collect();
        Self { moments, step: 0, n_steps, rate, weight_decay }
    }

    /// Moves every array one step against its gradient.
    pub(super) fn step<'a>(
        &mut self,
        arrays: impl IntoIterator<Item = &'a mut Array2<f32>>,
        gradients: impl IntoIterator<Item = &'a mut Array2<f32>>,
    ) {
        let rate = self.scheduled_rate();
        self.step += 1;
        let (correct_1, correct_2) =
            (1.0 - BETA_1.powi(self.step as i32), 1.0 - BETA_2.powi(self.step as i32));
        for ((array, gradient), (first, second)) in arrays.into_iter().zip(gradients).zip(&mut self.moments) {
            Zip::from(array).and(gradient).and(first).and(second).for_each(|x, &mut g, m, v| {
                *m = BETA_1 * *m + (1.0 - BETA_1) * g;
                *v = BETA_2 * *v + (1.0 - BETA_2) * g * g;
                let direction = (*m / correct_1) / ((*v / correct_2).sqrt() + EPSILON);
                *x -= rate * (direction + self.weight_decay * *x);
            });
        }
    }

    /// Returns the rate of the next step: linear warm-up over 5 % of the steps, times a half cosine to 0.
    fn scheduled_rate(&self) -> f32 {
        let done = self.step as f64 / self.n_steps as f64;
        let warm_up = ((self.step + 1) as f64 / (0.05 * self.n_steps as f64).max(1.0)).min(1.0);
        (self.rate * warm_up * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())) as f32
    }
}
