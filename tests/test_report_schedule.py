import asyncio
import csv
import email
import email.policy
import socket
from datetime import UTC, datetime, timedelta

import pytest
from aiosmtpd.controller import Controller
from hypothesis import given
from hypothesis import strategies as st

from penstock.client import AsyncClient
from penstock.config.reports import ReportSettings
from penstock.config.settings import Settings
from penstock.core.call import Call
from penstock.core.errors import ConfigError
from penstock.core.request import Request
from penstock.core.tasks import TaskGroup
from penstock.report_schedule import ReportSchedule, last_due
from penstock.stores.opening import open_store
from penstock.testing.clock import FakeClock

DAY = 86_400
NOON = 1_700_049_600  # a Wednesday
LOG = {"name": "log", "kind": "log"}


@pytest.fixture
async def open_schedule(tmp_path):
    opened = []

    async def open_schedule(clock, **fields):
        url = f"sqlite:///{tmp_path}/p.db"
        stores = open_store(url, clock)
        await stores.start()
        tasks, told = TaskGroup(), []
        opened.append((stores, tasks))
        schedule = ReportSchedule(tasks, clock, stores.books, lambda message, sinks: told.append((message, sinks)))
        report = {"name": "daily", "at": "11:30", "sinks": ["log"], **fields}
        schedule.configure(Settings(store={"url": url}, sinks=[LOG], reports=[report]))
        return schedule, told, stores

    yield open_schedule
    for stores, tasks in opened:
        await tasks.aclose()
        await stores.aclose()


@given(
    st.integers(NOON, NOON + 30 * DAY), st.sampled_from(["day", "week"]), st.integers(0, 23), st.integers(0, 59),
    st.sampled_from(["monday", "sunday"]),
)  # fmt: skip
def test_what_was_due_last_is_the_newest_such_time_that_is_over(now, every, hour, minute, weekday):
    settings = ReportSettings(name="r", every=every, at=f"{hour:02}:{minute:02}", weekday=weekday, sinks=["log"])
    due = last_due(settings, now)
    when = datetime.fromtimestamp(due, UTC)
    assert now - (DAY if every == "day" else 7 * DAY) < due <= now
    assert (when.hour, when.minute, when.second) == (hour, minute, 0)
    assert every == "day" or when.strftime("%A").lower() == weekday


async def test_a_report_is_sent_once_for_all_processes_and_after_downtime(open_schedule):
    clock = FakeClock(wall=NOON)
    (one, told, stores), (two, also, _) = [await open_schedule(clock) for _ in range(2)]
    for schedule in (one, two):
        await schedule.look()
    assert told + also == []
    call = Call("req_1", started_at=NOON + 3600)
    stores.ledger.record(Request("chat", "fast", {}, call), call, duration_s=1.0, outcome="ok")
    await stores.flush()
    clock.advance(DAY)
    for schedule in (one, two, one):
        await schedule.look()
    ((message, sinks),) = told + also
    assert (message.id, message.type, sinks) == (f"report_daily_{NOON + DAY - 1800}", "report.daily", ["log"])
    assert "1 calls, 100.0% answered" in message.text
    assert (message.data["total"]["calls"], message.data["until"]) == (1, NOON + DAY - 1800)
    (page,) = message.attachments
    assert (page.name, page.content[:15]) == ("usage-2023-11-16.html", "<!doctype html>")
    clock.advance(5 * DAY)
    three, late, _ = await open_schedule(clock)
    await three.look()
    await one.look()
    assert len(told + also + late) == 2


async def test_looking_goes_on_by_itself_also_when_the_store_fails(open_schedule, caplog):
    clock = FakeClock(wall=NOON)
    schedule, told, stores = await open_schedule(clock, every="week", weekday="thursday", format="text")
    schedule.start()
    for _ in range(3 * 24 * 60):
        if told or clock.sleeping == 0:
            await asyncio.sleep(0.001)
        if told:
            break
        await clock.run(600)
    ((message, _),) = told
    assert (message.type, message.attachments) == ("report.weekly", ())
    await stores.aclose()
    clock.advance(timedelta(days=7).total_seconds())
    while "reports are put off" not in caplog.text:
        await clock.run(60)
        await asyncio.sleep(0.001)


async def test_a_mail_with_the_report_arrives(tmp_path):
    mails = []

    class Box:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name
            mails.append(envelope.content)
            return "250 taken"

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(Box(), "127.0.0.1", port)
    controller.start()
    clock = FakeClock(wall=NOON)
    post = {"name": "post", "kind": "mail", "host": "127.0.0.1", "port": port, "security": "none",
            "sender": "penstock@example.com", "recipients": ["ops@example.com"]}  # fmt: skip
    config = {
        "models": [{"name": "*", "targets": [{"provider": "simulated", "model": "sim"}]}],
        "store": {"url": f"sqlite:///{tmp_path}/p.db"}, "sinks": [post],
        "reports": [{"name": "daily", "at": "11:30", "format": "csv", "by": ["model"], "sinks": ["post"]}],
    }  # fmt: skip
    async with AsyncClient(config, clock=clock) as client:
        while await client.shared.stores.books.claimed("report:daily") is None:  # noqa: ASYNC110 - it is in a file
            await asyncio.sleep(0.01)
        clock.advance(DAY)
        for _ in range(2000):
            if mails:
                break
            await clock.run(60)
            await asyncio.sleep(0.002)
    controller.stop()
    mail = email.message_from_bytes(mails[0], policy=email.policy.default)
    assert mail["Subject"].startswith("Penstock: daily, 2023-11-1")
    (file,) = mail.iter_attachments()
    assert next(csv.reader([file.get_content()]))[:3] == ["since", "until", "model"]


def test_reports_need_something_to_report_on():
    settings = Settings(store={"url": "memory:"}, sinks=[LOG], reports=[{"name": "r", "sinks": ["log"]}])
    with pytest.raises(ConfigError, match="need a store that lasts"):
        ReportSchedule(TaskGroup(), FakeClock(), None, print).configure(settings)


@pytest.mark.parametrize("at", ["25:00", "7:30", "noon"])
def test_times_are_checked(at):
    with pytest.raises(ValueError, match="expected a time of the day"):
        ReportSettings(name="r", at=at, sinks=["log"])


def test_sinks_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="there is no sink named 'nobody'"):
        AsyncClient({"reports": [{"name": "r", "sinks": ["nobody"]}]})
