"""The certificate keeps its promise, checked against known truth."""

from math import inf
from random import Random

import pytest

from penstock.routing.cascade.certificate import certify, labels_needed, losses_allowed


def drawn(random: Random, count: int) -> list[tuple[float, bool]]:
    """Draw requests whose qualities are uniform and whose chance of a loss is half of what quality lacks."""
    found = []
    for _ in range(count):
        quality = random.random()
        found.append((quality, random.random() < 0.5 * (1.0 - quality)))
    return found


def loss_in_the_long_run(threshold: float) -> float:
    return 0.25 * (1.0 - threshold) ** 2 if threshold < inf else 0.0


@pytest.mark.parametrize(("alpha", "delta"), [(0.02, 0.1), (0.05, 0.05), (0.1, 0.2)])
def test_at_most_delta_of_certificates_fail(alpha: float, delta: float):
    random = Random(7)
    runs = 600
    failed = sum(
        loss_in_the_long_run(certify(drawn(random, 300), alpha=alpha, delta=delta).threshold) > alpha
        for _ in range(runs)
    )
    assert failed / runs <= delta + 3.0 * (delta * (1.0 - delta) / runs) ** 0.5


def test_a_promise_of_the_next_requests_holds_for_what_comes():
    random, delta, failed = Random(8), 0.1, 0
    for _ in range(600):
        threshold = certify(drawn(random, 200), alpha=0.05, delta=delta, horizon=150).threshold
        lost = sum(loss and quality >= threshold for quality, loss in drawn(random, 150))
        failed += lost > 0.05 * 150
    assert failed / 600 <= delta + 0.037
    assert failed


def test_a_certificate_is_not_empty_when_there_is_room():
    certificate = certify(drawn(Random(1), 2000), alpha=0.05, delta=0.05)
    assert certificate.threshold < 0.65
    assert certificate.lost <= losses_allowed(2000, 0.05, 0.05)
    assert "2000 labelled requests" in certificate.reason


def test_without_labels_nothing_is_served_and_the_reason_says_how_many_are_needed():
    certificate = certify([], alpha=0.01, delta=0.05)
    assert not certificate.holds
    assert "no labels yet, and 299 are needed" in certificate.reason
    assert labels_needed(0.01, 0.05) == 299
    assert not certify([(1.0, False)] * 298, alpha=0.01, delta=0.05).holds
    assert certify([(1.0, False)] * 299, alpha=0.01, delta=0.05).holds


def test_equal_qualities_are_served_together_or_not_at_all():
    labels = [(0.9, False)] * 300 + [(0.5, False)] * 10 + [(0.5, True)] * 40
    assert certify(labels, alpha=0.02, delta=0.05).threshold == 0.9


def test_losses_at_the_top_forbid_everything():
    certificate = certify([(1.0, True)] * 50 + [(0.5, False)] * 400, alpha=0.02, delta=0.05)
    assert not certificate.holds
    assert "lost too often" in certificate.reason


@pytest.mark.parametrize(("wrong", "said"), [({"alpha": 0}, "alpha"), ({"delta": 1}, "delta"), ({"horizon": 0}, "hor")])
def test_shares_out_of_range_are_refused(wrong: dict[str, float], said: str):
    with pytest.raises(ValueError, match=said):
        certify([], **wrong)
