"""Sentence vectors from an ONNX graph and its tokenizer. Needs the extra ``semantic``.

The vector is what sentence-transformers computes: the states of the tokens, averaged (or the first one's, where the
model's ``1_Pooling/config.json`` says so), at length 1. Each text is run by itself. Dynamically quantised graphs scale
activations by the largest in the batch, so that a text's vector would depend on its company; and on one thread a batch
is no faster.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy
    import numpy.typing as npt
    from tokenizers import Tokenizer

GRAPHS = tuple(
    folder + name
    for name in ("model_quantized.onnx", "model_int8.onnx", "model.onnx", "model_optimized.onnx")
    for folder in ("", "onnx/")
)
"""What a graph may be called in a model's directory, the fastest first."""
COMPANIONS = (
    "tokenizer.json",
    "config.json",
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
"""What lies beside it; only the first is necessary."""

_LIMITS = (
    ("sentence_bert_config.json", "max_seq_length"),
    ("tokenizer_config.json", "model_max_length"),
    ("config.json", "max_position_embeddings"),
)
_INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
_NUMBERS = {"tensor(int64)": "int64", "tensor(int32)": "int32"}
_SENTENCE, _TOKENS = 2, 3
_INSTALL = "pip install 'penstock[semantic]'"


class Graph:
    """A loaded model.

    Attributes:
        name: The model's name, and a digest of what its vectors depend on.
        dimensions: Numbers in a vector.
    """

    def __init__(self, place: Path, label: str = "", *, threads: int = 1, max_tokens: int = 256) -> None:
        """Load the model and embed one text.

        Args:
            place: The model's directory, or the graph itself inside of it.
            label: What it is called; by default as the directory.
            threads: Processors it may keep busy.
            max_tokens: Of longer texts the rest is not read; never more than the model's files allow.

        Raises:
            ConfigError: A library or a file is missing, or the graph does not turn texts into vectors.
        """
        self._numpy = library("numpy")
        path = find(place)
        home = next((each for each in (path.parent, path.parent.parent) if (each / COMPANIONS[0]).is_file()), None)
        if home is None:
            raise ConfigError(f"{path.parent} has no {COMPANIONS[0]}; it belongs to the model and is published with it")
        limit = min(max_tokens, *_limits(home))
        self._first = _pooling(home) == "cls"
        self._tokenizer = _tokenizer(home / COMPANIONS[0], limit)
        self._session = _session(path, threads)
        self._types = self._inputs(path)
        self._output = self._choose_output(path)
        made_of = [*sorted(path.parent.glob(f"{path.name}*")), home / COMPANIONS[0]]
        digest = sha256(f"{limit} {self._first} ".encode() + b"".join(map(_digest, made_of))).hexdigest()
        self.name = f"onnx:{label or home.resolve().name}:{digest[:16]}"
        self.dimensions = len(self._try(path)) // 4

    def embed(self, text: str) -> bytes:
        """Return the vector of `text`: float32, little-endian, of length 1; empty for nothing but space."""
        if not text.strip():
            return b""
        np = self._numpy
        # Half of a surrogate pair is no text; the tokenizer takes none.
        encoding = self._tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8"))
        feed = {name: np.array([getattr(encoding, _INPUTS[name])], dtype) for name, dtype in self._types.items()}
        states: npt.NDArray[numpy.float32] = self._session.run([self._output], feed)[0]
        vector = states[0]
        if vector.ndim > 1:
            vector = vector[0] if self._first else vector.mean(axis=0)
        length = float(np.sqrt(np.dot(vector, vector)))
        return bytes((vector / length).astype("<f4").tobytes()) if length else b""

    def _inputs(self, path: Path) -> dict[str, str]:
        types = {each.name: _NUMBERS.get(each.type) for each in self._session.get_inputs()}
        unknown = [name for name, dtype in types.items() if name not in _INPUTS or dtype is None]
        if unknown or "input_ids" not in types:
            raise ConfigError(
                f"{path} is not a graph for sentence vectors: its inputs are {', '.join(types) or 'none'}",
                expected=f"integers called {', '.join(_INPUTS)}, of which the first is necessary",
            )
        return {name: dtype for name, dtype in types.items() if dtype is not None}

    def _choose_output(self, path: Path) -> str:
        ranks: dict[str, int] = {each.name: len(each.shape) for each in self._session.get_outputs()}
        for name in ("sentence_embedding", "last_hidden_state", "token_embeddings", *ranks):
            if ranks.get(name) in (_SENTENCE, _TOKENS):
                return name
        raise ConfigError(
            f"{path} is not a graph for sentence vectors: its outputs are {', '.join(ranks) or 'none'}",
            expected="an output of shape (batch, numbers) or (batch, tokens, numbers)",
        )

    def _try(self, path: Path) -> bytes:
        try:
            vector = self.embed("a test")
        except Exception as error:  # the library's errors have no base but this
            raise ConfigError(f"{path} fails on a first text: {error}") from error
        if not vector or not self._numpy.isfinite(self._numpy.frombuffer(vector, "<f4")).all():
            raise ConfigError(f"{path} gives no usable vector for a first text")
        return vector


def library(name: str) -> Any:  # noqa: ANN401 - an optional library
    """Import what the extra brings.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"an embedder of kind onnx needs another package: {_INSTALL}") from error


def find(place: Path) -> Path:
    """Return the graph in a model's directory, or `place` if it is one.

    Raises:
        ConfigError: There is none.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise ConfigError(f"{place} does not exist", expected="a directory with a model's ONNX graph")
    found = next((place / name for name in GRAPHS if (place / name).is_file()), None)
    if found is None:
        raise ConfigError(
            f"{place} has no ONNX graph; models are published with one, or are exported with the program optimum-cli",
            expected=f"one of {', '.join(GRAPHS)}",
        )
    return found


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return file_digest(file, "sha256").digest()


def _read(path: Path) -> Mapping[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _limits(home: Path) -> Sequence[int]:
    found = [_read(home / file).get(key) for file, key in _LIMITS]
    return [value for value in found if isinstance(value, int) and value > 0] or [512]


def _pooling(home: Path) -> str:
    """Return ``mean`` or ``cls``."""
    says = _read(home / COMPANIONS[-1])
    modes = [key.removeprefix("pooling_mode_") for key, on in says.items() if key.startswith("pooling_mode_") and on]
    mode = {"mean_tokens": "mean", "cls_token": "cls"}.get(modes[0]) if len(modes) == 1 else None
    if modes and mode is None:
        raise ConfigError(f"{home / COMPANIONS[-1]} asks for pooling {' + '.join(modes)}", expected="mean or cls")
    return mode or "mean"


def _tokenizer(path: Path, limit: int) -> Tokenizer:
    try:
        tokenizer: Tokenizer = library("tokenizers").Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.enable_truncation(limit)
    except ConfigError:
        raise
    except Exception as error:  # the library's errors have no base but this
        raise ConfigError(f"{path} cannot be used: {error}") from error
    return tokenizer


def _session(path: Path, threads: int) -> Any:  # noqa: ANN401 - a library without types
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait for work would burn a processor between requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            # Adding and normalising in one is a fifth of the whole time slower than one after the other.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:  # the library's errors have no base but this
        raise ConfigError(f"{path} cannot be loaded as an ONNX graph: {error}") from error
