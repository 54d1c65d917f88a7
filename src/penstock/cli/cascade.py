"""penstock cascade: what cascades have learnt and saved, and teaching them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TextIO, TypeVar

import click

from penstock.cascading.cascades import Cascades
from penstock.cascading.known import Known
from penstock.cascading.reports import describe
from penstock.cascading.training import read_samples, train
from penstock.cli.output import config_option, emit, json_option
from penstock.config.loader import load
from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidRequest
from penstock.core.tasks import TaskGroup
from penstock.embedders.lexical import LexicalEmbedder
from penstock.making import cascades_of, identities, rules
from penstock.matching.labels.chain import BY_EXACT, BY_RULE, ByVector, Chain
from penstock.pipeline import open_states
from penstock.routing.table import RouteTable

T = TypeVar("T")
COLUMNS = ("model", "requests", "by last model", "saved usd", "audits", "certified")


@click.group()
def cascade() -> None:
    """Show what cascades have learnt and saved, and teach them.

    What they learnt is read from the configured store, where a running server keeps it every minute; it shows its live
    figures at GET /admin/cascades. Exit codes: 0 done, 1 there is no such cascade or a file cannot be used, 2 the
    configuration or an argument cannot be used.
    """


@cascade.command("list")
@config_option
@json_option
def list_(config: str | None, as_json: bool) -> None:
    """List cascades, with the share of requests their last model answered."""

    async def work(cascades: Cascades) -> list[dict[str, Any]]:
        return [describe(name, known) for name, known in cascades.known.items()]

    found = _with_cascades(config, work)
    if as_json:
        emit(found, as_json)
    elif found:
        emit([_row(each) for each in found], as_json, COLUMNS)
    else:
        click.echo("No model is a cascade.")


@cascade.command()
@click.argument("model")
@config_option
@json_option
def status(model: str, config: str | None, as_json: bool) -> None:
    """Show what MODEL promises, on what grounds, and what became of requests."""

    async def work(cascades: Cascades) -> dict[str, Any]:
        return describe(model, _known(cascades, model))

    found = _with_cascades(config, work)
    if as_json:
        emit(found, as_json)
        return
    stages = found.pop("stages")
    emit({name: value for name, value in found.items() if name != "object"}, as_json)
    for stage in stages:
        certificate = stage.get("certificate")
        click.echo(f"{stage['name']} ({stage['kind']}): {stage['answered']} answers", nl=certificate is None)
        if certificate is not None:
            click.echo(f"; {certificate['reason']}")


@cascade.command("train")
@click.argument("model")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@config_option
@json_option
def train_(model: str, file: TextIO, config: str | None, as_json: bool) -> None:
    """Teach MODEL from FILE (- for standard input), and certify anew.

    Each line of FILE is a JSON object: `prompt` or `messages`, an earlier model's `answer`, and either `right` (true or
    false) or the last model's answer as `reference`; with several earlier models also `stage`. They must be drawn at
    random from requests like those to come: the certificate rests on that. A running server takes it up within a minute
    in which it is asked something.
    """
    try:
        text = file.read()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file.name} is not UTF-8 text", code="invalid_value") from None

    async def work(cascades: Cascades) -> dict[str, Any]:
        known = _known(cascades, model)
        if not known.learners:
            raise InvalidRequest(f"'{model}' has one model and no other to teach", code="invalid_value")
        samples = read_samples(text, list(known.learners), file.name)
        right = await train(known, samples, Chain([BY_EXACT, BY_RULE, ByVector(LexicalEmbedder())]))
        await cascades.save()
        shown = describe(model, known)
        certificates = [each["certificate"] for each in shown["stages"] if "certificate" in each]
        return {"model": model, "samples": len(samples), "right": right, "certificates": certificates}

    found = _with_cascades(config, work)
    if as_json:
        emit(found, as_json)
        return
    click.echo(f"{found['samples']} samples, {found['right']} as good as the last model's answer")
    for certificate in found["certificates"]:
        click.echo(certificate["reason"])


def _row(found: dict[str, Any]) -> dict[str, object]:
    certificates = [each["certificate"] for each in found["stages"] if "certificate" in each]
    holding = sum(each["holds"] for each in certificates)
    share = found["last_share"]
    return {
        "model": found["model"],
        "requests": found["requests"],
        "by last model": None if share is None else f"{share:.0%}",
        "saved usd": found["saved_usd"],
        "audits": found["audits"],
        "certified": f"{holding} of {len(certificates)}",
    }


def _known(cascades: Cascades, model: str) -> Known:
    known = cascades.known.get(model)
    if known is None:
        listed = ", ".join(cascades.known) or "none"
        raise InvalidRequest(f"'{model}' is no cascade; those there are: {listed}", code="model_not_found")
    return known


def _with_cascades(config: str | None, work: Callable[[Cascades], Awaitable[T]]) -> T:
    """Run `work` on what the configured store has of the configured cascades.

    Raises:
        ConfigError: The configuration cannot be used, or its store keeps nothing.
        PenstockError: As `work` does.
    """
    settings = load(config, probe=False).settings

    async def run() -> T:
        clock, tasks = SystemClock(), TaskGroup()
        async with open_states(settings.store.url, clock) as states:
            cascades = Cascades(states, clock, tasks)
            try:
                routes = RouteTable(rules(settings), identities(settings.providers))
                await cascades.configure(cascades_of(settings, routes))
                return await work(cascades)
            finally:
                await tasks.aclose()

    return asyncio.run(run())
