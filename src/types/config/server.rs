//! `[server]`: the two listeners, and the bounds on requests and connections.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::section::{HOUR, Section};

/// The two listeners, and the bounds on requests and connections.
#[derive(Debug, Clone)]
pub struct Server {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub max_body_bytes: NonZeroUsize,
    /// Bytes of all bodies at once; at least `max_body_bytes`.
    pub max_buffered_bytes: NonZeroUsize,
    pub max_text_bytes: NonZeroUsize,
    pub max_concurrent_requests: NonZeroUsize,
    pub request_timeout: Duration,
    pub max_connections: NonZeroUsize,
    /// Time that a connection may be open without a request.
    pub idle_timeout: Duration,
    /// Time that a peer may take no byte of the data it is sent.
    pub write_timeout: Duration,
}

impl Server {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let max_body_bytes = section.count("max_body_bytes");
        Self {
            listen: section.address("listen"),
            admin_listen: section.address("admin_listen"),
            max_body_bytes,
            max_buffered_bytes: section.count_from("max_buffered_bytes", "max_body_bytes", max_body_bytes),
            max_text_bytes: section.count("max_text_bytes"),
            max_concurrent_requests: section.count("max_concurrent_requests"),
            request_timeout: section.duration_above_zero("request_timeout", HOUR),
            max_connections: section.count("max_connections"),
            idle_timeout: section.duration_above_zero("idle_timeout", 24 * HOUR),
            write_timeout: section.duration_above_zero("write_timeout", HOUR),
        }
    }
}
