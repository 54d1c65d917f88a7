"""What a pipeline shows on the metrics page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from penstock.abc import Connected, Provider
from penstock.routing.balancing import REPLICA
from penstock.semantic.memory import Memory
from penstock.shared import Parts


def show(parts: Parts, providers: Mapping[str, Provider], flights: Callable[[], int]) -> None:
    """Put what a pipeline knows on the metrics page.

    Args:
        parts: What its layers are made of.
        providers: By name.
        flights: Counts the calls that several requests wait for.
    """
    gauge = parts.shared.metrics.gauge
    gauge(
        "penstock_target_available",
        "1 when requests may go to a target now.",
        ("provider", "model"),
        lambda: [((each.provider, each.model), float(each.recovers_in_s <= 0)) for each in parts.health.states()],
    )
    gauge(
        "penstock_under_way", "What has begun and not ended, by kind.", ("what",), partial(_under_way, parts, flights)
    )
    gauge(
        "penstock_upstream_connections",
        "Connections to providers.",
        ("provider", "state"),
        partial(_connections, providers),
    )
    gauge(
        "penstock_store_rows",
        "Rows of the store by what became of them since the start.",
        ("state",),
        lambda: [
            ((name,), count)
            for name, count in zip(("pending", "dropped", "lost"), parts.shared.stores.state[:3], strict=True)
        ],
    )
    gauge(
        "penstock_ledger_recovered",
        "Calls of killed processes that this one put into the ledger when it began, by how far they were.",
        ("stage",),
        lambda: [
            ((stage,), count)
            for stage, count in zip(("settled", "interrupted"), parts.shared.stores.recovered, strict=True)
        ],
    )
    stats = parts.cache.stats if parts.cache is not None else None
    gauge(
        "penstock_cache",
        "The exact cache: entries and bytes now, the rest since the start.",
        ("what",),
        lambda: [((name,), value) for name, value in msgspec.structs.asdict(stats()).items()] if stats else [],
    )

    memory = parts.memory
    if memory is not None:
        gauge(
            "penstock_semantic",
            "Matching by meaning: questions, partitions and alarms of what is in memory, the rest since the start.",
            ("what",),
            lambda: [((name,), value) for name, value in msgspec.structs.asdict(memory.figures()).items()],
        )
        gauge(
            "penstock_semantic_policies",
            "Tenants' models in memory, by whether anything would be answered by meaning now.",
            ("state",),
            partial(_policies, memory),
        )
    recurrence = parts.shared.recurrence
    if recurrence is not None and parts.settings.cache.refresh is not None:
        gauge(
            "penstock_refresh",
            "Answers watched now, and since the start those renewed and those of them that were asked for in the "
            "lifetime they gained.",
            ("what",),
            lambda: [(("watched",), len(recurrence)), (("renewed",), recurrence.renewed), (("used",), recurrence.used)],
        )
    if any(model.hedge for model in parts.settings.models):
        counts = parts.shared.hedging.counts
        gauge(
            "penstock_hedging",
            "Requests that were late, what was done about it, and the tokens spent, since the start.",
            ("what",),
            lambda: [((name,), value) for name, value in msgspec.structs.asdict(counts).items()],
        )

    if any(model.cascade for model in parts.settings.models):
        known = parts.shared.cascades.known
        gauge(
            "penstock_cascade_answers",
            "Requests to models that are cascades, by who answered them; since the cascade was first asked.",
            ("model", "stage"),
            lambda: [
                ((name, stage), count) for name, each in known.items() for stage, count in each.counts.stages.items()
            ],
        )
        gauge(
            "penstock_cascade_certified",
            "1 while answers of a cascade's earlier model may be given.",
            ("model", "stage"),
            lambda: [
                ((name, stage), float(learner.policy.certificate.holds))
                for name, each in known.items()
                for stage, learner in each.learners.items()
            ],
        )

    cut = parts.shared.shaping.counts
    gauge(
        "penstock_context_total",
        "Conversations that were looked at and left as they were or cut, their tokens before and after, and summaries.",
        ("what",),
        lambda: [((name,), value) for name, value in msgspec.structs.asdict(cut).items()] if cut.looked_at else [],
    )
    parts.shared.doors.show(gauge)
    parts.shared.tenants.show(gauge)
    if any(model.strategy == "balanced" for model in parts.settings.models):
        for field, text in REPLICA.items():
            gauge(f"penstock_replica_{field}", text, ("provider", "model"), partial(_replicas, parts, field))


def _under_way(parts: Parts, flights: Callable[[], int]) -> list[tuple[tuple[str, ...], float]]:
    shared = parts.shared
    return [
        (("requests",), shared.metrics.active),
        (("coalesced",), flights()),
        (("writes",), len(shared.writes)),
        (("background",), len(shared.tasks)),
        (("tasks",), len(asyncio.all_tasks())),
    ]


def _policies(memory: Memory) -> list[tuple[tuple[str, ...], float]]:
    serving = [policy.serving for _, policy in memory.policies]
    return [(("serving",), sum(serving)), (("learning",), len(serving) - sum(serving))]


def _replicas(parts: Parts, field: str) -> list[tuple[tuple[str, ...], float]]:
    states = parts.shared.balancer.states()
    return [((each.provider, each.model), getattr(each, field)) for each in states]


def _connections(providers: Mapping[str, Provider]) -> list[tuple[tuple[str, ...], float]]:
    held = [(name, each.connections) for name, each in providers.items() if isinstance(each, Connected)]
    return [
        ((name, state), count) for name, counts in held for state, count in zip(("used", "idle"), counts, strict=True)
    ]
