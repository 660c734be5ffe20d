//! The process: how it starts, listens, is operated, and stops.
//!
//! - [`app`](App): start and stop. [`assembly`]: the parts of a process. [`signals`]: to stop and to reload.
//! - `connections`, `socket`, `pace`: sockets, and the time that a peer may take. `layers`: the layers of every route.
//! - `admin`, `health`, `recorder`, `reload`: the admin port and the state behind it.

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
