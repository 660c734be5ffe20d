//! Wire formats: turns a caller's bytes into a call of a verb, and the answer into bytes. Nothing else.
//!
//! - [`shared`]: the parts that every protocol uses in the same way.
//! - [`http`], [`grpc`]: the native API in either protocol; neither depends on the other.

pub mod grpc;
pub mod http;
pub mod shared;
