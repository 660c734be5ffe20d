//! Heads and routers as ONNX graphs, and routers back from them.

use ndarray::Array2;

use super::data::{Block, Layout};
use super::onnx::{Graph, Operation, constants};
use super::router::Router;

/// Heads `[D, K]` over the columns of `layout`, as a graph over [`Layout::inputs`]: products are made inside.
#[must_use]
pub fn heads_graph(layout: &Layout, heads: &Array2<f32>) -> Graph {
    let inputs = layout.inputs();
    if inputs == layout.blocks {
        return Graph::heads(heads);
    }
    let width = inputs.iter().map(|&block| layout.width(block)).sum();
    let mut graph = Graph::new("heads").float_input("features", &[None, Some(width)]).index("axis", 1);
    let mut start = 0;
    for &block in &inputs {
        let name = name(block);
        let end = start + layout.width(block);
        let (from, to) = (format!("{name}_start"), format!("{name}_end"));
        graph = graph.index(&from, start).index(&to, end).node(
            Operation::Slice,
            &["features", &from, &to, "axis"],
            name,
        );
        start = end;
    }
    if layout.blocks.iter().any(|block| matches!(block, Block::Product | Block::Similarity)) {
        graph = graph.node(Operation::Mul, &["prompt", "response"], "product");
    }
    if layout.blocks.contains(&Block::Similarity) {
        graph = graph.node(Operation::ReduceSum, &["product", "axis"], "similarity");
    }
    let names: Vec<&str> = layout.blocks.iter().map(|&block| name(block)).collect();
    graph
        .node(Operation::Concat, &names, "columns")
        .constant("heads", heads)
        .node(Operation::MatMul, &["columns", "heads"], "rewards")
        .float_output("rewards", &[None, Some(heads.ncols())])
}

/// A router as a graph over the embedding of what it reads.
#[must_use]
pub fn router_graph(router: &Router) -> Graph {
    Graph::router([&router.hidden, &router.hidden_bias], [&router.output, &router.output_bias])
}

/// The router of a graph that [`router_graph`] wrote; none for any other.
#[must_use]
pub fn read_router(onnx: &[u8]) -> Option<Router> {
    let mut constants = constants(onnx)?;
    let mut take = |name: &str| constants.remove(name);
    let router = Router {
        hidden: take("hidden")?,
        hidden_bias: take("hidden_bias")?,
        output: take("output")?,
        output_bias: take("output_bias")?,
    };
    let fits = router.hidden.ncols() == router.output.nrows()
        && router.hidden_bias.dim() == (1, router.hidden.ncols())
        && router.output_bias.dim() == (1, router.output.ncols());
    (fits && router_graph(&router).into_bytes() == onnx).then_some(router)
}

fn name(block: Block) -> &'static str {
    match block {
        Block::Response => "response",
        Block::Prompt => "prompt",
        Block::Product => "product",
        Block::Similarity => "similarity",
        Block::LogLength => "log_length",
        Block::Style => "style",
        Block::Lexical => "lexical",
    }
}
