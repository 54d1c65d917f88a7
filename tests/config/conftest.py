import pytest

from penstock.config.loader import load


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes penstock.yaml into an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="penstock.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def loading(written):
    """Loads a text as penstock.yaml, in an environment that is empty unless given, without looking for Ollama."""

    def run(text, environ=None, **options):
        written(text)
        return load(environ=environ or {}, probe=False, **options)

    return run
