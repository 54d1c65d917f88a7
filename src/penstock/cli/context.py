"""penstock context: what of a conversation is sent."""

from __future__ import annotations

from decimal import Decimal
from math import isfinite
from typing import IO, Any

import click
import msgspec

from penstock.cli.output import config_option, emit, json_option, show_table
from penstock.config.context import context_terms
from penstock.config.loader import load
from penstock.config.settings import Settings
from penstock.context.billing import NO_CACHE, Billing, billing_of
from penstock.context.explaining import Explanation, explain
from penstock.context.plan import Span
from penstock.context.terms import Terms
from penstock.core.errors import ConfigError, InvalidRequest
from penstock.core.route import ContextTerms
from penstock.pricing.estimate import estimate_message, estimate_request_tokens
from penstock.pricing.prices import Account
from penstock.pricing.published import SELLERS
from penstock.shared import make_pricer

MODES = ("budget", "aggressive", "off")
_MESSAGES = "messages"


class _Model(msgspec.Struct, frozen=True):
    """What is known of a model: how it is configured, what an input token costs, and how cached ones are billed."""

    terms: ContextTerms
    billing: Billing = NO_CACHE
    price_usd: Decimal | None = None


@click.group()
def context() -> None:
    """Show what of a conversation is sent."""


@context.command("explain")
@config_option
@click.argument("file", type=click.File("rb"))
@click.option("--question", metavar="TEXT", help="What the user asks now, after the messages of the file.")
@click.option("--tokens", type=click.IntRange(min=1), metavar="N", help="Most tokens to send.")
@click.option("--mode", type=click.Choice(MODES), help="By default as the configuration says, else budget.")
@click.option("--model", metavar="NAME", help="Whose prices and settings apply; by default the body's own.")
@click.option("--pause", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS",
              help="Usual time between turns; providers forget prompts.")  # fmt: skip
@json_option
def explain_command(
    config: str | None,
    file: IO[bytes],
    question: str | None,
    tokens: int | None,
    mode: str | None,
    model: str | None,
    pause: float,
    as_json: bool,
) -> None:
    """Say what would be sent of the conversation in FILE, and why.

    FILE has the body of a request, or a list of messages, as JSON; - is standard input. Nothing is sent: summaries are
    those of the conversation's own sentences. NAME is a name of the configuration's models, or provider/model.

    Costs are those of the input: with the whole conversation, of which the provider has cached what the turn before
    sent, with what would be sent, likewise, and with a prompt of that size made anew. Exit codes: 0 done, 1 the file
    cannot be used or not even the question fits, 2 the configuration or an argument cannot be used.
    """
    body = _read(file.read(), file.name)
    if question is not None:
        body["messages"] = [*body["messages"], {"role": "user", "content": question}]
    settings = load(config, probe=False).settings
    found = _named(settings, model) if model else _of_body(settings, body)
    own = found.terms
    terms = Terms(
        mode or (own.mode if own.mode != "off" else "budget"),  # type: ignore[arg-type]  # click has checked it
        tokens or own.tokens,
        found.billing.after(pause),
        own.recent_tokens,
        own.excerpt_tokens,
        own.summary_tokens,
    )
    beside = estimate_request_tokens({name: value for name, value in body.items() if name != _MESSAGES})
    explained = explain(body["messages"], beside, terms, estimate_message)
    if as_json:
        emit(_plain(explained, terms, found.price_usd), as_json)
    else:
        _show(explained, terms, body["messages"], found.price_usd)


def _read(data: bytes, name: str) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{name} is not JSON: {error}", code="invalid_messages") from None
    if isinstance(body, list):
        body = {_MESSAGES: body}
    if not isinstance(body, dict) or not isinstance(body.get(_MESSAGES), list):
        raise InvalidRequest(
            f"{name} needs a list of messages, or an object with one under 'messages', as a request has it",
            code="invalid_messages",
            param=_MESSAGES,
        )
    return body


def _of_body(settings: Settings, body: dict[str, Any]) -> _Model:
    """The model the body names, if anybody knows it."""
    name = body.get("model")
    try:
        return _named(settings, name) if isinstance(name, str) else _Model(context_terms(settings.context))
    except ConfigError:
        return _Model(context_terms(settings.context))


