"""Experiments in a program: who gets what, what is found, and how they end."""

import asyncio

import msgspec
import pytest

from penstock.client import AsyncClient
from penstock.config.loader import load_mapping
from penstock.core.errors import ConfigError, InvalidRequest, StoreError
from penstock.stores.memory import MemoryStateStore
from penstock.sync import Client
from penstock.testing import FakeClock

DAY = 86_400.0
SIZE = {
    "name": "size",
    "who": {"models": ["small"]},
    "arms": [{"name": "small"}, {"name": "large", "set": {"model": "large"}}],
    "primary": {"metric": "score.helpful", "bounds": [0, 1]},
    "window_s": 60,
    "stop": {"units": 400},
}


def config(*experiments, url="memory:", **fields):
    return {
        "providers": [{"name": "sim", "kind": "simulated", "latency": {"first_token_s": 0, "tokens_per_s": 0}}],
        "models": [{"name": name, "targets": [{"provider": "sim", "model": name}]} for name in ("small", "large")],
        "store": {"url": url},
        "timeout_s": 30,
        "experiments": list(experiments),
        **fields,
    }


@pytest.fixture
def clock():
    return FakeClock()


async def pass_time(clock, client, seconds):
    """Let time pass, then let experiments be evaluated as they would be by the minute."""
    clock.advance(seconds)
    await client.shared.trials.evaluate()


async def ask_many(client, count, judge, start=0):
    """Ask `count` questions of as many users, and score each by its arm."""
    for number in range(start, start + count):
        answer = await client.chat(f"question {number}", model="small", unit=f"user {number}")
        arm = (answer.call.arms or {}).get("size")
        if arm is not None:
            await client.score(answer.id, "helpful", judge(arm, number))


async def test_a_better_arm_ends_the_experiment_and_somebody_is_told(clock):
    async with AsyncClient(config(SIZE), clock=clock) as client:
        await ask_many(client, 150, lambda arm, number: float(arm == "large"))
        await pass_time(client=client, clock=clock, seconds=30)
        assert (await client.shared.trials.desk.get("size")).status == "running"  # no window is over
        await pass_time(client=client, clock=clock, seconds=200)
        ended = await client.shared.trials.desk.get("size")
        assert (ended.status, ended.winner, ended.by) == ("stopped", "large", "")
        (event,) = await client.monitor.history()
        assert (event.rule, event.severity) == ("experiment:size", "info")
        assert "large is better on score.helpful than small" in event.message
        answer = await client.chat("afterwards", model="small")
        assert (answer.call.arms, answer.call.served.model) == (None, "small")


async def test_everybody_gets_the_winner_if_that_is_wanted(clock):
    winning = {**SIZE, "share": 0.9, "stop": {"units": 400, "then": "winner"}}
    async with AsyncClient(config(winning), clock=clock) as client:
        await client.shared.trials.desk.stop("size", winner="large", by="someone")
        await client.shared.trials.refresh()
        for number in range(20):
            answer = await client.chat(f"question {number}", model="small", unit=f"user {number}")
            assert (answer.call.arms, answer.call.served.model) == (None, "large")


async def test_an_answer_from_the_cache_counts_for_the_arm_that_was_assigned(clock):
    async with AsyncClient(config({**SIZE, "metrics": [{"metric": "cache_hit"}, {"metric": "cost_usd"}]}),
                           clock=clock) as client:  # fmt: skip
        for number in range(60):
            await client.chat("the same question", model="small", unit=f"user {number}")
        clock.advance(200)
        report = await client.shared.trials.desk.report("size")
        hits = {mean.arm: (mean.units, mean.mean) for mean in report.measured[1].means}
        assert sum(units for units, _ in hits.values()) == 60
        for units, mean in hits.values():  # each arm asked its own model once
            assert mean == pytest.approx((units - 1) / units)


async def test_arms_that_are_cached_differently_do_not_answer_for_each_other(clock):
    ttl = {**SIZE, "arms": [{"name": "long"}, {"name": "none", "set": {"cache_ttl_s": 0}}]}
    async with AsyncClient(config(ttl), clock=clock) as client:
        seen = {"long": [], "none": []}
        for number in range(40):
            answer = await client.chat("the same question", model="small", unit=f"user {number}")
            seen[answer.call.arms["size"]].append(answer.cached)
        assert seen["long"] == [False, *[True] * (len(seen["long"]) - 1)]
        assert not any(seen["none"])


