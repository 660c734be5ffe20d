//! Wire formats: bytes of a caller to a call of a verb, and its answer back. Nothing else.
//!
//! - [`shared`]: what every protocol does the same way.
//! - [`http`], [`grpc`]: the native API in either protocol; they do not know each other.

pub mod grpc;
pub mod http;
pub mod shared;
