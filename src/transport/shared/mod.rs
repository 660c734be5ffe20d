//! The parts that every protocol uses in the same way.

pub mod guarded;
mod problem;
pub mod streams;

pub use problem::Problem;
