"""penstock experiments, on a store that a client has used."""

import asyncio
import json
import time
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.client import AsyncClient
from penstock.testing import FakeClock

CONFIG = """\
providers: [{{name: sim, kind: simulated, latency: {{first_token_s: 0, tokens_per_s: 0}}}}]
models:
  - {{name: small, targets: [{{provider: sim, model: small}}]}}
  - {{name: large, targets: [{{provider: sim, model: large}}]}}
store: {{url: "sqlite:///{folder}/penstock.db"}}
timeout_s: 30
experiments:
  - name: size
    arms: [{{name: small}}, {{name: large, set: {{model: large}}}}]
    primary: {{metric: score.helpful, bounds: [0, 1]}}
    metrics: [{{metric: cost_usd}}]
    guards: [{{metric: error, worse_by: 0.02}}]
    window_s: 1
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "penstock.yaml"
    file.write_text(CONFIG.format(folder=tmp_path))
    return file


@pytest.fixture
def used(path):
    """A store in which the large model was liked better."""

    async def use():
        clock = FakeClock(wall=time.time() - 3600)
        async with AsyncClient(str(path), clock=clock) as client:
            for number in range(160):
                answer = await client.chat(f"question {number}", model="small", unit=f"user {number}")
                liked = answer.call.arms["size"] == "large" or number % 8 == 0
                await client.score(answer.id, "helpful", liked)
                clock.advance(0.05)

    asyncio.run(use())
    return path


@pytest.fixture
def run(logging_kept):
    def run(*arguments):
        return CliRunner().invoke(main, ["experiments", *map(str, arguments)])

    return run


def test_before_any_server_has_run(run, path):
    listed = run("list", "--config", path)
    assert (listed.exit_code, "waiting" in listed.output) == (0, True)
    reported = run("report", "size", "--config", path)
    assert (reported.exit_code, "has not begun" in reported.output) == (1, True)


def test_a_report_and_its_plot(run, used, tmp_path):
    plot = tmp_path / "size.svg"
    found = run("report", "size", "--config", used, "--plot", plot)
    assert found.exit_code == 0, found.output
    assert "160 units of 160 calls" in found.output
    assert "large is better on score.helpful than small" in found.output
    assert [line.split()[-1] for line in found.output.splitlines() if " large " in line][1:] == [
        "better",
        "open",
        "open",
    ]
    drawn = ElementTree.parse(plot).getroot()
    assert drawn.find(".//{http://www.w3.org/2000/svg}polygon") is not None
    as_json = json.loads(run("report", "size", "--config", used, "--json").output)
    assert as_json["decision"]["winner"] == "large"
    assert [measured["role"] for measured in as_json["measured"]] == ["primary", "guard", ""]


def test_stopping_showing_and_starting(run, used):
    stopped = run("stop", "size", "--winner", "large", "--why", "seen enough", "--config", used, "--json")
    assert json.loads(stopped.output)["winner"] == "large"
    shown = run("show", "size", "--config", used)
    assert "seen enough" in shown.output
    again = run("stop", "size", "--config", used)
    assert (again.exit_code, "does not run" in again.output) == (1, True)
    assert json.loads(run("start", "size", "--config", used, "--json").output)["status"] == "running"
    assert json.loads(run("report", "size", "--config", used, "--json").output)["units"] == 0


def test_what_is_not_there(run, used):
    assert run("show", "colour", "--config", used).exit_code == 1
    wrong = run("stop", "size", "--winner", "huge", "--config", used)
    assert (wrong.exit_code, "has no arm 'huge'" in wrong.output) == (1, True)


def test_a_plot_that_cannot_be_written(run, used, tmp_path):
    assert run("report", "size", "--config", used, "--plot", tmp_path / "no" / "size.svg").exit_code == 1


def test_a_store_that_keeps_nothing(run, tmp_path):
    file = tmp_path / "penstock.yaml"
    file.write_text('store: {url: "memory:"}\nproviders: [{name: sim, kind: simulated}]\n')
    assert run("list", "--config", file).exit_code == 2
