import pytest

from penstock.core.errors import InvalidRequest
from penstock.wire.chat_messages import FunctionCall, ToolCall, read_arguments, read_data_url, read_messages


@pytest.mark.parametrize(
    "messages",
    [None, [], "hello", ["hello"], [{"content": "x"}], [{"role": 3}], [{"role": "user", "content": 5}],
     [{"role": "assistant", "tool_calls": [{"function": {}}]}]],
)  # fmt: skip
def test_malformed_messages_are_refused_saying_where(messages):
    with pytest.raises(InvalidRequest) as caught:
        read_messages({"messages": messages})
    assert caught.value.param == "messages"


@pytest.mark.parametrize("text", ["[1]", "{", "nonsense", "[" * 10_000])
def test_arguments_that_are_no_object_are_refused(text):
    with pytest.raises(InvalidRequest, match="'call_1'"):
        read_arguments(ToolCall(FunctionCall("f", text), "call_1"))


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("data:image/png;base64,AAAA", ("image/png", "AAAA")),
        ("DATA:image/jpeg;name=a.jpg;base64,AA==", ("image/jpeg", "AA==")),
        ("https://example.com/a.png", None),
    ],
)
def test_data_urls(url, read):
    assert read_data_url(url) == read


@pytest.mark.parametrize("url", ["data:image/png,AAAA", "data:image/png;base64"])
def test_data_urls_that_are_not_base64_are_refused(url):
    with pytest.raises(InvalidRequest, match="base64"):
        read_data_url(url)
