#!/usr/bin/env python3
"""Makes the int8 encoder of models/default from the fp32 one in models/fp32: the same bytes on every machine.

usage: quantize.py OUT      gets encoder.onnx, tokenizer.json and a bundle.toml that `micro-reward fit --encoder` reads

Weights of products and rows of embeddings become int8 with a scale for each column or row. What a product is fed is
quantized as it comes, each token with a scale of its own. A scale for the whole batch, as onnxruntime's quantize_dynamic
takes it, would let texts in one batch change one another's embeddings by a tenth; here they change nothing.
"""

import hashlib
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FP32 = Path(__file__).resolve().parents[1] / "fp32"
CONTRIB = "com.microsoft"
PINS = {
    "encoder.onnx": "2f019cf6217537cc4bfc7f5192f21dea1e18445177edaab0bc6163a813e5c7a1",
    "model.onnx_data": "60c758432aa596c30a122942dfe594c457d4d713f890926f1c5f920bd496c8de",
    "tokenizer.json": "07805d116826679de90b4edeb2222269c4b8753bc0981be4399f732b2708e904",
}


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def largest_columns(weights):
    """Of every column, what its scale has to bring to 127.

    x86 without VNNI adds two adjacent products in 16 bits and cuts off what does not fit. A product has at most 255 from
    its activation, so two weights of one sign may add up to 128, rounding included.
    """
    largest = np.abs(weights).max(axis=0)
    for part in (np.maximum(weights, 0), np.maximum(-weights, 0)):
        largest = np.maximum(largest, (part[1:] + part[:-1]).max(axis=0))
    return largest


def to_int8(weights, largest):
    scales = (largest / np.float32(127)).astype(np.float32)
    scales[scales == 0] = 1
    return np.rint(weights / scales).astype(np.int8), scales


class Graph:
    """A graph that is written anew, node by node."""

    def __init__(self, graph):
        self.old = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {output: node for node in graph.node for output in node.output}
        self.used = set()
        self.tensors = []
        self.nodes = []

    def weights(self, name):
        return numpy_helper.to_array(self.old[name])

    def tensor(self, name, values):
        if name not in self.used:
            self.used.add(name)
            self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def keep(self, node):
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        kept.doc_string = ""
        del kept.metadata_props[:]
        self.nodes.append(kept)
        return kept

    def rows(self, x):
        """Activations as uint8 around 128, and the scale of every row."""
        quantized, scale = f"{x}/int8", f"{x}/int8_scale"
        if quantized not in self.used:
            self.used.add(quantized)
            size = self.node("Abs", [x], f"{x}/int8_abs")
            axis = self.tensor("int8/axis", np.array([-1], np.int64))
            largest = self.node("ReduceMax", [size, axis], f"{x}/int8_max", keepdims=1)
            step = self.tensor("int8/step", np.float32(1) / np.float32(127))
            # A row of zeros must not divide by zero.
            least = self.tensor("int8/least", np.array(1e-20, np.float32))
            self.node("Max", [self.node("Mul", [largest, step], f"{x}/int8_step"), least], scale)
            self.node("QuantizeLinear", [x, scale, self.zeros()], quantized, axis=2, block_size=self.width(x))
        return quantized, scale

    def width(self, x):
        """How long a row is: as long as a column of the weights that it meets."""
        meets = (node.input[1] for node in self.makers.values() if node.op_type == "MatMul" and node.input[0] == x)
        return self.old[next(meets)].dims[0]

    def zero(self):
        # Unsigned activations and signed weights are what CPUs have instructions for.
        return self.tensor("int8/zero", np.array(128, np.uint8))

    def zeros(self):
        """One zero for each row, which is what QuantizeLinear wants beside a scale for each."""
        zeros = "int8/zeros"
        if zeros not in self.used:
            self.used.add(zeros)
            single = self.tensor("int8/single", np.array([1], np.int64))
            shape = self.node("Concat", [self.node("Shape", ["input_ids"], "int8/shape"), single], "int8/shape_of_rows", axis=0)
            self.node("Expand", [self.zero(), shape], zeros)
        return zeros

    def product(self, node):
        (x, name), (output,) = node.input, node.output
        weights = self.weights(name)
        quantized, scales = to_int8(weights, largest_columns(weights))
        row, row_scale = self.rows(x)
        column, column_scale = self.tensor(f"{name}/int8", quantized), self.tensor(f"{name}/int8_scale", scales)
        one = self.tensor("int8/one", np.array(1, np.float32))
        inputs = [row, column, one, column_scale, self.zero()]
        real = self.node("MatMulIntegerToFloat", inputs, f"{output}/int8_column", domain=CONTRIB)
        self.node("Mul", [real, row_scale], output)

    def bias(self, name):
        """What a tensor is the sum of: a product and the bias that is added to it."""
        return tuple(self.makers[name].input)

    def attention(self, node):
        """Adds its biases itself, in one go."""
        products, biases = zip(*(self.bias(name) for name in node.input[:3]))
        bias = self.tensor(f"{node.name}/bias", np.concatenate([self.weights(name) for name in biases]))
        self.keep(node).input[:4] = [*products, bias]

    def gelu(self, node):
        self.node("BiasGelu", self.bias(node.input[0]), node.output[0], domain=CONTRIB)

    def lookup(self, node):
        (name, idx), (output,) = node.input, node.output
        weights = self.weights(name)
        quantized, scales = to_int8(weights, np.abs(weights).max(axis=1, keepdims=True))
        row = self.node("Gather", [self.tensor(f"{name}/int8", quantized), idx], f"{output}/int8")
        scale = self.node("Gather", [self.tensor(f"{name}/int8_scale", scales), idx], f"{output}/int8_scale")
        real = self.node("Cast", [row], f"{output}/int8_real", to=TensorProto.FLOAT)
        self.node("Mul", [real, scale], output)

    def finish(self, outputs):
        """Drops nodes that nobody reads any more, and takes over the tensors that the others read."""
        read, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if read.intersection(node.output):
                read.update(node.input)
                nodes.append(node)
        self.nodes = nodes[::-1]
        for name in sorted(read.intersection(self.old)):
            self.tensor(name, self.weights(name))


