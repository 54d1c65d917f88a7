import pytest

from penstock.core.quota import Quota
from penstock.wire.quota import read_quota


def test_openais_names():
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": " 29000 ",
    }
    assert read_quota(headers) == Quota(
        requests_limit=500, requests_remaining=499, tokens_limit=30000, tokens_remaining=29000
    )


def test_anthropics_names():
    headers = {"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-tokens-limit": "80000"}
    assert read_quota(headers) == Quota(requests_remaining=0, tokens_limit=80000)


@pytest.mark.parametrize("value", ["", "-1", "many", "1.5", "٣", "9" * 30])
def test_anything_else_is_nothing(value):
    assert read_quota({"x-ratelimit-remaining-requests": value}) is None
    assert read_quota({}) is None
