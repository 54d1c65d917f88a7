import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.opening import open_store

CONFIG = """
providers: [{name: openai, kind: openai, api_key: k}, {name: claude, kind: anthropic, api_key: k}]
models: [{name: "*", targets: [{provider: openai}]}]
"""
OPENAI_COSTS = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,quantity_unit,line_item,"
    "project_id\n"
)
OPENAI_USAGE = "start_time,end_time,start_time_iso,end_time_iso,model,input_tokens,output_tokens,num_model_requests\n"
ANTHROPIC_USAGE = (
    "usage_date_utc,model_version,api_key,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
    "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens\n"
)
ANTHROPIC_COST = "usage_date_utc,model,workspace,token_type,cost_usd\n"


def at(day, hour=12, minute=0):
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC).timestamp()


@pytest.fixture
async def run(tmp_path):
    """Two days of calls: 1,000,000 tokens in and 500,000 out of gpt-4o on the 2nd, half of that on the 3rd, for 7.5 and
    3.75 dollars, and some of Anthropic's."""
    file = tmp_path / "penstock.yaml"
    file.write_text(CONFIG + f"store: {{url: 'sqlite:///{tmp_path}/penstock.db'}}\n")
    stores = open_store(f"sqlite:///{tmp_path}/penstock.db", SystemClock())
    await stores.start()

    def record(provider, model, when, usage, usd, source="provider", outcome="ok"):
        cost = None if usd is None else Decimal(usd)
        tried = Attempt(provider, model, 0.0, outcome=outcome, usage=usage, cost_usd=cost, cost_source=source)
        call = Call("r", started=0.0, started_at=when, attempts=[tried])
        stores.ledger.record(Request("chat", "fast", {}, call), call, duration_s=1.0, outcome=outcome)

    record("openai", "gpt-4o", at(2), Usage(400_000, 300_000), "4")
    record("openai", "gpt-4o-2024-08-06", at(2, 23, 59), Usage(600_000, 200_000), "3.5")
    record("openai", "gpt-4o", at(3, 0, 1), Usage(500_000, 250_000), "3.75")
    record("claude", "claude-haiku-4-5-20251001", at(3), Usage(1000_000, 20_000, 300_000, 200_000), "0.85")
    await stores.ledger.flush()
    await stores.aclose()

    def run(text, *arguments):
        bill = tmp_path / "bill.csv"
        bill.write_text(text)
        return CliRunner().invoke(main, ["usage", "reconcile", str(bill), "--config", str(file), *arguments])

    return run


def line(result, number=0):
    return json.loads(result.output)["lines"][number]


def epoch(day):
    return int(at(day, 0))


def test_openais_costs_agree_line_item_by_line_item(run):
    text = OPENAI_COSTS + "".join(
        f'{epoch(day)},,,,{usd},usd,{quantity},tokens,"gpt-4o-2024-08-06, {item}",p\n'
        for day, usd, quantity, item in (
            (2, "2.5", 1_000_000, "input"),
            (2, "5.0000000000", 500_000, "output"),
            (3, "1.25", 500_000, "input"),
            (3, "2.5", 250_000, "output"),
        )
    )
    result = run(f"{text}{epoch(4)},,,,,,,,,\n")
    assert result.exit_code == 0, result.output
    assert "2 of 2 lines agree; ledger $11.25, bill $11.25." in result.output


def test_openais_usage_is_compared_by_tokens(run):
    rows = f"{epoch(2)},,,,gpt-4o,1000000,500000,9\n{epoch(3)},,,,gpt-4o,500000,250000,5\n"
    result = run(OPENAI_USAGE + rows, "--all")
    assert result.exit_code == 0, result.output
    assert "2 of 2 lines agree." in result.output


def test_anthropics_exports_agree(run):
    usage = run(ANTHROPIC_USAGE + "2026-11-03,claude-haiku-4-5-20251001,k,500000,150000,50000,300000,20000\n")
    assert usage.exit_code == 0, usage.output
    cost = run(ANTHROPIC_COST + "2026-11-03,Claude Haiku 4.5,w,input,0.75\n2026-11-03,Claude Haiku 4.5,w,output,0.10\n")
    assert cost.exit_code == 0, cost.output
    assert "Anthropic cost, 2026-11-03 to 2026-11-03, beside the attempts on claude: 1 of 1" in cost.output


def test_any_table_with_a_date_and_a_cost_will_do(run):
    assert run("Date,Cost\n2026-11-02,7.50\n2026-11-03,4.60\n").exit_code == 0
    found = run("date,model,input_tokens,output_tokens,cost\n2026-11-02,gpt-4o,1000000,500000,$7.50\n", "--json")
    assert line(found)["agrees"]
    assert line(found)["difference_usd"] == "0.000000000000"


def test_a_discount_is_recognised_by_its_factor(run):
    result = run("date,model,tokens,cost\n2026-11-02,gpt-4o,1500000,6.375\n", "--json")
    assert result.exit_code == 1
    assert line(result)["reasons"] == [
        "the tokens agree, and the bill is 0.850 times the ledger: other prices, or a discount"
    ]


def test_calls_around_midnight_are_recognised(run):
    text = "date,model,tokens,cost\n2026-11-02,gpt-4o,700000,4\n2026-11-03,gpt-4o,1550000,7.25\n"
    result = run(text)
    assert result.exit_code == 1
    assert "2026-11-02 gpt-4o: 2026-11-03 differs the other way: calls around midnight (UTC)" in result.output


def test_what_one_side_does_not_know_is_said(run):
    found = json.loads(run("date,model,cost\n2026-11-02,gpt-5,3\n", "--provider", "openai", "--json").output)["lines"]
    assert [(each["model"], each["ledger_usd"], each["bill_usd"]) for each in found] == [
        ("gpt-4o", "7.500000000000", "0"),
        ("gpt-5", "0", "3"),
    ]
    assert "another account" in found[0]["reasons"][0]
    assert "nothing of it went through Penstock" in found[1]["reasons"][0]


def test_a_larger_bill_says_that_others_may_use_the_account(run):
    result = run("date,model,tokens,cost\n2026-11-02,gpt-4o,3000000,20\n", "--json")
    assert line(result)["reasons"] == ["calls with the same account that did not go through Penstock"]


def test_the_tolerance_decides(run):
    text = "date,model,cost\n2026-11-02,gpt-4o,7.9\n"
    assert run(text).exit_code == 1
    assert run(text, "--tolerance", "10%").exit_code == 0
    assert run(text, "--tolerance", "0.1").exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns none"),
        ("name,price\nx,1\n", "it has the columns name, price"),
        ("date,cost\nyesterday,1\n", "line 2: 'yesterday' is not a date"),
        ("date,cost\n2026-11-02,much\n", "line 2: not a number"),
        ("date,cost\n2026-11-02,NaN\n", "line 2"),
        ("date,cost,currency\n2026-11-02,1,eur\n", "the amount is in EUR"),
        ("date,cost\n", "bills nothing"),
    ],
)
def test_a_file_that_is_no_bill_is_refused(run, text, message):
    result = run(text)
    assert result.exit_code == 2
    assert message in result.output


def test_a_tolerance_that_is_none_is_refused(run):
    assert "--tolerance is a share" in run("date,cost\n2026-11-02,1\n", "--tolerance", "lots").output
