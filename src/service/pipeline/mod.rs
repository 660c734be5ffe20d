//! The path that every verb shares: check items, embed their texts, score every head, apply the router.

mod apply_router;
mod embed;
mod items;
mod response_ids;
mod score_heads;
mod text_error;
mod tokenizer_budget;

pub use apply_router::{Routed, RoutingRequest};
pub use items::{Item, RouterInput};
pub use score_heads::{HeadScores, ItemScores, Unscored};
pub use text_error::{Part, Paths};
pub use tokenizer_budget::TokenizerBudget;
