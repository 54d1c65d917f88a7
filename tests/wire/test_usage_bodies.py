import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.canonical import read_usage
from penstock.core.usage import Usage
from penstock.wire.openai_answers import parse_answer
from penstock.wire.usage_bodies import FORMS, find_form, read_body_usage

BODIES = [
    (
        "chat",
        {
            "usage": {
                "prompt_tokens": 50,
                "completion_tokens": 40,
                "total_tokens": 90,
                "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 7, "image_tokens": 6, "video_tokens": 5},
                "completion_tokens_details": {"reasoning_tokens": 9, "audio_tokens": 3, "image_tokens": 2},
            },
            "service_tier": "flex",
        },
        Usage(50, 40, 8, reasoning_tokens=9, input_audio_tokens=7, input_image_tokens=6, input_video_tokens=5,
              output_audio_tokens=3, output_image_tokens=2, service_tier="flex"),
    ),
    ("chat", {"usage": {"prompt_tokens": 4, "total_tokens": 4}, "service_tier": "default"}, Usage(4)),
    (
        "responses",
        {
            "usage": {
                "input_tokens": 45,
                "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 7},
                "output_tokens": 30,
                "output_tokens_details": {"reasoning_tokens": 20},
            }
        },
        Usage(45, 30, 5, 7, 20),
    ),
    (
        "anthropic",
        {
            "usage": {
                "input_tokens": 6,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
                "output_tokens": 9,
                "output_tokens_details": {"thinking_tokens": 4},
                "server_tool_use": {"web_search_requests": 2},
                "service_tier": "standard",
            }
        },
        Usage(136, 9, 100, 30, 4, cache_write_1h_tokens=20, web_searches=2),
    ),
    (
        "gemini",
        {
            "usageMetadata": {
                "promptTokenCount": 100,
                "toolUsePromptTokenCount": 11,
                "cachedContentTokenCount": 40,
                "candidatesTokenCount": 20,
                "thoughtsTokenCount": 5,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 10},
                    {"modality": "AUDIO", "tokenCount": 30},
                    {"modality": "IMAGE", "tokenCount": 20},
                    {"modality": "DOCUMENT", "tokenCount": 15},
                    {"modality": "VIDEO", "tokenCount": 25},
                ],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 12}, {"modality": "VIDEO", "tokenCount": 3}],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 18}],
                "serviceTier": "FLEX",
            }
        },
        Usage(111, 25, 40, reasoning_tokens=5, input_audio_tokens=30, cached_audio_tokens=12, input_image_tokens=35,
              output_image_tokens=18, input_video_tokens=25, cached_video_tokens=3, service_tier="flex"),
    ),
    (
        "bedrock",
        {
            "usage": {
                "inputTokens": 3,
                "outputTokens": 8,
                "cacheReadInputTokens": 4,
                "cacheWriteInputTokens": 20,
                "cacheDetails": [{"inputTokens": 15, "ttl": "1h"}, {"inputTokens": 5, "ttl": "5m"}],
            }
        },
        Usage(27, 8, 4, 20, cache_write_1h_tokens=15),
    ),
    ("cohere", {"usage": {"billed_units": {"input_tokens": 5, "output_tokens": 2}, "tokens": {}}}, Usage(5, 2)),
    ("cohere", {"meta": {"billed_units": {"input_tokens": 4}}}, Usage(4)),
    ("ollama", {"prompt_eval_count": 26, "eval_count": 298, "done": True}, Usage(26, 298)),
]  # fmt: skip


@pytest.mark.parametrize(("form", "body", "usage"), BODIES)
def test_bodies_are_told_apart_by_their_shape(form, body, usage):
    assert find_form(body).name == form
    assert read_body_usage(body) == usage


def test_every_form_is_tested():
    assert {form.name for form in FORMS} == {name for name, _, _ in BODIES}


@pytest.mark.parametrize(
    "body",
    [{}, {"usage": None}, {"usage": {}}, {"usage": 5}, {"usage": {"prompt_tokens": "many"}}, {"usageMetadata": 1}],
)
def test_a_body_without_counts_has_none(body):
    found = read_body_usage(body)
    assert found is None or found == Usage()


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from(
    ["prompt_tokens", "prompt_tokens_details", "input_tokens", "cache_creation", "server_tool_use", "inputTokens",
     "billed_units", "promptTokenCount", "promptTokensDetails", "input_tokens_details", "output_tokens_details"]
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["usage", "usageMetadata", "meta"]), st.dictionaries(_names, _json)))
def test_no_body_is_too_strange(body):
    read_body_usage(body)


def test_counts_are_found_where_other_servers_put_them():
    assert read_usage({"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 5}).cached_input_tokens == 5
    assert read_usage({"prompt_tokens": "9", "completion_tokens": 1.0, "prompt_tokens_details": []}) == Usage(9, 1)
    older = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5}
    assert read_usage(older).cached_input_tokens == 4


def test_reasoning_left_out_of_the_completion_is_added_and_never_twice():
    details = {"completion_tokens_details": {"reasoning_tokens": 100}}
    left_out = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 130, **details}
    within = {"prompt_tokens": 10, "completion_tokens": 120, "total_tokens": 130, **details}
    for body in (left_out, within):
        assert read_usage(body) == Usage(10, 120, reasoning_tokens=100)


def test_the_tier_of_an_answer_is_kept():
    body = {"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 1}, "service_tier": "priority"}
    assert parse_answer(json.dumps(body).encode())[0].service_tier == "priority"
