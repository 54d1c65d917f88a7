from decimal import Decimal

import pytest

from penstock.budgeting.bill import Rate, cost, most_of
from penstock.budgeting.costs import Costs
from penstock.budgeting.tariff import Tariffs
from penstock.core.cascade import Cascade, Stage
from penstock.core.route import HedgeTerms, Route, Target
from penstock.pricing.prices import Price
from penstock.pricing.rates import rates
from penstock.testing import FakeClock

SMALL, LARGE, UNKNOWN = Target("p", "small"), Target("p", "large"), Target("p", "unknown")
PICO = Decimal("1e-12")
LONG = 1000
SIZE = (100, 50, 1, False)


class Desk:
    """Costs by prices that can be changed: 2 and 10 picodollars a token; the large model's long prompts cost double."""

    def __init__(self):
        self.clock = FakeClock()
        self.input = {"small": 2, "large": 20}
        self.costs = Costs(Tariffs(self.price, self.clock.monotonic), tries=3)

    def price(self, provider, model, tier):
        if model == "unknown":
            return Price((), "unknown")
        usual = self.input[model] * (3 if tier == "priority" else 1)
        tiers = [rates(-1, {"input": usual * PICO, "output": 10 * PICO})]
        if model == "large":
            tiers.insert(0, rates(LONG, {"input": 2 * usual * PICO, "output": 20 * PICO}))
        return Price(tuple(tiers), "list")

    def dollars(self, route, tier="", *, generates=True):
        return self.costs.dollars(route, tier, self.clock.monotonic(), generates=generates)


def route(*targets, identity=None, **fields):
    return Route("m", targets, identity or repr(targets).encode(), **fields)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (lambda desk: desk.dollars(route(SMALL)).usual, cost(Rate(2, 2, 10, 0), 3, 1)),
        (lambda desk: desk.dollars(route(SMALL), "priority").usual, cost(Rate(6, 6, 10, 0), 3, 1)),
        (lambda desk: desk.dollars(route(SMALL, LARGE)).usual, cost(Rate(20, 20, 10, 0), 6, 1)),
        (lambda desk: desk.dollars(route(SMALL, hedge=HedgeTerms())).usual, cost(Rate(2, 2, 10, 0), 4, 2)),
        (lambda desk: desk.dollars(route(SMALL, hedge=HedgeTerms()), generates=False).usual,
         cost(Rate(2, 2, 10, 0), 3, 1)),
        (lambda desk: desk.costs.tokens(route(SMALL, LARGE), generates=True), cost(Rate(1, 1, 1, 0), 6, 1)),
    ],
)  # fmt: skip
def test_the_dearest_target_is_paid_for_every_try_and_both_answers_of_a_hedge(found, expected):
    assert found(Desk()) == expected


def test_long_prompts_cost_what_their_tier_says():
    desk = Desk()
    due = desk.dollars(route(LARGE))
    assert due.cost(LONG) == due.usual == cost(Rate(20, 20, 10, 0), 3, 1)
    assert due.cost(LONG + 1) == cost(Rate(40, 40, 20, 0), 3, 1)


@pytest.mark.parametrize("prompt", [LONG, LONG + 1])
def test_all_models_of_a_cascade_are_paid_with_one_cap(prompt):
    desk = Desk()
    legs = [route(SMALL), route(LARGE, hedge=HedgeTerms())]
    stages = tuple(Stage(f"s{number}", route=leg) for number, leg in enumerate(legs))
    whole = route(SMALL, LARGE, cascade=Cascade(stages))
    (base, each, _), (more, also, _) = (most_of(SIZE, desk.dollars(leg).cost(prompt)) for leg in legs)
    assert most_of(SIZE, desk.dollars(whole).cost(prompt)) == (base + more, each + also, 50)
    (base, each, _), (more, also, _) = (most_of(SIZE, desk.costs.tokens(leg, generates=True)) for leg in legs)
    assert most_of(SIZE, desk.costs.tokens(whole, generates=True)) == (base + more, each + also, 50)


def test_a_price_that_changes_is_taken_after_a_minute():
    desk, asked = Desk(), route(SMALL)
    assert desk.dollars(asked).usual.estimate == 4 * 2 + 2 * 2
    desk.input["small"] = 3
    assert desk.dollars(asked).usual.estimate == 12
    desk.clock.advance(61)
    assert desk.dollars(asked).usual.estimate == 18


def test_models_without_a_price_are_told_apart():
    desk = Desk()
    assert not desk.dollars(route(SMALL)).unpriced
    due = desk.dollars(route(SMALL, UNKNOWN))
    assert due.unpriced
    assert due.charges[0].unpriced == (UNKNOWN,)


def test_a_route_with_fewer_targets_is_not_taken_for_the_one_of_its_name():
    desk = Desk()
    for targets in ((SMALL, LARGE), (LARGE,)):
        due = desk.dollars(route(*targets, identity=b"both"))
        assert due.usual == cost(Rate(20, 20, 10, 0), 3 * len(targets), 1)


def test_invented_routes_do_not_fill_memory():
    desk = Desk()
    for _ in range(5000):
        desk.dollars(route(SMALL))
        desk.costs.tokens(route(SMALL), generates=True)
    assert len(desk.costs._dollars) <= 4096
    assert len(desk.costs._tokens) <= 4096
