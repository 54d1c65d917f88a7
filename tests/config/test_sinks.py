import pytest

from penstock.core.errors import ConfigError

SINKS = """\
sinks:
  - {name: ops, kind: webhook, url: https://example.org/hook}
  - {name: desk, kind: mail, host: mail.example.org, sender: a@example.org, recipients: [b@example.org]}
"""


def test_alerts_name_the_sinks_that_are_told(loading):
    loaded = loading(SINKS + "alerts: {sinks: [ops], rules: [{name: r, metric: hit_rate, operator: lt, threshold: 0.3, "
                             "sinks: [desk, ops]}]}\n")  # fmt: skip
    assert loaded.settings.alerts.rules[0].sinks == ["desk", "ops"]


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ("{sinks: [opps]}", "alerts.sinks[0]: there is no sink named 'opps', did you mean 'ops'?"),
        ("{rules: [{name: r, metric: m, threshold: 1, sinks: [ops, none]}]}",
         "alerts.rules[0].sinks[1]: there is no sink named 'none'"),
    ],
)  # fmt: skip
def test_a_sink_that_is_not_there_is_an_error(loading, alerts, said):
    with pytest.raises(ConfigError) as caught:
        loading(SINKS + f"alerts: {alerts}\n")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ("{name: a, kind: webhook}", "url for a sink of kind webhook"),
        ("{name: a, kind: mail, host: h}", "sender and recipients for a sink of kind mail"),
        ("{name: a, kind: log, user: u}", "both user and password, or neither"),
        ("{name: a, kind: pager}", "webhook, mail, log"),
    ],
)
def test_a_sink_says_where_to(loading, sink, said):
    with pytest.raises(ConfigError) as caught:
        loading(f"sinks: [{sink}]\n")
    assert said in str(caught.value)
