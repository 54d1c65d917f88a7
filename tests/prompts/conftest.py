"""Prompts in a directory."""

import pytest

GREET = """\
description: Greets somebody.
labels: {production: 1, staging: 2}
model: fast
parameters: {temperature: 0.2, seed: 7}
variables:
  name: {type: string, max_length: 40, description: Who is greeted.}
  tone: {type: enum, values: [formal, friendly], default: friendly}
versions:
  1:
    system: |
      You are {{ tone }}.
      Be brief.
    user: "Say hello to {{ name }}."
  2:
    model: slow
    parameters: {seed: 8}
    messages:
      - {role: developer, content: "Tone: {{ tone }}"}
      - {role: user, content: "Greet {{ name }}"}
"""
STORY = '{"text": "Once upon \\ud83d\\ude00 {{ what }}", "variables": {"what": "string"}}'


@pytest.fixture
def directory(tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "greet.yaml").write_text(GREET)
    (folder / "story.json").write_text(STORY)
    return folder
