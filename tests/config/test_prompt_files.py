"""What a file of a prompt may say, and where what is wrong with it is."""

import pytest

from penstock.config.prompt_files import read_prompt, read_prompts
from penstock.core.errors import ConfigError


def read(text, name="greet.yaml"):
    return read_prompt(text, name, f"prompts/{name}")


def only(made):
    (version,) = made.versions.values()
    return version


def test_the_shortest_prompt():
    made = read("user: Hello\n")
    assert (made.name, list(made.versions), made.labels) == ("greet", ["1"], {})
    assert [(text.role, text.source, text.file, text.line) for text in only(made).texts] == [
        ("user", "Hello", "prompts/greet.yaml", 1)
    ]


def test_templates_know_their_lines():
    made = read("versions:\n  1:\n    system: |\n      a\n    user: b\n  2:\n    messages:\n      - role: user\n"
                "        content: |-  # said\n          c\n")  # fmt: skip
    lines = {name: [text.line for text in version.texts] for name, version in made.versions.items()}
    assert lines == {"1": [4, 5], "2": [10]}


def test_versions_share_what_is_beside_them():
    made = read(
        "model: fast\nparameters: {temperature: 0, seed: 1}\nvariables: {a: string}\nversions:\n"
        "  1: {user: x}\n"
        "  2: {user: y, model: slow, parameters: {seed: 2}, variables: {b: integer}}\n"
    )
    one, two = made.versions["1"], made.versions["2"]
    assert (one.model, two.model) == ("fast", "slow")
    assert (one.parameters, two.parameters) == ({"temperature": 0, "seed": 1}, {"temperature": 0, "seed": 2})
    assert (list(one.variables), list(two.variables)) == (["a"], ["a", "b"])


def test_json_is_read_as_json():
    made = read('{\n\t"text": "tab\\tand \\ud83d\\ude00 \\/",\n\t"variables": {}\n}', "story.json")
    assert only(made).texts[0].source == "tab\tand 😀 /"
    assert only(made).texts[0].line == 2
    with pytest.raises(ConfigError, match=r"prompts/story\.json:2: not valid JSON"):
        read('{"user": "x",\n}', "story.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "greet.yaml:1: the file is not a mapping"),
        ("- user: x", "greet.yaml:1: the file is not a mapping"),
        ("user: [", "not valid YAML"),
        ("user: x\nuser: y", "greet.yaml:2: the key 'user' is there twice"),
        ("user: x\ntext: y", "one of messages, text, and system with user"),
        ("description: x", "one of messages, text, and system with user"),
        ("versions:\n  1: {user: x}\n  2: {}", "in version 2"),
        ("versions:\n  1: {user: x}\nuser: y", "templates and version in each of versions"),
        ("user: x\nversion: 1.10", "greet.yaml:2: version: not a string (expected a string; put it in quotes"),
        ("user: x\nname: a b", "greet.yaml:2: name"),
        ("user: x\nvariables: {a: text}", "greet.yaml:2: variables.a.type: got 'text' (expected string, integer"),
        ("user: x\nvariables:\n  a: {type: enum}", "greet.yaml:3: variables.a: not usable (expected values with"),
        (
            "user: x\nvariables:\n  a: {type: integer, default: x}",
            "greet.yaml:3: variables.a: not usable (expected a def",
        ),
        ("user: x\nvariables: {a-b: string}", "greet.yaml:2: variables.a-b"),
        ("user: x\nparameters: {messages: []}", "fields such as temperature in parameters, not messages"),
        ("user: x\nparameters: {temperature: .nan}", "parameters that can be written as JSON"),
        ("messages: [{role: tool, content: x}]", "greet.yaml:1: messages[0].role: got 'tool'"),
        ("user: 3", "greet.yaml:1: user: not a string"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, said):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert said in str(caught.value)


def test_files_that_are_no_prompts_are_passed_over(tmp_path):
    (tmp_path / "greet.yml").write_text("user: x")
    for name in ("README.md", ".hidden.yaml", "greet.yaml~"):
        (tmp_path / name).write_text("what: ever")
    found = read_prompts(str(tmp_path))
    assert list(found.prompts) == ["greet"]
    assert found.problems == ()


def test_files_with_the_same_text_are_not_read_again(tmp_path):
    (tmp_path / "a.yaml").write_text("user: x")
    (tmp_path / "b.yaml").write_text("user: y")
    first = read_prompts(str(tmp_path))
    (tmp_path / "b.yaml").write_text("user: z")
    second = read_prompts(str(tmp_path), first.read)
    assert second.prompts["a"] is first.prompts["a"]
    assert only(second.prompts["b"]).texts[0].source == "z"
