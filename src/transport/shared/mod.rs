//! What every protocol does the same way.

pub mod guarded;
mod problem;

pub use problem::Problem;
