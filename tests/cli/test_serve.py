import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from penstock.cli.serve import answers, example_model
from penstock.config.loader import load_mapping

SIMULATED = """\
providers: [{name: sim, kind: simulated}]
models: [{name: fast, targets: [{provider: sim, model: small}, {provider: sim, model: large}]}]
store: {url: "memory:"}
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def run(*arguments, config=SIMULATED, **environment):
        if config is not None:
            (tmp_path / "penstock.yaml").write_text(config)
        kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**kept, **environment},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def test_the_banner_has_the_address_the_models_and_a_line_to_try(start):
    process = start()
    lines = [process.stdout.readline() for _ in range(7)]
    assert lines[0].startswith("Penstock answers on http://127.0.0.1:")
    url = lines[0].split()[-1]
    assert lines[1].split() == ["model", "fast", "sim/small", "(simulated),", "then", "sim/large", "(simulated)"]
    assert f"  export OPENAI_BASE_URL={url}/v1\n" in lines
    command = "".join(lines[5:])
    assert command.strip().startswith(f"curl {url}/v1/chat/completions")
    done = subprocess.run(["bash", "-c", f"{command.strip()} --silent"], capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]
    process.send_signal(signal.SIGINT)
    _, notes = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "'simulated' makes its answers up" in notes


def test_json_is_one_line_for_programs(start):
    process = start("--json", "--log-level", "error")
    banner = json.loads(process.stdout.readline())
    assert banner["models"] == {"fast": "sim/small (simulated), then sim/large (simulated)"}
    with urllib.request.urlopen(f"{banner['url']}/health/live", timeout=10) as reply:
        assert json.load(reply)["status"] == "live"
    process.terminate()
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


def test_arguments_win_over_the_environment_and_that_over_the_file(start):
    process = start("--json", "--host", "127.0.0.2", config=SIMULATED + "server: {host: 127.0.0.3}\n",
                    PENSTOCK_SERVER__HOST="127.0.0.4", PENSTOCK_SERVER__PORT="1")  # fmt: skip
    assert json.loads(process.stdout.readline())["url"].startswith("http://127.0.0.2:")


def test_who_answers_and_what_to_try():
    def loaded(models):
        return load_mapping({"providers": [{"name": "sim", "kind": "simulated"}], "models": models}, environ={})

    star = loaded([{"name": "*", "targets": [{"provider": "sim", "model": "small"}]}])
    assert answers(star) == {"*": "sim/small (simulated)"}
    assert example_model(star) == "sim/small"
    assert example_model(loaded([{"name": "gpt-*", "targets": [{"provider": "sim"}]}])) == "gpt-4o-mini"
