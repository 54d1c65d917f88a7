"""penstock cache: look into the caches of a running gateway, explain, clear, fill and carry them."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar

import click

from penstock.cli.cache_rows import entry_row, model_row, neighbour_row
from penstock.cli.output import emit, json_option
from penstock.cli.running import Running, running_options
from penstock.core.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])
_AT_ONCE, _BYTES_AT_ONCE = 500, 4 * 1024 * 1024
"""Lines, and about so many bytes of them, that are sent in one request."""


def _tenant(command: F) -> F:
    return click.option("--tenant", metavar="NAME", help="Whose; by default the key's own, or all that it may see.")(
        command
    )


def _model(command: F) -> F:
    return click.option("--model", metavar="NAME", help="Only of this model, by the name clients use.")(command)


@click.group()
def cache() -> None:
    """Look into the caches of a running gateway, explain, clear, fill and carry them.

    Exit codes: 0 done, 1 there is no such gateway, it refuses, or a line failed, 2 an argument cannot be used.
    """


@cache.command()
@_tenant
@running_options
@json_option
def stats(gateway: Running, tenant: str | None, as_json: bool) -> None:
    """Count what is cached, and say what is promised of answers given by meaning, and why."""
    found = gateway.get("/admin/cache/stats", tenant=tenant)
    if as_json:
        emit(found, as_json)
        return
    totals = {"answers": found["answers"], "bytes in memory": found["memory_bytes"], "questions": found["questions"]}
    emit(totals, as_json)
    for name in ("exact", "semantic"):
        if found[name]:
            click.echo(f"{name}: " + ", ".join(f"{count} {what}" for what, count in found[name].items()))
    if found["models"]:
        click.echo()
        emit([model_row(row) for row in found["models"]], as_json)


@cache.command()
@_tenant
@_model
@click.option("--tag", metavar="TAG", help="Only of requests with this tag.")
@click.option("--contains", metavar="TEXT", help="Only with a question that has this text in it.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help="How many, newest first.")
@running_options
@json_option
def inspect(
    gateway: Running,
    tenant: str | None,
    model: str | None,
    tag: str | None,
    contains: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List cached answers, newest first, with the questions they answer by meaning; never their text."""
    found = gateway.get("/admin/cache/entries", tenant=tenant, model=model, tag=tag, contains=contains, limit=limit)[
        "data"
    ]
    if as_json:
        emit(found, as_json)
    elif found:
        emit([entry_row(entry) for entry in found], as_json)
    else:
        click.echo("There are none.")


@cache.command()
@click.argument("question", required=False)
@click.option("--model", metavar="NAME", help="The model that would be asked.")
@click.option("--body", type=click.File("rb"), metavar="FILE", help="A whole request as JSON, instead of a question.")
@_tenant
@running_options
@json_option
def explain(
    gateway: Running, question: str | None, model: str | None, body: IO[bytes] | None, tenant: str | None, as_json: bool
) -> None:
    """Say what the caches would do with QUESTION, and why; nothing is given, counted or learnt."""
    if (question is None) == (body is None):
        raise ConfigError("expected either QUESTION or --body")
    if question is not None and model is None:
        raise ConfigError("expected --model with QUESTION: answers are cached for each model")
    asked = _object(body) if body is not None else {"question": question}
    if model is not None:
        asked["model"] = model
    said = gateway.post("/admin/cache/explain", asked, tenant=tenant)
    if as_json:
        emit(said, as_json)
        return
    click.echo(f"exact cache: {said['exact']}")
    click.echo(f"by meaning ({said['mode']}): {'answered' if said['serves'] else 'not answered'}; {said['reason']}")
    if said["nearest"]:
        click.echo()
        emit([neighbour_row(near) for near in said["nearest"]], as_json)