def _named(settings: Settings, name: str) -> _Model:
    """Find a model of the configuration, or of a provider.

    Raises:
        ConfigError: There is none of that name.
    """
    alias = next((each for each in settings.models if each.name == name), None)
    provider, _, model = name.partition("/")
    if alias is not None and alias.targets:
        provider, model = alias.targets[0].provider, alias.targets[0].model
    kinds = {**{kind: kind for kind in SELLERS}, **{each.name: each.kind for each in settings.providers}}
    if provider not in kinds:
        raise ConfigError(
            f"no model and no provider is called {name[:200]!r}",
            key="--model",
            expected="a name of the configuration's models, or provider/model",
        )
    accounts = {kind: Account(kind) for kind in SELLERS}
    accounts |= {each.name: Account(each.kind, each.discount) for each in settings.providers}
    tiers = make_pricer(settings, accounts=accounts).price(provider, model).tiers
    price, cached, written = tiers[-1].each[:3] if tiers else (None, None, None)
    return _Model(
        context_terms(settings.context, None if alias is None else alias.context),
        billing_of(kinds[provider], price=price, cached=cached, written=written),
        price,
    )


def _show(found: Explanation, terms: Terms, messages: list[Any], price: Decimal | None) -> None:
    left_out = sum(span.fate != "kept" for span in found.spans) and len(messages) - len(found.messages)
    budget = "any number of" if terms.tokens is None else f"at most {terms.tokens}"
    click.echo(
        f"Mode {terms.mode}, {budget} tokens: {found.before} tokens become {found.after}, "
        f"{left_out} of {len(messages)} messages are left out."
    )
    click.echo()
    show_table(("messages", "tokens", "become", "quoted", "because"), map(_row, found.spans))
    for name, text in (("Summary", found.summary), ("Excerpts for the question", found.excerpts)):
        if text:
            click.echo(f"\n{name}:\n")
            click.echo("\n".join(f"  {_visible(line)}" for line in text.splitlines()))
    click.echo()
    unit = "tokens at full price" if price is None else "USD"
    show_table(
        (f"input, {unit}", "whole", "sent", "made anew", "saved"),
        (
            (name, *(_cost(cost, price) for cost in (turn.whole, turn.sent, turn.anew, turn.saved)))
            for name, turn in (("this turn", found.now), ("the next turn", found.later))
        ),
    )
    if found.turns_to_pay is not None:
        click.echo(_payback(found.turns_to_pay))


def _row(span: Span) -> tuple[object, ...]:
    places = str(span.start + 1) if span.end == span.start + 1 else f"{span.start + 1}-{span.end}"
    return places, span.tokens, span.fate, ", ".join(str(at + 1) for at in span.quoted), span.reason


def _payback(turns: float) -> str:
    if not isfinite(turns):
        return "No number of turns pays for the cut: the whole, once cached, costs no more."
    count = f"{max(turns, 1):.0f}"
    return f"A cut now has paid for itself after {count} {'turn' if count == '1' else 'turns'}."


def _visible(line: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)


def _cost(tokens: float, price: Decimal | None) -> str:
    if price is None:
        return f"{tokens:.0f}"
    return f"{price * Decimal(round(tokens)):.6f}"


def _plain(found: Explanation, terms: Terms, price: Decimal | None) -> dict[str, Any]:
    turns = {
        name: {
            "whole_tokens": turn.whole,
            "sent_tokens": turn.sent,
            "anew_tokens": turn.anew,
            "saved_tokens": turn.saved,
            "saved_usd": None if price is None else _cost(turn.saved, price),
        }
        for name, turn in (("now", found.now), ("later", found.later))
    }
    turns_to_pay = found.turns_to_pay if found.turns_to_pay is None or isfinite(found.turns_to_pay) else None
    return {
        "mode": terms.mode,
        "tokens": terms.tokens,
        "billing": msgspec.to_builtins(terms.billing),
        **{name: value for name, value in msgspec.to_builtins(found).items() if name not in turns},
        "turns_to_pay": turns_to_pay,
        **turns,
    }
