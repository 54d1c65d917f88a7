import json
import sys

import numpy
import pytest
from tests.embedders.conftest import write_graph, write_tokenizer

from penstock.core.errors import ConfigError
from penstock.embedders.graph import Graph


def vector(data):
    return numpy.frombuffer(data, "<f4")


def cosine(graph, one, other):
    return float(vector(graph.embed(one)) @ vector(graph.embed(other)))


def test_minilm_knows_what_means_the_same(minilm):
    graph = Graph(minilm)
    assert graph.dimensions == 384
    # The model's card gives 0.7612, 0.8939, 0.0363 and 0.2838 for these, computed in full precision.
    assert cosine(graph, "How old are you?", "What is your age?") == pytest.approx(0.76, abs=0.05)
    assert cosine(graph, "The new movie is awesome", "The new movie is so great") == pytest.approx(0.89, abs=0.05)
    assert cosine(graph, "The cat sits outside", "A man is playing guitar") == pytest.approx(0.04, abs=0.05)
    assert cosine(graph, "The cat sits outside", "The dog plays in the garden") == pytest.approx(0.28, abs=0.08)


def test_eight_bits_are_nearly_as_good_as_thirty_two(minilm):
    small, full = Graph(minilm), Graph(minilm / "model_fp32.onnx")
    assert small.name != full.name
    for text in ("How do I reset my password?", "Is it safe to eat raw eggs when pregnant?", "e = mc²", "北京在哪里"):
        assert float(vector(small.embed(text)) @ vector(full.embed(text))) > 0.98


def test_minilm_does_not_read_on_after_its_limit(minilm):
    graph = Graph(minilm, max_tokens=8)
    assert graph.embed("one two three four five six seven") == graph.embed("one two three four five six " + "x " * 999)
    assert Graph(minilm, max_tokens=100_000).embed("x " * 9999) == Graph(minilm).embed("x " * 9999)


def test_states_of_tokens_are_averaged_unless_the_model_says_the_first(tiny):
    mean = Graph(tiny)
    (tiny / "1_Pooling").mkdir()
    pooling = tiny / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"word_embedding_dimension": 8, "pooling_mode_cls_token": True}))
    first = Graph(tiny)
    assert first.name != mean.name
    assert first.embed("reset my password") == first.embed("reset")
    assert cosine(mean, "reset my password", "password my reset") == pytest.approx(1.0)
    assert cosine(mean, "reset my password", "reset") < 0.999
    pooling.write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(ConfigError, match=r"asks for pooling max_tokens.*expected mean or cls"):
        Graph(tiny)


def test_a_graph_may_pool_by_itself_and_take_what_inputs_it_likes(tiny):
    mean = Graph(tiny)
    write_graph(
        tiny / "model.onnx", inputs=("input_ids", "attention_mask", "token_type_ids"), output="whole", pooled=True
    )
    pooled = Graph(tiny)
    assert pooled.dimensions == mean.dimensions == 8
    there, here = (vector(graph.embed("how do i reset my password")) for graph in (pooled, mean))
    assert there == pytest.approx(here, abs=1e-6)


def test_the_smallest_graph_of_a_directory_is_taken(tiny):
    whole = Graph(tiny)
    write_graph(tiny / "onnx" / "model_quantized.onnx", width=4)
    assert Graph(tiny).dimensions == 4
    assert Graph(tiny / "model.onnx").name == whole.name


def test_the_name_tells_models_apart(tiny):
    name = Graph(tiny).name
    assert name.startswith("onnx:tiny:")
    assert Graph(tiny).name == name
    assert Graph(tiny, "acme/tiny").name.startswith("onnx:acme/tiny:")
    assert Graph(tiny, max_tokens=5).name != name
    write_graph(tiny / "model.onnx", output="other")
    assert Graph(tiny).name != name


def test_the_model_says_how_much_it_reads(tiny):
    (tiny / "sentence_bert_config.json").write_text('{"max_seq_length": 2}')
    (tiny / "config.json").write_text('{"max_position_embeddings": 514}')
    graph = Graph(tiny)
    assert graph.embed("reset my password") == graph.embed("reset my")


@pytest.mark.parametrize("text", ["", " \t\n"])
def test_nothing_has_an_empty_vector(tiny, text):
    assert Graph(tiny).embed(text) == b""


def test_what_is_missing_is_named(tmp_path, tiny):
    with pytest.raises(ConfigError, match=r"nowhere does not exist"):
        Graph(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"has no ONNX graph.*optimum-cli.*model_quantized\.onnx"):
        Graph(tmp_path / "empty")
    (tiny / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json"):
        Graph(tiny)


def test_what_cannot_be_used_is_named(tiny):
    write_graph(tiny / "model.onnx", inputs=("pixels",))
    with pytest.raises(ConfigError, match=r"its inputs are pixels \(expected integers called input_ids"):
        Graph(tiny)
    (tiny / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ConfigError, match=r"model\.onnx cannot be loaded as an ONNX graph"):
        Graph(tiny)
    write_graph(tiny / "model.onnx")
    (tiny / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        Graph(tiny)
    (tiny / "config.json").unlink()
    (tiny / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizer\.json cannot be used"):
        Graph(tiny)


def test_a_tokenizer_of_another_model_is_found_out(tiny):
    tokenizer = json.loads((tiny / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["test"] = 9999
    (tiny / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match=r"model\.onnx fails on a first text"):
        Graph(tiny)


@pytest.mark.parametrize("name", ["numpy", "onnxruntime", "tokenizers"])
def test_without_the_extra_it_says_how_to_get_it(tiny, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'penstock\[semantic\]'"):
        Graph(tiny)


def test_a_tokenizer_beside_the_folder_of_graphs_is_found(tmp_path):
    write_graph(tmp_path / "onnx" / "model.onnx")
    write_tokenizer(tmp_path)
    assert Graph(tmp_path).dimensions == Graph(tmp_path / "onnx" / "model.onnx").dimensions == 8
