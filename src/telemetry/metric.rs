//! All metrics: their kinds, names, units and meanings.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

macro_rules! describe {
    (counter, $($rest:tt)*) => { describe_counter!($($rest)*) };
    (gauge, $($rest:tt)*) => { describe_gauge!($($rest)*) };
    (histogram, $($rest:tt)*) => { describe_histogram!($($rest)*) };
}

/// Defines a constant for each row, and one function that describes all of them to the recorder.
macro_rules! table {
    ($($kind:ident $name:ident = $text:literal $([$unit:ident])?, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: &str = $text;)*

        /// Describes every metric to the recorder of this process.
        pub fn describe() {
            $(describe!($kind, $name, $(Unit::$unit,)? $meaning);)*
        }
    };
}

table! {
    counter REQUESTS = "micro_reward_requests_total",
        "Requests answered, by protocol, route, and status or gRPC code";
    histogram REQUEST_SECONDS = "micro_reward_request_duration_seconds" [Seconds],
        "Request to response headers, by protocol and route";
    gauge INFLIGHT = "micro_reward_inflight_requests",
        "Requests being answered now";
    gauge CONNECTIONS = "micro_reward_connections",
        "Connections that are open now, on both ports";
    counter SHED = "micro_reward_requests_shed_total",
        "Requests refused for load, by reason";
    histogram STAGE_SECONDS = "micro_reward_stage_seconds" [Seconds],
        "Time per stage: look_up, tokenize and heads per request, route per request, population per sample of users, encode per batch, queue_and_encode per text";
    gauge QUEUE_DEPTH = "micro_reward_queue_texts",
        "Texts waiting for a model thread now";
    counter ABANDONED = "micro_reward_abandoned_texts_total",
        "Texts never encoded because their caller had gone";
    histogram BATCH_TEXTS = "micro_reward_batch_texts",
        "Texts per batch";
    histogram BATCH_TOKENS = "micro_reward_batch_tokens",
        "Tokens per batch, padding included";
    counter CACHE_LOOKUPS = "micro_reward_cache_lookups_total",
        "Different texts of requests looked up among those encoded before, by result: hit or miss";
    gauge CACHED_TEXTS = "micro_reward_cached_texts",
        "Texts whose embedding is kept now";
    gauge CACHE_BYTES = "micro_reward_cache_bytes" [Bytes],
        "About how much memory they hold";
    counter TRUNCATED = "micro_reward_truncated_texts_total",
        "Texts of which only the end was encoded";
    counter RESPONSES = "micro_reward_scored_responses_total",
        "Responses scored";
    counter FEEDBACK = "micro_reward_feedback_total",
        "Feedback events, by result";
    histogram FEEDBACK_LAG_SECONDS = "micro_reward_feedback_lag_seconds" [Seconds],
        "From an event's time to its ack";
    histogram EFFECTIVE_HEADS = "micro_reward_effective_heads",
        "Effective heads of the weights that scored an item";
    gauge USERS = "micro_reward_users",
        "Users with a ledger now";
    gauge RECEIPTS = "micro_reward_receipts",
        "Responses remembered by id now";
    gauge RECEIPT_BYTES = "micro_reward_receipt_bytes" [Bytes],
        "About how much memory they hold";
    gauge MODEL_INFO = "micro_reward_model_info",
        "1 for the bundle that is served, 0 for those that it has replaced";
    histogram STORE_SECONDS = "micro_reward_store_seconds" [Seconds],
        "Time per operation of the store: commit of the journal, checkpoint, get and swap of the shared store";
    gauge JOURNAL_BYTES = "micro_reward_journal_bytes" [Bytes],
        "Bytes of the journal's segments at the last checkpoint";
    gauge RESIDENT_ROWS = "micro_reward_resident_rows",
        "Rows in memory at the last checkpoint";
    counter STORE_UNAVAILABLE = "micro_reward_store_unavailable_total",
        "Times that the store could not be read or written for a request";
    counter UNREADABLE_ROWS = "micro_reward_unreadable_rows_total",
        "Times that a user's row was found damaged; the log says whose";
    gauge STORE_UP = "micro_reward_store_up",
        "1 while the shared store can be reached, 0 while it can't";
    counter STORE_CONFLICTS = "micro_reward_store_conflicts_total",
        "Swaps that found another row than was known here, and were made anew on it";
    counter STALE_READS = "micro_reward_stale_reads_total",
        "Rows that were older than promised, or missing, because the store could not be reached";
    gauge OUTBOX_EVENTS = "micro_reward_outbox_events",
        "Changes that wait in the outbox for the shared store";
    counter OUTBOX_REFUSED = "micro_reward_outbox_refused_total",
        "Changes that had waited in the outbox and can't be made any more, by reason: late, conflict, or unreadable_row, which are in `state.data_dir`/dead_letters";
}
