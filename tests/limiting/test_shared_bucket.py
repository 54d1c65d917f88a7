"""Processes that share a bucket admit together what one alone would."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.quota import Quota
from penstock.limiting.bucket import Bucket
from penstock.limiting.shared_bucket import SharedBucket
from penstock.limiting.tenants import TenantLimits, Tenants
from penstock.shared_memory.table import Table, digest

steps = st.lists(st.tuples(st.integers(0, 1), st.floats(0.0, 40.0), st.integers(-300, 300)), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def handles(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("shared") / "limits")
    handles = [Table(path, 64), Table(path, 64)]
    yield handles
    for each in handles:
        each.close()


@given(steps=steps, per_minute=st.integers(1, 1000))
def test_it_is_the_same_bucket_wherever_it_is_drawn_from(handles, steps, per_minute):
    name = digest(str(per_minute))
    with handles[0]:
        handles[0].drop(name)
    alone = Bucket(per_minute)
    shared = [SharedBucket(per_minute, handle, name) for handle in handles]
    now = 1000.0
    for who, pause, amount in steps:
        now += pause
        assert shared[who].wait_s(amount, now) == pytest.approx(alone.wait_s(amount, now), abs=1e-6)
        for bucket in (alone, shared[who]):
            bucket.charge(amount, now)
        assert shared[1 - who].level(now) == pytest.approx(alone.level(now), abs=1e-6)
        assert shared[who].left(shared[who].level(now))[2] == pytest.approx(alone.left(alone.level(now))[2], abs=1e-6)


def test_a_provider_that_knows_better_lowers_it_for_all(handles):
    one, other = (SharedBucket(60, handle, digest("lower")) for handle in handles)
    one.lower(10, 5.0)
    assert other.level(5.0) == pytest.approx(10)
    other.lower(30, 5.0)
    assert one.level(5.0) == pytest.approx(10)


def test_limits_that_change_begin_anew_as_in_one_process(handles):
    def both(limit):
        found = []
        for handle in handles:
            tenants = Tenants()
            tenants.share(handle)
            tenants.put_in_force(TenantLimits(limit), {})
            found.append(tenants)
        return found

    one, other = both(7)
    for _ in range(7):
        assert isinstance(one.take(one.group("a", ""), None, 0.0), Quota)
    assert other.account("a").quota(0.0).requests_remaining == 0
    assert other.account("b").quota(0.0).requests_remaining == 7
    refused = other.take(other.group("a", ""), None, 0.0)
    assert (refused.wait_s, refused.bucket) == (pytest.approx(60 / 7), other.account("a").requests)
    assert refused.quota.requests_remaining == 0
    _, other = both(8)
    assert other.account("a").quota(0.0).requests_remaining == 8


@pytest.mark.parametrize("shared", [False, True])
def test_nothing_is_charged_when_one_of_several_has_too_little(handles, shared):
    tenants = Tenants()
    if shared:
        tenants.share(handles[0])
    tenants.own({"key": TenantLimits(50)}, {"a": TenantLimits(60, 100)})
    group = tenants.group("a", "key")
    left = tenants.take(group, 90.0, 0.0)
    assert (left.requests_remaining, left.tokens_remaining) == (49, 10)
    assert (left.requests_limit, left.requests_reset_s) == (50, pytest.approx(1.2))
    assert tenants.missing(group, 10.0, 0.0) is None
    refused = tenants.take(group, 20.0, 0.0)
    assert (refused.wait_s, refused.bucket) == (pytest.approx(6.0), group.tokens[0])
    assert (refused.quota.requests_remaining, refused.quota.tokens_remaining) == (49, 10)
    assert tenants.missing(group, 20.0, 0.0) == refused
    assert tenants.take(group, None, 0.0).requests_remaining == 48
    tenants.settle(group.tokens, -90.0, lambda: 0.0)
    assert tenants.take(group, 100.0, 0.0).tokens_remaining == 0


BURST = """
import sys
from penstock.core.quota import Quota
from penstock.limiting.tenants import TenantLimits, Tenants
from penstock.shared_memory.table import Table
tenants = Tenants()
tenants.share(Table(sys.argv[1], 64))
tenants.put_in_force(TenantLimits(500), {})
group = tenants.group("a", "")
print(sum(isinstance(tenants.take(group, None, 1000.0), Quota) for _ in range(1000)))
"""


def test_a_burst_on_several_processes_is_admitted_once(tmp_path):
    path = str(tmp_path / "limits")
    command = [sys.executable, "-c", BURST, path]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    assert sum(int(each.communicate()[0]) for each in running) == 500