@cache.command()
@_tenant
@_model
@click.option("--tag", metavar="TAG", help="Only of requests with this tag; of a prompt, prompt:NAME@VERSION.")
@click.option("--learnt", is_flag=True, help="Forget what was learnt of matching by meaning, too.")
@click.option("--all", "everything", is_flag=True, help="All that the key may clear.")
@running_options
@json_option
def clear(
    gateway: Running,
    tenant: str | None,
    model: str | None,
    tag: str | None,
    learnt: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Drop cached answers, and the questions they answer."""
    if everything == any((tenant, model, tag)):
        raise ConfigError("expected --tenant, --model or --tag, or else --all")
    body = {"tenant": tenant, "model": model, "tag": tag, "learnt": learnt}
    emit(_counts(gateway.post("/admin/cache/clear", body), as_json), as_json)


@cache.command()
@running_options
@json_option
def cleanup(gateway: Running, as_json: bool) -> None:
    """Drop answers that are too old for anybody, and questions without an answer."""
    emit(_counts(gateway.post("/admin/cache/cleanup"), as_json), as_json)


@cache.command()
@running_options
@json_option
def optimize(gateway: Running, as_json: bool) -> None:
    """Build the indexes of questions anew, and put the store in order."""
    emit(_counts(gateway.post("/admin/cache/optimize"), as_json), as_json)


@cache.command()
@click.argument("file", type=click.File("rb"))
@_tenant
@click.option(
    "--concurrency", default=4, show_default=True, type=click.IntRange(1, 64), help="Questions asked at once."
)
@running_options
@json_option
def warm(gateway: Running, file: IO[bytes], tenant: str | None, concurrency: int, as_json: bool) -> None:
    """Take in the questions in FILE (- is stdin), with their answers or to be asked.

    Each line is a JSON object: the body of a chat request, or `question` and `model`. With `answer`, a text or a chat
    completion, that is cached and nobody is asked; without, the model is asked, on the tenant's account. `tags` and
    `cache` are as in requests. Exit code 1 if a line failed; the others are taken in.
    """
    counts: Counter[str] = Counter()
    for numbers, lines in _pieces(file):
        for line in gateway.lines("/admin/cache/warm", b"".join(lines), tenant=tenant, concurrency=concurrency):
            said = json.loads(line)
            if "outcome" not in said:
                continue
            counts[said["outcome"]] += 1
            if said["outcome"] == "failed":
                click.echo(f"line {numbers[said['line'] - 1]}: {said['message']} ({said['code']})", err=True)
            elif sys.stderr.isatty():
                click.echo(f"\r{counts.total()} ", nl=False, err=True)
    emit({name: counts[name] for name in ("asked", "known", "seeded", "failed")}, as_json)
    if counts["failed"]:
        raise SystemExit(1)


@cache.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_tenant
@running_options
@json_option
def export(gateway: Running, file: str, tenant: str | None, as_json: bool) -> None:
    """Write one tenant's answers and questions to FILE (- is stdout), for `penstock cache import`."""
    if file == "-" and as_json:
        raise ConfigError("--json prints what was written to FILE; with - the cache itself is on stdout, as JSON")
    lines = gateway.lines("/admin/cache/export", tenant=tenant)
    if file == "-":
        for line in lines:
            click.echo(line, nl=False)
        return
    part = f"{file}.part"
    try:
        with open(part, "wb") as output:
            count = sum(1 for line in lines if output.write(line))
        os.replace(part, file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    emit({"answers": count - 1}, as_json)


@cache.command("import")
@click.argument("file", type=click.File("rb"))
@_tenant
@running_options
@json_option
def import_(gateway: Running, file: IO[bytes], tenant: str | None, as_json: bool) -> None:
    """Take in FILE (- is stdin), which `penstock cache export` wrote, for the same tenant and models.

    Vectors are made anew. Import only what you trust: the file decides what is answered.
    """
    head = file.readline()
    counts: Counter[str] = Counter()
    for _, lines in _pieces(file, empty=True):
        counts.update(_without_object(gateway.post("/admin/cache/import", head + b"".join(lines), tenant=tenant)))
    emit({name: counts[name] for name in ("answers", "questions", "skipped")}, as_json)


@cache.command()
@click.argument("request_id")
@click.argument("verdict", type=click.Choice(["right", "wrong"]))
@_tenant
@running_options
@json_option
def label(gateway: Running, request_id: str, verdict: str, tenant: str | None, as_json: bool) -> None:
    """Say whether the answer that REQUEST_ID (its `x-request-id`) got by meaning was right or wrong."""
    body = {"request_id": request_id, "right": verdict == "right", "tenant": tenant}
    emit(_without_object(gateway.post("/admin/cache/labels", body)), as_json)


def _pieces(file: IO[bytes], *, empty: bool = False) -> Iterator[tuple[list[int], list[bytes]]]:
    """Yield the lines of a file that are not empty in pieces to send, with their numbers from 1.

    Args:
        file: The file.
        empty: Yield one piece without lines if there are none.
    """
    numbers: list[int] = []
    lines: list[bytes] = []
    size, none = 0, True
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        if len(lines) >= _AT_ONCE or (lines and size + len(line) > _BYTES_AT_ONCE):
            yield numbers, lines
            numbers, lines, size = [], [], 0
        numbers.append(number)
        lines.append(line if line.endswith(b"\n") else line + b"\n")
        size += len(line)
        none = False
    if lines or (none and empty):
        yield numbers, lines


def _object(body: IO[bytes]) -> dict[str, Any]:
    try:
        found = json.loads(body.read())
    except ValueError as error:
        raise ConfigError(f"--body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError("--body is not a JSON object")
    return found


def _counts(document: dict[str, Any], as_json: bool) -> dict[str, Any]:
    """Leave out for people what each of several workers counted."""
    return {name: value for name, value in _without_object(document).items() if as_json or name != "workers"}


def _without_object(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "object"}
