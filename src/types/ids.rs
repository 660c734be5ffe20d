//! Identifiers that callers choose: short, printable, compared byte by byte.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const MAX_BYTES: usize = 256;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String, min_length = 1, max_length = 256)]
        pub struct $name(Box<str>);

        impl $name {
            /// Returns the id as the caller wrote it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                check(&text)?;
                Ok(Self(text.into()))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The id of a user. 1 to 256 bytes, no control characters.
    UserId
}
id! {
    /// The id of one feedback of a user, by which a retry is recognized. 1 to 256 bytes, no control characters.
    EventId
}

/// The reason why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty or has more than 256 bytes.
    #[error("found {0} bytes, expected 1 to {MAX_BYTES}")]
    Length(usize),
    /// A character that would garble a log.
    #[error("found the control character {0:?}, expected none")]
    Control(char),
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > MAX_BYTES {
        return Err(IdError::Length(text.len()));
    }
    text.chars().find(|c| c.is_control()).map_or(Ok(()), |c| Err(IdError::Control(c)))
}
