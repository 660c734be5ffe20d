"""A bundle's tokenizer, encoder and heads, from texts to raw rewards. Knows no router and no users."""
import os
import sys
import tomllib
from typing import NamedTuple

# The libraries read these when they load. Without them ONNX Runtime sends telemetry, and threads of tokenizers and
# numpy compete with the sessions for the same cores.
os.environ.update(ORT_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false", OPENBLAS_NUM_THREADS="1")

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402
import tokenizers  # noqa: E402

GRAPH_LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
FEATURES = {"response", "log_length"}


class Text(NamedTuple):
    """What the model reads of a text."""

    ids: list[int]
    n_chars: int


class Model:
    """A tokenizer, which threads may share, and one session of one thread, which they may not."""

    def __init__(self, bundle, graph_level):
        with open(bundle / "bundle.toml", "rb") as file:
            manifest = tomllib.load(file)
        encoder, reads = manifest["encoder"], manifest["input"]
        is_separate = reads["template"] == "separate" and FEATURES.issuperset(reads["features"])
        if encoder["pooling"] != "mean" or not is_separate:
            sys.exit(f"{bundle}: expected mean pooling, the template separate, and no features but {sorted(FEATURES)}")
        self.output, self.normalize = encoder["output"], encoder["normalize"]
        self.features, self.max_tokens = reads["features"], encoder["max_tokens"]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(bundle / encoder["tokenizer"]["file"]))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens, direction="left")
        self.tokenizer.encode_special_tokens = True
        self.range = reads.get("ranges", {}).get("log_length", [-np.inf, np.inf])
        # The tokenizers of such bundles are WordPiece.
        n_chars = {idx: len(piece.removeprefix("##")) for piece, idx in self.tokenizer.get_vocab().items()}
        n_chars |= {self.tokenizer.token_to_id(piece): n for piece, n in [("[CLS]", 0), ("[SEP]", 0), ("[UNK]", 1)]}
        self.n_chars = np.zeros(max(n_chars) + 1, np.int64)
        self.n_chars[list(n_chars)] = list(n_chars.values())
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = GRAPH_LEVELS[graph_level]

        def session(section):
            return ort.InferenceSession(bundle / section["file"], options, providers=["CPUExecutionProvider"])

        self.encoder, self.heads = session(encoder["graph"]), session(manifest["heads_graph"])
        self.encoder_inputs = [node.name for node in self.encoder.get_inputs()]
        self.heads_input = self.heads.get_inputs()[0].name

    def read(self, texts):
        """Tokens of each text; one that is too long keeps its end."""
        # `encode_batch_fast` releases the interpreter's lock while it works, `encode` does not.
        encodings = self.tokenizer.encode_batch_fast(texts)
        return [Text(encoding.ids, int(self.n_chars[encoding.ids].sum())) for encoding in encodings]

    def rewards(self, texts):
        """All heads' rewards of each text, from one padded batch of at least one."""
        n_tokens = np.array([[len(text.ids)] for text in texts])
        ids = np.zeros((len(texts), n_tokens.max()), np.int64)
        for row, text in zip(ids, texts):
            row[: len(text.ids)] = text.ids
        mask = (np.arange(ids.shape[1]) < n_tokens).astype(np.int64)
        tensors = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        [states] = self.encoder.run([self.output], {name: tensors[name] for name in self.encoder_inputs})
        embeddings = (mask[:, None].astype(np.float32) @ states)[:, 0] / n_tokens
        if self.normalize:
            norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
            embeddings /= np.maximum(norms, np.finfo(np.float32).tiny)
        log_lengths = np.clip(np.log1p([[text.n_chars] for text in texts]), *self.range)
        columns = {"response": embeddings, "log_length": log_lengths}
        rows = np.concatenate([columns[feature] for feature in self.features], axis=1, dtype=np.float32)
        return self.heads.run(None, {self.heads_input: rows})[0].tolist()

    def warm(self):
        """Runs one text of every length class: 1, 2, 4, ... words, until one fills `max_tokens`."""
        n_words = 1
        while n_words < 2 * self.max_tokens:
            self.rewards(self.read(["a " * n_words]))
            n_words *= 2
        return self
