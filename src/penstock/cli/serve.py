"""penstock serve: run the gateway."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import click

from penstock.config.kinds import KINDS
from penstock.config.loader import Loaded, load
from penstock.config.models import ModelSettings
from penstock.telemetry import logs

EXAMPLE = """curl {url}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Why is the sky blue?"}}]}}'"""


@click.command()
@click.option("--config", "path", type=click.Path(), help="YAML file; by default penstock.yaml, else the environment.")
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (default 4141); 0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that answer (default 1; more on Linux only).")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least important messages to log.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the address, and log, as JSON lines.")
def serve(
    path: str | None, host: str | None, port: int | None, workers: int | None, log_level: str, as_json: bool
) -> None:
    """Run the gateway until it is told to stop.

    SIGHUP reloads the configuration, SIGTERM lets running requests end and stops. Exit codes: 0 stopped, 2 the
    configuration or the address cannot be used, 1 the start failed otherwise. With several workers the signals are for
    the process that is started here, which looks after them and starts those again that end.
    """
    given = {"server.host": host, "server.port": port, "server.workers": workers}
    loaded = load(path, arguments={name: value for name, value in given.items() if value is not None})
    logs.configure(as_json=as_json, level=log_level)
    ready = _announce_json if as_json else _announce
    if loaded.settings.server.workers > 1:
        from penstock.server.supervisor import supervise  # noqa: PLC0415 one process has no use for it

        supervise(loaded, as_json=as_json, level=log_level, ready=ready)
    else:
        from penstock.server.serving import serve as run  # noqa: PLC0415 a supervisor has no use for it

        run(loaded, ready=ready)


def _announce(loaded: Loaded, url: str) -> None:
    workers = loaded.settings.server.workers
    print(f"Penstock answers on {url}" + (f" with {workers} workers" if workers > 1 else ""))
    for name, answering in answers(loaded).items():
        print(f"  model {name:<20} {answering}")
    for warning in loaded.warnings:
        print(f"  note: {warning}", file=sys.stderr)
    if any(provider.kind == "simulated" for provider in loaded.settings.providers):
        print("  note: provider kind 'simulated' makes its answers up; no language model is asked", file=sys.stderr)
    print(f"Point any OpenAI client at it:\n  export OPENAI_BASE_URL={url}/v1\nTry it, twice:")
    print("  " + EXAMPLE.format(url=url, model=example_model(loaded)), flush=True)


def _announce_json(loaded: Loaded, url: str) -> None:
    workers = loaded.settings.server.workers
    several = {"workers": workers} if workers > 1 else {}
    print(json.dumps({"url": url, "models": answers(loaded), "warnings": loaded.warnings, **several}), flush=True)


def answers(loaded: Loaded) -> dict[str, str]:
    """Return for each model name who answers it."""
    kinds = {provider.name: KINDS[provider.kind].dialect for provider in loaded.settings.providers}
    return {model.name: ", then ".join(_answering(model, kinds)) for model in loaded.settings.models}


def _answering(model: ModelSettings, kinds: Mapping[str, str]) -> list[str]:
    if model.cascade is not None:
        return [stage.name for stage in model.cascade.stages]
    return [
        f"{target.provider}/{target.model}" + (" (simulated)" if kinds[target.provider] == "simulated" else "")
        for target in model.targets
    ]


def example_model(loaded: Loaded) -> str:
    """Return a model name that works, for the line to try."""
    for model in loaded.settings.models:
        if "*" not in model.name:
            return model.name
    for model in loaded.settings.models:
        for target in model.targets[:1]:
            if target.model != "*":
                return f"{target.provider}/{target.model}"
    return "gpt-4o-mini"
