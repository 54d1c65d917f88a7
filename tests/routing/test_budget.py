from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.budget import RESERVE, RetryBudget


@given(st.floats(0, 1), st.lists(st.booleans(), max_size=400))
def test_retries_stay_within_their_share_of_requests_and_the_reserve(share, asked):
    budget = RetryBudget(share)
    requests = retries = 0
    for wants_retry in asked:
        if wants_retry:
            retries += budget.withdraw()
        else:
            budget.deposit()
            requests += 1
        assert retries <= share * requests + RESERVE + 1e-6
        if share == 0:
            assert retries == 0


def test_a_quiet_gateway_may_retry_but_not_for_ever():
    budget = RetryBudget(0.2)
    assert sum(budget.withdraw() for _ in range(100)) == RESERVE


def test_a_long_calm_does_not_save_up_a_storm():
    budget = RetryBudget(0.2)
    for _ in range(100_000):
        budget.deposit()
    assert sum(budget.withdraw() for _ in range(100_000)) == 100
