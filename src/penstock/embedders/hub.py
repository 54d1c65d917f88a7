"""Models by name, from the Hugging Face hub, through the library the tokenizers bring along."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from penstock.core.errors import ConfigError
from penstock.embedders.graph import COMPANIONS, GRAPHS, library


def download(model: str) -> Path:
    """Return the path of `model`'s graph, its tokenizer beside it. What is here once is not looked for again.

    The library decides where it is kept (``HF_HOME``), from where it comes (``HF_ENDPOINT``) and how one logs in
    (``HF_TOKEN``).

    Args:
        model: Its name there, e.g. ``sentence-transformers/all-MiniLM-L6-v2``.

    Raises:
        ConfigError: The library is missing, the model cannot be fetched, or it is published without an ONNX graph.
    """
    hub = library("huggingface_hub")
    for graph in GRAPHS:
        with suppress(Exception):  # not here, or not whole; the library raises its own errors and others'
            known = Path(hub.snapshot_download(model, allow_patterns=_files(graph), local_files_only=True))
            if (known / graph).is_file() and (known / COMPANIONS[0]).is_file():
                return known / graph
    try:
        there = hub.HfApi().list_repo_files(model)
        graph = next((name for name in GRAPHS if name in there), "")
        if not graph:
            raise ConfigError(f"{model} is published without an ONNX graph", expected=f"one of {', '.join(GRAPHS)}")
        hub.utils.disable_progress_bars()
        return Path(hub.snapshot_download(model, allow_patterns=_files(graph))) / graph
    except ConfigError:
        raise
    except Exception as error:  # the library raises its own errors and its HTTP library's
        why = next(iter(str(error).splitlines()), repr(error))
        raise ConfigError(
            f"the model {model} cannot be downloaded: {why}; where there is no way to the hub, copy its directory here "
            "and give its path"
        ) from error


def _files(graph: str) -> list[str]:
    return [graph, f"{graph}_data", f"{graph}.data", *COMPANIONS]
