//! Teaches a router soft targets by cross-entropy, with fixed heads.

use ndarray::{Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::data::{EmbedError, Examples};
use super::optimizer::AdamW;
use super::router::Router;

/// One example to learn: a prompt, and the weights that the router should return for it.
#[derive(Debug, Clone)]
pub(super) struct Lesson {
    /// The prompt: a position in [`Examples::prompts`].
    pub prompt: usize,
    /// The weights: a point on the simplex, shape `[K]`.
    pub target: Vec<f64>,
}

/// Options for teaching a router.
#[derive(Debug, Clone, Copy)]
pub(super) struct Teaching {
    /// Steps of AdamW.
    pub steps: usize,
    /// Peak learning rate.
    pub rate: f64,
    /// Length of the noise on embeddings (of length 1), so that texts near a prompt are routed like it.
    pub noise: f64,
    /// Seed of random numbers; the same seed gives the same router.
    pub seed: u64,
}

/// Minimizes the mean cross-entropy of `router` against the lessons that `draw` returns for a step, at least one;
/// `draw` reads the router as it is at this step.
///
/// # Errors
/// When the embeddings can't be read.
pub(super) fn teach(
    router: &mut Router,
    examples: &Examples,
    teaching: Teaching,
    mut draw: impl FnMut(usize, &Router, &mut ChaCha8Rng) -> Result<Vec<Lesson>, EmbedError>,
) -> Result<(), EmbedError> {
    let mut rng = ChaCha8Rng::seed_from_u64(teaching.seed);
    let shapes: Vec<(usize, usize)> = router.arrays().iter().map(|array| array.dim()).collect();
    let mut optimizer = AdamW::new(&shapes, teaching.steps, teaching.rate, 0.01);
    for step in 0..teaching.steps {
        let lessons = draw(step, router, &mut rng)?;
        let mut prompts =
            examples.prompts(&lessons.iter().map(|lesson| lesson.prompt).collect::<Vec<_>>())?;
        if teaching.noise > 0.0 {
            blur(&mut prompts, teaching.noise, &mut rng);
        }
        let forward = router.forward(prompts.view());
        let mut d_logits = Array2::zeros(forward.log_weights.raw_dim());
        for (i, lesson) in lessons.iter().enumerate() {
            for (k, target) in lesson.target.iter().enumerate() {
                let d = forward.log_weights[[i, k]].exp() - target;
                d_logits[[i, k]] = (d / lessons.len() as f64) as f32;
            }
        }
        let mut gradient = router.backward(prompts.view(), &forward, &d_logits);
        optimizer.step(router.arrays(), gradient.arrays());
    }
    Ok(())
}

/// Adds noise of `noise` times its length (in the mean) to every row, and scales the row back to its length.
fn blur(rows: &mut Array2<f32>, noise: f64, rng: &mut ChaCha8Rng) {
    // A uniform draw from +-a has variance a^2 / 3.
    let width = (noise * (3.0 / rows.ncols() as f64).sqrt()) as f32;
    for mut row in rows.axis_iter_mut(Axis(0)) {
        let length = row.dot(&row).sqrt();
        row.mapv_inplace(|x| x + length * rng.random_range(-width..width));
        let blurred = row.dot(&row).sqrt().max(f32::MIN_POSITIVE);
        row.mapv_inplace(|x| x * length / blurred);
    }
}
