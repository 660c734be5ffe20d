//! Writing small ONNX graphs: enough for heads, routers and the toy encoder.
//!
//! `build.rs` makes the messages from `onnx.proto`. Weights are stored as raw little-endian bytes and nothing depends
//! on time, so equal graphs are equal bytes.

use std::collections::HashMap;

use ndarray::Array2;
use prost::Message;

use pb::attribute_proto::AttributeType;
use pb::tensor_proto::DataType;
use pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
};

#[allow(clippy::allow_attributes_without_reason, reason = "generated")]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

/// The lowest versions that hold what is written here: every ONNX Runtime in use reads them.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 13;

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
        let int = |name: &str, i| AttributeProto {
            name: name.to_owned(),
            i,
            r#type: AttributeType::Int.into(),
            ..Default::default()
        };
        let ints = |name: &str, ints| AttributeProto {
            name: name.to_owned(),
            ints,
            r#type: AttributeType::Ints.into(),
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
        self.inner.input.push(value(name, DataType::Float, shape));
        self
    }

    /// Adds an int64 input; a size of none is free.
    #[must_use]
    pub fn int_input(mut self, name: &str, shape: &[Option<usize>]) -> Self {
        self.inner.input.push(value(name, DataType::Int64, shape));
        self
    }

    /// Adds a float output; a size of none is free.
    #[must_use]
    pub fn float_output(mut self, name: &str, shape: &[Option<usize>]) -> Self {
        self.inner.output.push(value(name, DataType::Float, shape));
        self
    }

    /// Adds a constant matrix.
    #[must_use]
    pub fn constant(mut self, name: &str, matrix: &Array2<f32>) -> Self {
        self.inner.initializer.push(TensorProto {
            dims: vec![matrix.nrows() as i64, matrix.ncols() as i64],
            data_type: DataType::Float.into(),
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
            data_type: DataType::Int64.into(),
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
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
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
        graph
            .initializer
            .into_iter()
            .filter(|tensor| tensor.data_type == DataType::Float as i32)
            .filter_map(matrix)
            .collect(),
    )
}

fn value(name: &str, elem_type: DataType, shape: &[Option<usize>]) -> ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension};
    use pb::{TensorShapeProto, TypeProto, type_proto};

    let dim = |(idx, size): (usize, &Option<usize>)| {
        let free = || dimension::Value::DimParam(format!("dim{idx}"));
        let value = size.map_or_else(free, |n| dimension::Value::DimValue(n as i64));
        Dimension { value: Some(value) }
    };
    let shape = Some(TensorShapeProto { dim: shape.iter().enumerate().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: elem_type.into(), shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { value }) }
}
