//! Stage 1: K reward heads and a router from plain binary preferences, on frozen embeddings. Stage 2: the router from
//! few pairs that name a criterion.
//!
//! The module owns preference data, the mixtures and their gradients, the optimizer, calibration, the report and
//! writing ONNX graphs. It deliberately knows no bundle and no tokenizer: its input is tokens and an encoder. The
//! law: the same data, options and seed give the same bytes, whatever the number of threads.

mod calibrate;
mod choose_k;
mod choose_questions;
mod data;
mod differences;
mod graphs;
mod learning_rate;
mod lexical;
mod merge;
mod mixture_loss;
mod narrow;
mod onnx;
mod optimizer;
mod prompt_mixture;
mod report;
mod router;
mod router_tuning;
mod scales;
mod stage1;
mod stage2;
mod user_mixture;
mod votes;

pub use calibrate::Calibration;
pub use choose_k::HeadCountTrial;
pub use choose_questions::{CandidateQuestion, choose_questions};
pub use data::{
    At, Block, COLUMNS, DataError, Dataset, EmbedError, EmbeddingCache, Examples, FeatureRow, Fields, Found,
    Interner, Layout, Pair, Preference, Rated, Response, Said, Sources, Split, Statement, Surfaces, Texts,
    read_statements,
};
pub use differences::RowsError;
pub use graphs::{heads_graph, read_router, router_graph};
pub use learning_rate::LearningRateTrial;
pub use lexical::learn_lexical;
pub use merge::correlation;
pub use onnx::{Graph as OnnxGraph, Operation};
pub use prompt_mixture::PromptOptions;
pub use report::{Report, RulerSlice, Slice, report};
pub use router::Router;
pub use stage1::{
    HeadCount, HeldOut, Learned, MixtureBy, Options, PerFile, Ruler, RulerLesson, learn, n_steps, single,
};
pub use stage2::{Labeled, LearningRule, mean_log_weights, pooled, tune};
