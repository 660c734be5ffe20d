//! The process: how it starts, listens, is looked after, and stops.
//!
//! - [`app`](App): start and stop. [`assembly`]: what a process is put together from. [`signals`]: when to stop.
//! - `connections`, `socket`, `pace`: sockets and how long a peer may take. `layers`: what is around every route.
//! - `admin`, `health`, `recorder`, `reload`: the port of operators and what is behind it.

pub mod assembly;
pub mod signals;

mod admin;
mod app;
mod connections;
mod health;
mod layers;
mod pace;
mod recorder;
mod reload;
mod socket;

pub use app::{App, StartError};