async def test_a_bandit_moves_traffic_to_the_better_arm_after_everybody_knows(clock):
    bandit = {**SIZE, "bandit": {"every_s": 60, "floor": 0.1}, "stop": {"units": 100_000}}
    async with AsyncClient(config(bandit), clock=clock) as client:
        await ask_many(client, 120, lambda arm, number: 0.6 if arm == "large" else 0.5 + number % 2 / 20)
        await pass_time(client=client, clock=clock, seconds=200)
        desk = client.shared.trials.desk
        assert (await desk.get("size")).arms == {"small": 0.5, "large": 0.5}
        clock.advance(61)
        standing = await desk.get("size")
        assert standing.arms["large"] == pytest.approx(0.9)
        arms = []
        for number in range(1000, 1060):
            answer = await client.chat("anything", model="small", unit=f"user {number}")
            arms.append(answer.call.arms["size"])
        assert arms.count("large") > 45


async def test_what_was_assigned_and_decided_survives_a_restart(clock, tmp_path):
    settings = config(SIZE, url=f"sqlite:///{tmp_path / 'penstock.db'}")
    arms = []
    for _ in range(2):
        async with AsyncClient(settings, clock=clock) as client:
            arms.append([(await client.chat("hello", model="small", unit=f"user {number}")).call.arms["size"]
                         for number in range(12)])  # fmt: skip
            clock.advance(100)
    assert arms[0] == arms[1]
    async with AsyncClient(settings, clock=clock) as client:
        report = await client.shared.trials.desk.report("size")
        assert (report.units, report.left_out) == (12, 12)  # the second time, the windows of the same users were over
        await client.shared.trials.desk.stop("size", why="enough")
    async with AsyncClient(settings, clock=clock) as client:
        assert client.shared.trials.assigner is None
        assert (await client.shared.trials.desk.get("size")).why == "enough"


async def test_a_reload_with_other_weights_goes_on_and_with_other_arms_begins_anew(clock):
    async with AsyncClient(config(SIZE), clock=clock) as client:
        began = (await client.shared.trials.desk.get("size")).since
        clock.advance(100)
        heavier = {**SIZE, "arms": [SIZE["arms"][0], {**SIZE["arms"][1], "weight": 3}]}
        await client.reload(load_mapping(config(heavier)))
        clock.advance(100)
        standing = await client.shared.trials.desk.get("size")
        assert (standing.since, standing.arms) == (began, {"small": 0.25, "large": 0.75})
        other = {**SIZE, "arms": [SIZE["arms"][0], {"name": "large", "set": {"parameters": {"temperature": 1}}}]}
        await client.reload(load_mapping(config(other)))
        assert (await client.shared.trials.desk.get("size")).since == began + 200
        await client.reload(load_mapping(config()))
        assert client.shared.trials.assigner is None


async def test_two_processes_of_one_store_decide_once(clock, tmp_path):
    settings = config(SIZE, url=f"sqlite:///{tmp_path / 'penstock.db'}")
    async with AsyncClient(settings, clock=clock) as one, AsyncClient(settings, clock=clock) as other:
        await ask_many(one, 75, lambda arm, number: float(arm == "large"))
        await ask_many(other, 75, lambda arm, number: float(arm == "large"), start=75)
        for client in (one, other):
            await client.shared.stores.flush()
        clock.advance(300)
        for client in (one, other):
            await client.shared.trials.evaluate()
        events = []
        async with asyncio.timeout(20):  # what they do by themselves may have come before, and not be done
            while len(events) < 2:
                for client in (one, other):
                    await client.shared.stores.flush()
                events = [event for client in (one, other) for event in await client.monitor.history()]
        assert len(events) == 2  # both read the one event there is
        assert len(set(events)) == 1
        for client in (one, other):
            await client.shared.trials.refresh()
            assert client.shared.trials.assigner is None


