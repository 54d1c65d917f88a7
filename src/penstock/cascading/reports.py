"""What there is to say of a cascade."""

from __future__ import annotations

from typing import Any

from penstock.cascading.known import Known
from penstock.core.cascade import Stage
from penstock.core.money import to_usd
from penstock.routing.cascade.learner import Learner


def describe(model: str, known: Known) -> dict[str, Any]:
    """Return what is known of the cascade `model`, in plain values; money as text, shares from 0 to 1."""
    terms, counts = known.cascade, known.counts
    last = terms.stages[-1].name
    return {
        "object": "cascade",
        "model": model,
        "max_error": terms.max_error,
        "confidence": terms.confidence,
        "audits_share": terms.audits,
        "stages": [_stage(stage, known) for stage in terms.stages],
        "requests": counts.requests,
        "last_share": counts.stages.get(last, 0) / counts.requests if counts.requests else None,
        "escalated": counts.escalated,
        "uncertified": counts.uncertified,
        "degraded": counts.degraded,
        "audits": counts.audits,
        "audits_failed": counts.audits_failed,
        "unlabelled": counts.unlabelled,
        "saved_usd": f"{to_usd(counts.saved_pusd):f}",
        "audits_usd": f"{to_usd(counts.audit_pusd):f}",
        "unpriced": counts.unpriced,
    }


def _stage(stage: Stage, known: Known) -> dict[str, Any]:
    kind = "model" if stage.filter is None else "filter"
    shown = {"name": stage.name, "kind": kind, "answered": known.counts.stages.get(stage.name, 0)}
    learner = known.learners.get(stage.name)
    return shown if learner is None else {**shown, "certificate": _certificate(learner)}


def _certificate(learner: Learner) -> dict[str, Any]:
    certificate = learner.policy.certificate
    return {
        "holds": certificate.holds,
        "drifted": certificate.drifted,
        "threshold": certificate.threshold if certificate.holds else None,
        "max_error": certificate.alpha,
        "labels": certificate.labels,
        "lost": certificate.lost,
        "accepted": certificate.accepted,
        "reason": certificate.reason,
    }
