//! Writing small ONNX graphs: enough for heads, routers and the toy encoder.
//!
//! The messages are the part of `onnx.proto` that is used, with its field numbers. Weights are stored as raw
//! little-endian bytes and nothing depends on time, so equal graphs are equal bytes.

use std::collections::HashMap;

use ndarray::Array2;
use prost::Message;

/// The lowest versions that hold what is written here: every ONNX Runtime in use reads them.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 13;

const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Kinds of attributes.
const INT: i32 = 2;
const INTS: i32 = 7;

/// A graph under construction.
#[derive(Debug, Default)]
pub struct Graph {
    inner: GraphProto,
}

/// The operators that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Matrix product.
    MatMul,
    /// Elementwise sum.
    Add,
    /// `max(x, 0)`.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// Rows of a table by index.
    Gather,
    /// The maximum over the second axis.
    ReduceMax,
    /// The sum over the axes of the second input, which stay.
    ReduceSum,
    /// Elementwise product.
    Mul,
    /// Matrices side by side.
    Concat,
    /// Columns `[starts, ends)` of the axis `axes`.
    Slice,
}

impl Operation {
    fn attributes(self) -> Vec<AttributeProto> {
        let int =
            |name: &str, i| AttributeProto { name: name.to_owned(), i, r#type: INT, ..Default::default() };
        let ints = |name: &str, ints| AttributeProto {
            name: name.to_owned(),
            ints,
            r#type: INTS,
            ..Default::default()
        };
        match self {
            Self::ReduceMax => vec![ints("axes", vec![1]), int("keepdims", 0)],
            Self::Concat => vec![int("axis", 1)],
            Self::MatMul
            | Self::Add
            | Self::Relu
            | Self::Tanh
            | Self::Gather
            | Self::Mul
            | Self::ReduceSum
            | Self::Slice => Vec::new(),
        }
    }
}

impl Graph {
    /// A graph of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { inner: GraphProto { name: name.to_owned(), ..GraphProto::default() } }
    }

    /// Heads: `features [B, D] -> rewards [B, K]`, linear without bias.
    #[must_use]
    pub fn heads(weights: &Array2<f32>) -> Self {
        Self::new("heads")
            .float_input("features", &[None, Some(weights.nrows())])
            .constant("heads", weights)
            .node(Operation::MatMul, &["features", "heads"], "rewards")
            .float_output("rewards", &[None, Some(weights.ncols())])
    }

    /// A router: `prompt [B, H] -> logits [B, K]`, one hidden layer.
    #[must_use]
    pub fn router(hidden: [&Array2<f32>; 2], output: [&Array2<f32>; 2]) -> Self {
        Self::new("router")
            .float_input("prompt", &[None, Some(hidden[0].nrows())])
            .constant("hidden", hidden[0])
            .constant("hidden_bias", hidden[1])
            .constant("output", output[0])
            .constant("output_bias", output[1])
            .node(Operation::MatMul, &["prompt", "hidden"], "projected")
            .node(Operation::Add, &["projected", "hidden_bias"], "shifted")
            .node(Operation::Relu, &["shifted"], "active")
            .node(Operation::MatMul, &["active", "output"], "mixed")
            .node(Operation::Add, &["mixed", "output_bias"], "logits")
            .float_output("logits", &[None, Some(output[0].ncols())])
    }

    /// Adds a float input; a size of none is free.
    #[must_use]
    pub fn float_input(mut self, name: &str, shape: &[Option<usize>]) -> Self {
        self.inner.input.push(value(name, FLOAT, shape));
        self
    }

    /// Adds an int64 input; a size of none is free.
    #[must_use]
    pub fn int_input(mut self, name: &str, shape: &[Option<usize>]) -> Self {
        self.inner.input.push(value(name, INT64, shape));
        self
    }

    /// Adds a float output; a size of none is free.
    #[must_use]
    pub fn float_output(mut self, name: &str, shape: &[Option<usize>]) -> Self {
        self.inner.output.push(value(name, FLOAT, shape));
        self
    }

    /// Adds a constant matrix.
    #[must_use]
    pub fn constant(mut self, name: &str, matrix: &Array2<f32>) -> Self {
        self.inner.initializer.push(TensorProto {
            dims: vec![matrix.nrows() as i64, matrix.ncols() as i64],
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data: matrix.iter().flat_map(|x| x.to_le_bytes()).collect(),
        });
        self
    }

    /// Adds a constant whole number, as a vector of one.
    #[must_use]
    pub fn index(mut self, name: &str, index: usize) -> Self {
        self.inner.initializer.push(TensorProto {
            dims: vec![1],
            data_type: INT64,
            name: name.to_owned(),
            raw_data: (index as i64).to_le_bytes().to_vec(),
        });
        self
    }

    /// Adds an operator with one output.
    #[must_use]
    pub fn node(mut self, operation: Operation, inputs: &[&str], output: &str) -> Self {
        self.inner.node.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: format!("{operation:?}"),
            attribute: operation.attributes(),
        });
        self
    }

    /// The bytes of an `.onnx` file.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "micro-reward".to_owned(),
            graph: Some(self.inner),
            opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        };
        model.encode_to_vec()
    }
}

/// The constant matrices of an `.onnx` file that this module wrote, by name; none where it is no such file.
#[must_use]
pub fn constants(bytes: &[u8]) -> Option<HashMap<String, Array2<f32>>> {
    let graph = ModelProto::decode(bytes).ok()?.graph?;
    let matrix = |tensor: TensorProto| {
        let &[n_rows, n_columns] = &tensor.dims[..] else { return None };
        let numbers = tensor
            .raw_data
            .chunks_exact(4)
            .filter_map(|four| Some(f32::from_le_bytes(four.try_into().ok()?)));
        let shape = (usize::try_from(n_rows).ok()?, usize::try_from(n_columns).ok()?);
        Some((tensor.name, Array2::from_shape_vec(shape, numbers.collect()).ok()?))
    };
    Some(
        graph.initializer.into_iter().filter(|tensor| tensor.data_type == FLOAT).filter_map(matrix).collect(),
    )
}

fn value(name: &str, elem_type: i32, shape: &[Option<usize>]) -> ValueInfo {
    let dim = |(idx, size): (usize, &Option<usize>)| Dimension {
        dim_value: size.map(|n| n as i64),
        dim_param: size.is_none().then(|| format!("dim{idx}")),
    };
    let shape = Some(Shape { dim: shape.iter().enumerate().map(dim).collect() });
    ValueInfo {
        name: name.to_owned(),
        r#type: Some(Type { tensor_type: Some(TensorType { elem_type, shape }) }),
    }
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

/// A oneof in `onnx.proto`: at most one of the two is set.
#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}