def is_matrix(tensor):
    return tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2


def quantize(model):
    new = Graph(model.graph)
    for node in model.graph.node:
        if node.op_type == "MatMul" and is_matrix(new.old.get(node.input[1])):
            new.product(node)
        elif node.op_type == "Gather" and is_matrix(new.old.get(node.input[0])):
            new.lookup(node)
        elif node.op_type == "MultiHeadAttention":
            new.attention(node)
        elif node.op_type == "Gelu":
            new.gelu(node)
        else:
            new.keep(node)
    new.finish([output.name for output in model.graph.output])
    # Without the shapes that the old graph records inside, ONNX Runtime fuses nothing that rounds otherwise: every optimization
    # level gives the same embeddings.
    graph = helper.make_graph(new.nodes, "encoder", model.graph.input, model.graph.output, new.tensors)
    # No producer and no version of one: the bytes depend on the weights alone.
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    return helper.make_model(graph, ir_version=model.ir_version, opset_imports=opsets, producer_name="")


def bundle(graph, tokenizer):
    with open(FP32 / "bundle.toml", "rb") as file:
        fp32 = tomllib.load(file)
    encoder, input_ = fp32["encoder"], fp32["input"]
    features = ", ".join(f'"{feature}"' for feature in input_["features"])
    return f"""[encoder]
output = "{encoder["output"]}"
pooling = "{encoder["pooling"]}"
normalize = {str(encoder["normalize"]).lower()}
max_tokens = {encoder["max_tokens"]}

[encoder.graph]
file = "encoder.onnx"
sha256 = "{graph}"

[encoder.tokenizer]
file = "tokenizer.json"
sha256 = "{tokenizer}"

[input]
template = "{input_["template"]}"
features = [{features}]
"""


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: quantize.py OUT")
    out = Path(sys.argv[1])
    for name, pin in PINS.items():
        found = sha256(FP32 / name)
        if found != pin:
            sys.exit(f"quantize: error: models/fp32/{name} has sha256 {found}, expected {pin} (`make bundle-fp32` fetches it)")
    out.mkdir(parents=True, exist_ok=True)
    model = quantize(onnx.load(FP32 / "encoder.onnx"))
    (out / "encoder.onnx").write_bytes(model.SerializeToString(deterministic=True))
    shutil.copyfile(FP32 / "tokenizer.json", out / "tokenizer.json")
    graph, tokenizer = sha256(out / "encoder.onnx"), sha256(out / "tokenizer.json")
    (out / "bundle.toml").write_text(bundle(graph, tokenizer))
    print(f"{graph}  {out / 'encoder.onnx'}")


main()