async def test_experiments_begin_when_a_store_that_failed_can_be_read_again(clock, monkeypatch):
    failing = True
    load = MemoryStateStore.load

    async def sometimes(self, prefix=""):
        if failing:
            raise StoreError("the disk is gone")
        return await load(self, prefix)

    monkeypatch.setattr(MemoryStateStore, "load", sometimes)
    async with AsyncClient(config(SIZE), clock=clock) as client:
        assert (await client.chat("hello", model="small")).call.arms is None
        failing = False
        await client.shared.trials.refresh()
        assert (await client.chat("hello", model="small")).call.arms is not None
        assert (await client.shared.trials.desk.get("size")).status == "running"


async def test_background_work_evaluates_by_itself(clock):
    async with AsyncClient(config(SIZE), clock=clock) as client:
        await ask_many(client, 150, lambda arm, number: float(arm == "large"))
        clock.advance(300)
        for _ in range(1000):  # it works in threads
            if client.shared.trials.assigner is None:
                break
            await asyncio.sleep(0.005)
        assert (await client.shared.trials.desk.get("size")).status == "stopped"


async def test_an_arms_model_must_exist():
    wrong = {**SIZE, "arms": [{"name": "small"}, {"name": "large", "set": {"model": "huge"}}]}
    with pytest.raises(ConfigError, match="huge"):
        await AsyncClient(config(wrong)).open()


async def test_penstocks_own_requests_take_no_part(clock):
    async with AsyncClient(config(SIZE), clock=clock) as client:
        request = client.request("chat", "small", {"messages": [{"role": "user", "content": "x"}]})
        own = msgspec.structs.replace(request, metadata={"operation": "penstock-judge"})
        await (await client.handle(own)).read()
        assert own.call.arms is None


async def test_without_experiments_nothing_is_done(clock):
    async with AsyncClient(config(), clock=clock) as client:
        assert client.shared.trials.assigner is None
        assert await client.shared.trials.desk.list() == []


async def test_scores_of_a_client_belong_to_its_tenant(clock):
    async with AsyncClient(config(SIZE), clock=clock, tenant="acme") as client:
        score = await client.score("req_1", "helpful", 1)
        assert (score.tenant, score.value) == ("acme", 1.0)
        assert (await client.score("req_1", "helpful", 0, tenant="globex")).value == 0
        with pytest.raises(InvalidRequest) as error:
            await client.score("req_1", "helpful", 0)
        assert (error.value.status_code, error.value.code) == (409, "score_exists")
        with pytest.raises(InvalidRequest):
            await client.score("req_1", "helpful", float("nan"))


def test_the_blocking_client_scores():
    with Client(config(SIZE)) as client:
        answer = client.chat("hello", model="small")
        assert client.score(answer.id, "helpful", 1).request_id == answer.id


GREET = """\
labels: {production: 1}
variables: {name: string}
versions:
  1: {user: "Say hello to {{ name }}."}
  2: {user: "Greet {{ name }} warmly."}
"""


def greeting(tmp_path, version):
    folder = tmp_path / "prompts"
    folder.mkdir(exist_ok=True)
    (folder / "greet.yaml").write_text(GREET)
    warm = {"name": "warm", "set": {"prompt": {"version": version}}}
    tone = {**SIZE, "who": {"prompts": ["greet"]}, "arms": [{"name": "plain"}, warm]}
    return config(tone, prompts={"directory": str(folder)})


async def test_arms_of_a_prompt_are_versions_that_are_rendered_with_the_clients_variables(clock, tmp_path):
    async with AsyncClient(greeting(tmp_path, 2), clock=clock) as client:
        prompts = set()
        for number in range(20):
            asked = {"id": "greet", "variables": {"name": "Ada"}}
            answer = await client.chat(model="small", prompt=asked, unit=f"user {number}")
            prompts.add((answer.call.arms["size"], answer.call.prompt, answer.call.key))
        assert {(arm, prompt) for arm, prompt, _ in prompts} == {("plain", "greet@1"), ("warm", "greet@2")}
        assert len(prompts) == 2  # so each version is asked under one key, and the two under different ones
        assert (await client.chat("without a prompt", model="small")).call.arms is None


async def test_an_arms_version_of_a_prompt_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="no version or label '3'"):
        await AsyncClient(greeting(tmp_path, 3)).open()
