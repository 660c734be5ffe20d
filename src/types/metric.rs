//! The name of every metric, so that no two places spell one differently. `metrics.rs` says what each means.

pub const REQUESTS: &str = "micro_reward_requests_total";
pub const REQUEST_SECONDS: &str = "micro_reward_request_seconds";
pub const INFLIGHT: &str = "micro_reward_inflight_requests";
pub const SHED: &str = "micro_reward_shed_total";
pub const STAGE_SECONDS: &str = "micro_reward_stage_seconds";
pub const QUEUE_DEPTH: &str = "micro_reward_queue_texts";
pub const ABANDONED: &str = "micro_reward_abandoned_texts_total";
pub const BATCH_TEXTS: &str = "micro_reward_batch_texts";
pub const BATCH_TOKENS: &str = "micro_reward_batch_tokens";
pub const TRUNCATED: &str = "micro_reward_truncated_texts_total";
pub const RESPONSES: &str = "micro_reward_scored_responses_total";
pub const FEEDBACK: &str = "micro_reward_feedback_total";
pub const FEEDBACK_LAG_SECONDS: &str = "micro_reward_feedback_lag_seconds";
pub const EFFECTIVE_HEADS: &str = "micro_reward_effective_heads";
pub const USERS: &str = "micro_reward_users";
pub const RECEIPTS: &str = "micro_reward_receipts";
pub const RECEIPT_BYTES: &str = "micro_reward_receipt_bytes";
pub const MODEL_INFO: &str = "micro_reward_model_info";
pub const STORE_SECONDS: &str = "micro_reward_store_seconds";
pub const JOURNAL_BYTES: &str = "micro_reward_journal_bytes";
pub const RESIDENT_ROWS: &str = "micro_reward_resident_rows";
pub const STORE_UNAVAILABLE: &str = "micro_reward_store_unavailable_total";
pub const STORE_UP: &str = "micro_reward_store_up";
pub const STORE_CONFLICTS: &str = "micro_reward_store_conflicts_total";
pub const STALE_READS: &str = "micro_reward_stale_reads_total";
pub const OUTBOX_EVENTS: &str = "micro_reward_outbox_events";
