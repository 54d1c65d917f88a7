"""Models: a real one, built once a machine, and tiny ones of two or three nodes."""

import os
from pathlib import Path

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

MINILM = Path(__file__).parents[2] / ".peers" / "minilm" / "model"
WORDS = ["reset", "my", "password", "how", "do", "i", "forgot", "what", "is", "capital", "france", "lost", "a", "test"]


@pytest.fixture(scope="session")
def minilm():
    """Return the directory of all-MiniLM-L6-v2, in int8 and in full."""
    if not (MINILM / "model.onnx").exists():
        missing = "the model is not in .peers/minilm: `make test` or `python -m benchmarks.minilm` puts it there"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return MINILM


def write_tokenizer(folder):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, **{word: n for n, word in enumerate(WORDS, 1)}}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def write_graph(path, *, inputs=("input_ids",), output="last_hidden_state", pooled=False, width=8):
    """Each token's state is its row of a table; with `pooled`, the sum over the tokens is the output."""
    table = numpy.random.default_rng(7).normal(size=(len(WORDS) + 1, width)).astype(numpy.float32)
    nodes = [helper.make_node("Gather", ["table", inputs[0]], ["states" if pooled else output])]
    constants = [numpy_helper.from_array(table, "table")]
    if pooled:
        constants.append(numpy_helper.from_array(numpy.array([1], numpy.int64), "axis"))
        nodes.append(helper.make_node("ReduceSum", ["states", "axis"], [output], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in inputs],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *([] if pooled else ["tokens"]), width])],
        constants,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))


@pytest.fixture
def tiny(tmp_path):
    """Return the directory of a model that knows fourteen words."""
    folder = tmp_path / "tiny"
    write_graph(folder / "model.onnx")
    write_tokenizer(folder)
    return folder
