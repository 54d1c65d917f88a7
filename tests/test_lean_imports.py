"""What importing Penstock and serving its defaults must not load: it would cost every program and process."""

import subprocess
import sys
import textwrap

import pytest

NAMES_ALONE = frozenset({
    "alembic", "click", "genai_prices", "httptools", "httpx2", "jinja2", "numpy", "onnxruntime", "prometheus_client",
    "pydantic", "rich", "sqlalchemy", "sqlite3", "starlette", "tokenizers", "usearch", "uvicorn", "uvloop", "yaml",
})  # fmt: skip
"""Heavy for a program that has only named what it will use."""
SERVED = frozenset({
    "alembic", "attr", "genai_prices", "httpx2", "jinja2", "mako", "numpy", "onnxruntime", "pygments", "requests",
    "rich", "smtplib", "sqlalchemy.dialects.postgresql", "sqlalchemy.orm", "tokenizers", "usearch",
})  # fmt: skip
"""Of no use to a gateway on its defaults without a provider, the first start with a new database included."""

SERVE = """
    import json, sys, threading, urllib.request
    from penstock.config.loader import load
    from penstock.server.serving import serve

    def ready(loaded, url):
        threading.Thread(target=ask, args=(url,)).start()

    def ask(url):
        body = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}
        request = urllib.request.Request(
            url + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        for asked in (url + "/health/ready", request, request):
            urllib.request.urlopen(asked).read()
        print(*sys.modules, flush=True)
        import os, signal
        os.kill(os.getpid(), signal.SIGTERM)

    serve(load(arguments={"server.port": 0}, environ={}, probe=False), ready=ready)
"""


def loaded(program, folder):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import penstock", "from penstock import AsyncClient", "from penstock import Client"]
)
def test_the_names_of_the_library_load_nothing_heavy(statement, tmp_path):
    names = loaded(f"import sys; {statement}; print(*sys.modules)", tmp_path)
    assert "penstock" in names
    assert not names & NAMES_ALONE


def test_a_gateway_on_its_defaults_loads_nothing_it_does_not_use(tmp_path):
    for _ in range(2):
        names = loaded(SERVE, tmp_path)
        assert "penstock.stores.sql.ledger" in names
        assert not names & SERVED
