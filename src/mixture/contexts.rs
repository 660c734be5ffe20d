//! From one user's ledgers of several contexts to weights in one of them, counting every event once.

use super::weights::{Routing, Weights, log_softmax, log_sum_exp};

/// Returns the mixture weights of a user in general, or in the context `asked`.
///
/// A hierarchical Bayes model. The user has a latent head `z ~ p`, `p = softmax(log_prior)`; in a context `c` the
/// head is `z` with probability `rho` (`transfer`), else drawn anew from `p`. With `L_c` the evidence of context `c`
/// and `L` the general one, each times eta, summing out the head of `c` leaves its message about `z`
///
/// ```text
/// m_c(k) = rho exp(L_c(k)) + (1 - rho) sum_j p_j exp(L_c(j))
/// nothing asked:  w(k) ~ p_k exp(L(k)) prod_c m_c(k)
/// c asked:        w(k) ~ (rho u(k) + (1 - rho) p_k) exp(L_c(k))     u(k) ~ p_k exp(L(k)) prod_{c' != c} m_c'(k)
/// ```
///
/// so that an event counts once, by its own ledger where its context is asked and by the message elsewhere.
/// `transfer` 1 pools all ledgers; 0 isolates the contexts from each other and from the general ledger. The floor is
/// mixed in last.
///
/// `log_prior`, `general` and the evidence of every context have length K, are in nats and finite; the prior need
/// not be normalized. `contexts` are (key, evidence) in any order, each key once; a context asked that is not among
/// them has no evidence of its own. `transfer` is in [0, 1].
#[must_use]
pub fn contextual(
    log_prior: &[f64],
    general: &[f64],
    contexts: &[(u64, Vec<f64>)],
    asked: Option<u64>,
    routing: Routing,
    transfer: f64,
) -> Weights {
    if contexts.is_empty() && asked.is_none() {
        return Weights::posterior(log_prior, general, routing);
    }
    let prior = log_softmax(log_prior);
    let (stays, moves) = (transfer.ln(), (1.0 - transfer).ln());
    let mut logits: Vec<f64> = prior.iter().zip(general).map(|(p, nats)| p + routing.eta * nats).collect();
    let mut own = vec![0.0; prior.len()];
    for (key, nats) in contexts {
        let scaled: Vec<f64> = nats.iter().map(|x| routing.eta * x).collect();
        if asked == Some(*key) {
            own = scaled;
            continue;
        }
        let anew: Vec<f64> = prior.iter().zip(&scaled).map(|(p, x)| p + x).collect();
        let anew = moves + log_sum_exp(&anew);
        for (logit, x) in logits.iter_mut().zip(&scaled) {
            *logit += log_sum_exp(&[stays + x, anew]);
        }
    }
    if asked.is_some() {
        let user = log_softmax(&logits);
        let here = user.iter().zip(&prior).map(|(u, p)| log_sum_exp(&[stays + u, moves + p]));
        logits = here.zip(&own).map(|(log_w, nats)| log_w + nats).collect();
    }
    Weights::floored(&logits, routing.floor)
}
