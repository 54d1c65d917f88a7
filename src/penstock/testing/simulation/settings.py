"""What one seed configures; every part is as likely to be absent as to be extreme."""

from __future__ import annotations

from importlib.util import find_spec
from random import Random
from typing import Any

from penstock.config.settings import Settings

NAMES = ("a", "b", "c")
TENANTS = ("red", "blue")
TEMPLATE = "template|{question}"
"""What templates say; models' answers begin with a tenant."""
OPERATION = "title"
"""The operation that templates answer."""
JUDGE, EMBEDDER = "judge", "vectors"
"""Models that matching by meaning asks."""
SUMMARIST = "summarist"
"""A model that writes summaries of conversations."""
MAX_ERROR = 0.3
"""So much that most of what is spelt differently is served."""

_DENSE = all(map(find_spec, ("numpy", "penstock.matching.indexes.dense")))
"""Whether there is what finds the nearest of dense vectors: the extra `semantic`."""
_PROVIDER_MINUTES = (None, None, 2, 10, 60)
_PROVIDER_TOKENS = (None, None, 100, 600, 5000)
_TENANT_MINUTES = (None, 2, 10, 60)
_BUDGET_TOKENS, _BUDGET_USD = (60, 400, 1_000_000), ("0.0002", "0.002", "10")
_TENANT_TOKENS = (None, None, 100, 2000)


def draw_settings(random: Random) -> Settings:
    """Draw a configuration."""
    names = NAMES[: random.randint(1, len(NAMES))]
    limited, falling_back = random.random() < 0.5, random.random() < 0.4
    total_s = random.choice((2.0, 10.0, 30.0))
    cache = _cache(random)
    models = _models(random, names, falling_back=falling_back)
    if "semantic" in cache:
        models[0]["semantic"] = _mode_of_model(random)
        models += [
            {"name": name, "targets": [{"provider": random.choice(names), "model": name}]} for name in (JUDGE, EMBEDDER)
        ]
    context = _context(random) if random.random() < 0.3 else {}
    budgets = _budgets(random) if random.random() < 0.3 else []
    if context.get("summary", {}).get("model"):
        models.append({"name": SUMMARIST, "targets": [{"provider": random.choice(names), "model": SUMMARIST}]})
    return Settings.model_validate({
        "providers": [
            {
                "name": name,
                "kind": "openai-compatible",
                "base_url": "http://127.0.0.1:9/v1",
                "timeouts": {"total_s": total_s},
                "limits": _provider_limits(random) if limited and random.random() < 0.8 else {},
            }
            for name in names
        ],
        "models": models,
        "fallbacks": _fallbacks(random) if falling_back else {},
        "limits": _limits(random) if limited else {},
        "cache": cache,
        **({"context": context} if context else {}),
        "budgets": budgets,
        "prices": [
            {"model": each["name"], "usd_per_million": {"input": 1, "output": 10}} for each in models if budgets
        ],
        "store": {"url": "memory:"},
        "retry": {"attempts": random.randint(1, 3), "backoff_s": random.choice((0.05, 0.25)), "max_backoff_s": 2.0},
        "breaker": {"failures": random.randint(1, 4), "recovery_s": random.choice((0.5, 4.0))},
        "timeout_s": random.choice((1.0, 8.0, 60.0)),
    })  # fmt: skip


def redraw(random: Random, settings: Settings) -> Settings:
    """Return `settings` with other limits, and matching otherwise by meaning, for a reload."""
    document = settings.model_dump(exclude_unset=True)
    for provider in document["providers"]:
        provider["limits"] = _provider_limits(random)
    document["limits"] = _limits(random)
    if "semantic" in document["cache"]:
        document["cache"]["semantic"] = _semantic(random)
        document["models"][0]["semantic"] = _mode_of_model(random)
    return Settings.model_validate(document)


def _models(random: Random, names: tuple[str, ...], *, falling_back: bool) -> list[dict[str, Any]]:
    model: dict[str, Any] = {
        "name": "m",
        "targets": [
            {"provider": name, "model": "m", "order": random.choice((0, 0, 1)), "weight": random.choice((1, 3))}
            for name in names
        ],
        "strategy": random.choice(("ordered", "weighted", "balanced")),
        "hedge": random.choice((None, {"budget": 0.5, "quantile": 0.5})),
    }
    if not falling_back:
        return [model]
    model["fallbacks"] = {
        "context_window": random.choice(([], ["large"])),
        "content_policy": random.choice(([], ["lax"])),
        "errors": random.choice(([], ["spare"], ["large", "spare"])),
        "timeout_s": random.choice((None, None, 0.5)),
    }
    return [model, *_stand_ins(random, names)]


