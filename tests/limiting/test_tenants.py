from penstock.core.quota import Quota
from penstock.limiting.tenants import NOBODY, TenantLimits, Tenants, quota_of


def test_accounts_by_name_with_a_default():
    tenants = Tenants()
    tenants.put_in_force(TenantLimits(60), {"big": TenantLimits(600, 10_000), "free": TenantLimits()})
    assert tenants.account("free") is None
    assert tenants.account("anyone").quota(0.0).requests_limit == 60
    assert tenants.account("anyone") is tenants.account("anyone")
    assert tenants.account("anyone") is not tenants.account("other")
    big = tenants.account("big").quota(0.0)
    assert (big.requests_limit, big.requests_remaining, big.tokens_limit, big.tokens_remaining) == (
        600, 600, 10_000, 10_000,
    )  # fmt: skip


def test_what_is_left_and_when_it_is_all_there_again():
    tenants = Tenants()
    tenants.put_in_force(TenantLimits(60, 600), {})
    account = tenants.account("a")
    account.requests.charge(30, 0.0)
    account.tokens.charge(700, 0.0)
    quota = account.quota(1.0)
    assert (quota.requests_remaining, quota.requests_reset_s) == (31, 29.0)
    assert (quota.tokens_remaining, quota.tokens_reset_s) == (0, 69.0)


def test_the_same_limits_put_in_force_again_forgive_nothing_and_new_ones_do():
    tenants = Tenants()
    tenants.put_in_force(TenantLimits(60), {})
    tenants.account("a").requests.charge(60, 0.0)
    tenants.put_in_force(TenantLimits(60), {})
    assert tenants.account("a").quota(0.0).requests_remaining == 0
    tenants.put_in_force(TenantLimits(90), {})
    assert tenants.account("a").quota(0.0).requests_remaining == 90
    tenants.put_in_force(TenantLimits(), {})
    assert tenants.account("a") is None


def test_names_are_forgotten_in_time():
    tenants = Tenants()
    tenants.put_in_force(TenantLimits(60), {})
    for number in range(10_000):
        tenants.account(str(number))
    assert len(tenants._accounts) <= 4096


def test_accounts_of_keys_teams_and_organisations_stand_beside_the_tenants():
    tenants = Tenants()
    assert not tenants.owned
    assert tenants.accounts("acme/search", "key_1") == []
    tenants.own(
        {"key_1": TenantLimits(1), "key_2": TenantLimits()}, {"acme": TenantLimits(2), "acme/search": TenantLimits(3)}
    )
    assert tenants.owned

    def limits(tenant, key):
        return [account.quota(0.0).requests_limit for account in tenants.accounts(tenant, key)]

    assert limits("acme/search", "key_1") == [1, 3, 2]
    assert limits("acme/other", "key_2") == [2]
    assert limits("acme", "") == [2]
    assert limits("foreign/search", "key_3") == []
    tenants.put_in_force(TenantLimits(9), {})
    assert limits("acme/search", "key_1") == [9, 1, 3, 2]
    tenants.own({"key_2": TenantLimits()}, {})
    assert not tenants.owned
    assert limits("acme/search", "key_1") == [9]


def test_a_change_of_another_key_forgives_nothing():
    tenants = Tenants()
    tenants.own({"key_1": TenantLimits(60)}, {})
    tenants.accounts("a", "key_1")[0].requests.charge(60, 0.0)
    tenants.own({"key_1": TenantLimits(60), "key_2": TenantLimits(5)}, {})
    assert tenants.accounts("a", "key_1")[0].quota(0.0).requests_remaining == 0


def test_what_is_left_is_what_is_left_of_the_tightest():
    tenants = Tenants()
    tenants.own({"key_1": TenantLimits(100, 500)}, {"a": TenantLimits(50, 1000)})
    quota = quota_of(tenants.group("a", "key_1"), 0.0)
    assert (quota.requests_limit, quota.requests_remaining) == (50, 50)
    assert (quota.tokens_limit, quota.tokens_remaining) == (500, 500)
    assert quota_of(NOBODY, 0.0) == Quota()
