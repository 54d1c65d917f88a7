import csv
import json
import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.core.call import Attempt, Call
from penstock.core.clock import SystemClock
from penstock.core.request import Request
from penstock.core.usage import Usage
from penstock.stores.opening import open_store

COST = Decimal("0.000000125")
EVIL = "=<script>alert(1)</script>\x1b[31m"


@pytest.fixture
async def url(tmp_path):
    url = f"sqlite:///{tmp_path}/penstock.db"
    stores = open_store(url, SystemClock())
    await stores.start()
    tried = {"duration_s": 1.0, "first_token_s": 0.5, "outcome": "ok", "usage": Usage(1000, 200)}
    paid = Attempt("openai", "m", 0.0, cost_usd=COST, cost_source="provider", **tried)
    for tenant, model, call, outcome in (
        ("acme/web", "fast", Call("req_1", attempts=[paid]), "ok"),
        ("acme/web", "fast", Call("req_2", cache="hit", saved_usd=COST, usage=Usage(1000, 200)), "ok"),
        ("acme/app", EVIL, Call("req_3", attempts=[paid]), "upstream_timeout"),
    ):
        request = Request("chat", model, {}, call, tags=(EVIL,), tenant=tenant)
        stores.ledger.record(request, call, duration_s=1.5, outcome=outcome)
    await stores.aclose()
    return url


def run(*arguments):
    result = CliRunner().invoke(main, ["usage", "report", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_text_says_everything(url):
    text = run("--store", url, "--by", "team,model")
    assert "3 calls, 66.7% answered, 33.3% failed" in text
    assert re.search(r"acme/web +fast +2 +100\.0% +0 +50\.0%", text)
    assert re.search(r"upstream_timeout +=<script>", text)
    assert re.search(r"hit rate +33\.33% +acceptable +60\.00%", text)
    assert "0.00000025 $" in text
    assert "\x1b" not in text


def test_json_is_exact(url):
    report = json.loads(run("--store", url, "--format", "json", "--by", "organisation"))
    assert json.loads(run("--store", url, "--json", "--by", "organisation"))["lines"] == report["lines"]
    (acme,) = report["lines"]
    assert (acme["group"], acme["calls"]) == ({"organisation": "acme"}, 3)
    assert Decimal(report["total"]["cost_usd"]) == 2 * COST
    assert isinstance(report["total"]["cost_usd"], str)
    assert {rating["name"] for rating in report["ratings"]} >= {"hit rate", "error rate"}


def test_csv_has_a_row_a_line_and_no_formula(url):
    rows = list(csv.DictReader(run("--store", url, "--format", "csv", "--by", "tag").splitlines()))
    (row,) = rows
    assert row["tag"] == "'" + EVIL.replace("\x1b", "\\x1b")
    assert (row["calls"], Decimal(row["cost_usd"])) == ("3", 2 * COST)
    (total,) = csv.DictReader(run("--store", url, "--format", "csv", "--by", "").splitlines())
    assert total["calls"] == "3"


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_one_file_that_asks_for_nothing(url, tmp_path):
    target = tmp_path / "report.html"
    assert run("--store", url, "--format", "html", "--by", "model", "--output", str(target)) == ""
    source = target.read_text()
    page = Page()
    page.feed(source)
    assert page.links == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("svg") == 4
    assert "url(" not in source
    assert "default-src 'none'" in source
    assert EVIL.replace("\x1b", "\\x1b") in page.text


def test_one_tenant(url):
    assert "2 calls" in run("--store", url, "--tenant", "acme/web")
    for form in ("text", "html"):
        assert "No calls." in run("--store", url, "--tenant", "nobody", "--format", form)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--by", "colour"], 2, "cannot split usage by 'colour'"), (["--format", "pdf"], 2, "'html'"),
     (["--output", "/nowhere/x"], 1, "No such file")],
)  # fmt: skip
def test_what_is_wrong_is_explained(url, arguments, code, said):
    result = CliRunner().invoke(main, ["usage", "report", "--store", url, *arguments])
    assert result.exit_code == code
    assert said in result.output
