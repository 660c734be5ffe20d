//! The identity of a bundle's heads.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// 16 hex digits over everything that a head's reward and its evidence depend on: all but the router and the shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeadsFingerprint(Arc<str>);

impl From<&str> for HeadsFingerprint {
    fn from(hex: &str) -> Self {
        Self(hex.into())
    }
}

impl fmt::Display for HeadsFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
