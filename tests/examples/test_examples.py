"""Every example runs, and says what it promises."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(tmp_path):
    def run(name: str, *arguments: str, url: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-W", "error", EXAMPLES / name, *arguments],
            capture_output=True,
            text=True,
            timeout=50,
            cwd=tmp_path,
            env={**os.environ, "OPENAI_BASE_URL": f"{url}/v1"},
        )

    return run


def test_every_example_is_tested_and_listed():
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    assert programs == set(re.findall(r"\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text()))
    assert programs <= set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))


def test_gateway_quickstart(run, gateway):
    done = run("gateway_quickstart.py", url=gateway.url)
    assert done.returncode == 0, done.stderr
    answer, miss, again, hit = done.stdout.splitlines()
    assert answer == again
    assert "fwd=miss" in miss
    assert "; hit" in hit
    assert hit.endswith("cost in USD: 0")


def test_library_quickstart(run):
    done = run("library_quickstart.py")
    assert done.returncode == 0, done.stderr
    answer, miss, again, hit = done.stdout.splitlines()
    assert answer == again
    assert miss.strip() == "from the cache: False | upstream calls: 1"
    assert hit.strip() == "from the cache: True | upstream calls: 0"


def test_failover(run):
    done = run("failover.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert ["dead (upstream_connect) -> steady (ok)" in line for line in lines] == [True] * 3 + [False] * 3
    assert all("steady (ok): " in line for line in lines)


def test_fastchat_twice_prints_a_table(run, gateway):
    done = run("fastchat_twice.py", url=gateway.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 questions, asked twice" in done.stdout
    first, second = (re.findall(r"[^│]+", line) for line in done.stdout.splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in first[:3]] == ["1", "12/12", "0 %"]
    assert [cell.strip() for cell in second[:5]] == ["2", "12/12", "100 %", "12/12", "0"]


def test_fastchat_twice_reads_a_file(run, gateway, tmp_path):
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps({"turns": [f"Question {number}?", "And then?"]}) + "\n" for number in range(40)))
    done = run("fastchat_twice.py", "--data", str(data), "--json", url=gateway.url)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["asked"], said["identical"], said["passed"]) == (40, 40, True)
    assert [(each["answered"], each["hits"]) for each in said["passes"]] == [(40, 0), (40, 40)]


def test_fastchat_twice_notices_that_nothing_is_cached(run, make_gateway):
    uncached = """\
providers: [{{name: sim, kind: simulated, latency: {{first_token_s: 0, tokens_per_s: 0}}}}]
models: [{{name: "*", targets: [{{provider: sim, model: sim}}]}}]
cache: {{exact: {{enabled: false}}}}
store: {{url: "memory:"}}
"""
    done = run("fastchat_twice.py", "--json", url=make_gateway(uncached).url)
    assert done.returncode == 1
    assert json.loads(done.stdout)["passes"][1]["hits"] == 0


def test_fastchat_twice_without_a_gateway_says_so(run):
    done = run("fastchat_twice.py")
    assert done.returncode == 1
    assert "APIConnectionError from http://127.0.0.1:9/v1/" in done.stderr


def test_fastchat_twice_cannot_read_its_file(run, tmp_path):
    done = run("fastchat_twice.py", "--data", str(tmp_path / "none.jsonl"))
    assert done.returncode == 2
    assert "none.jsonl" in done.stderr