def _stand_ins(random: Random, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Models that answer in place of ``m``, and of each other."""
    return [
        {
            "name": name,
            "targets": [{"provider": random.choice(names), "model": name}],
            "fallbacks": random.choice((None, {"errors": [after]} if after else None)),
        }
        for name, after in (("large", "lax"), ("lax", "spare"), ("spare", None))
    ]


def _fallbacks(random: Random) -> dict[str, Any]:
    templates = [{"when": {"operation": OPERATION}, "answer": TEMPLATE}]
    return {
        "templates": random.choice(([], templates)),
        "timeout_s": random.choice((None, None, 0.5, 5.0)),
    }


def _provider_limits(random: Random) -> dict[str, Any]:
    return {
        "requests_per_minute": random.choice(_PROVIDER_MINUTES),
        "tokens_per_minute": random.choice(_PROVIDER_TOKENS),
        "max_concurrency": random.choice((None, 1, 1, 2, 4)),
        "adaptive": random.random() < 0.4,
    }


def _limits(random: Random) -> dict[str, Any]:
    return {
        "max_queued": random.choice((0, 1, 3, 1000)),
        "per_tenant": random.choice(({}, {}, _tenant_limits(random))),
        "tenants": random.choice(({}, {TENANTS[0]: _tenant_limits(random)})),
    }


def _tenant_limits(random: Random) -> dict[str, Any]:
    return {
        "requests_per_minute": random.choice(_TENANT_MINUTES),
        "tokens_per_minute": random.choice(_TENANT_TOKENS),
    }


def _budgets(random: Random) -> list[dict[str, Any]]:
    """What red may use in tokens, and either of them in dollars, twice if that is so."""
    tokens: dict[str, Any] = {
        "scope": "team",
        "subject": TENANTS[0],
        "unit": "tokens",
        "amount": random.choice(_BUDGET_TOKENS),
    }
    usd: dict[str, Any] = {
        "scope": "organisation",
        "subject": random.choice(TENANTS),
        "amount": random.choice(_BUDGET_USD),
    }
    period = {"period": random.choice(("day", "total")), "allow_unpriced": True}
    return [{**each, **period} for each in random.choice(([tokens], [usd], [tokens, usd]))]


def _cache(random: Random) -> dict[str, Any]:
    cache: dict[str, Any] = {
        "exact": {
            "enabled": random.random() < 0.8,
            "ttl_s": random.choice((0.3, 5.0, 30.0)),
            "max_memory_bytes": random.choice((0, 2000, 1 << 20)),
            "max_entries": random.choice((2, 1000)),
            "stale_while_revalidate_s": random.choice((0.0, 3.0)),
            "stale_if_error_s": random.choice((0.0, 10.0)),
        },
        "coalesce": random.random() < 0.8,
    }
    if cache["exact"]["enabled"] and random.random() < 0.7:
        cache["semantic"] = _semantic(random)
    return cache


def _semantic(random: Random) -> dict[str, Any]:
    labels = random.choice((["exact"], ["exact", "rule", "answers"], ["judge"], ["exact", "judge"]))
    embedder = random.choice(({}, {}, {"kind": "provider", "model": EMBEDDER}))
    judge = {"model": JUDGE, "per_minute": random.choice((1, 30)), "usd_per_day": random.choice((None, "0.01"))}
    return {
        "mode": random.choice(("off", "shadow", "on", "on")),
        "max_error": MAX_ERROR,
        "audit": random.choice((0.000001, 0.3, 1.0)),
        "embedder": embedder if _DENSE else {},
        "labels": labels,
        "judge": judge if "judge" in labels else None,
        "max_questions": random.choice((2, 1000)),
        "first_turn_only": random.random() < 0.3,
    }


def _context(random: Random) -> dict[str, Any]:
    return {
        "mode": random.choice(("off", "budget", "budget", "aggressive")),
        "tokens": random.choice((150, 300, 10_000)),
        "recent_tokens": random.choice((0, 100, None)),
        "excerpt_tokens": random.choice((0, 60)),
        "summary": {
            "model": random.choice((None, SUMMARIST, SUMMARIST)),
            "tokens": random.choice((60, 200)),
            "timeout_s": random.choice((0.02, 5.0)),
        },
    }


def _mode_of_model(random: Random) -> str | None:
    return random.choice((None, None, None, "off", "shadow", "on", "on"))
