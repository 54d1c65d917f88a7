import pytest

from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.partition import Partition
from penstock.semantic import policies as module
from penstock.semantic.policies import Policies

EMBEDDER = LexicalEmbedder()


class Remembering:
    """A store that keeps what it is told, at once."""

    def __init__(self):
        self.kept = {}

    async def learnt(self):
        return dict(self.kept)

    def keep(self, name, state):
        self.kept[name] = state


@pytest.fixture
def proposal():
    partition = Partition()
    partition.add("How tall is it?", EMBEDDER.embed_one("How tall is it?"), 0)
    return partition.propose("how tall is it", EMBEDDER.embed_one("how tall is it"))


def teach(policies, tenant, proposal, labels, *, right):
    policy = policies.of(tenant, "fast")
    for _ in range(labels):
        policy.missed(proposal, policy.decide(proposal), right=right)
        policies.learnt(tenant, "fast")


def probability(policies, tenant, proposal):
    return policies.of(tenant, "fast").decide(proposal).probability


async def test_tenants_do_not_teach_each_other(proposal):
    policies = Policies(Remembering(), "lexical", 0.01, 0.05)
    before = probability(policies, "other", proposal)
    teach(policies, "acme", proposal, 40, right=False)
    assert probability(policies, "acme", proposal) < before / 2
    assert probability(policies, "other", proposal) == before


async def test_what_was_learnt_is_kept_and_belongs_to_one_embedder(proposal):
    store = Remembering()
    policies = Policies(store, "lexical", 0.01, 0.05)
    teach(policies, "acme", proposal, 20, right=False)
    policies.save()
    learnt = probability(policies, "acme", proposal)
    again = Policies(store, "lexical", 0.01, 0.05)
    await again.start()
    assert probability(again, "acme", proposal) == pytest.approx(learnt)
    other = Policies(store, "another", 0.01, 0.05)
    await other.start()
    assert probability(other, "acme", proposal) != pytest.approx(learnt)


async def test_many_names_do_not_fill_the_memory_and_nothing_learnt_is_lost(proposal, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 10)
    policies = Policies(Remembering(), "lexical", 0.01, 0.05)
    teach(policies, "acme", proposal, 3, right=False)
    learnt = probability(policies, "acme", proposal)
    for number in range(100):
        policies.of("acme", f"made-up-{number}")
    assert len(list(policies)) == 10
    assert probability(policies, "acme", proposal) == pytest.approx(learnt)


async def test_a_state_that_cannot_be_read_is_put_aside(proposal, caplog):
    store = Remembering()
    policies = Policies(store, "lexical", 0.01, 0.05)
    fresh = probability(policies, "acme", proposal)
    teach(policies, "acme", proposal, 20, right=False)
    policies.save()
    store.keep(next(iter(store.kept)), b"\xc1 damaged")
    again = Policies(store, "lexical", 0.01, 0.05)
    await again.start()
    assert probability(again, "acme", proposal) == fresh
    assert "cannot be read" in caplog.text


async def test_forgetting_goes_back_to_what_was_shipped(proposal):
    store = Remembering()
    policies = Policies(store, "lexical", 0.01, 0.05)
    fresh = probability(policies, "acme", proposal)
    teach(policies, "acme", proposal, 20, right=False)
    teach(policies, "other", proposal, 20, right=False)
    assert policies.reset(lambda tenant, _model: tenant == "acme") == 1
    assert probability(policies, "acme", proposal) == fresh
    assert probability(policies, "other", proposal) < fresh
    again = Policies(store, "lexical", 0.01, 0.05)
    await again.start()
    assert probability(again, "acme", proposal) == fresh
