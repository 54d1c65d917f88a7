"""Prompts from files, read again, rolled back and stood in for."""

import os
import sys
import threading

import pytest

from penstock.config.prompts import PromptSettings
from penstock.core.errors import ConfigError, InvalidRequest
from penstock.prompt_library import PromptLibrary
from penstock.stores.opening import open_store
from penstock.testing import FakeClock

BUILT_IN = {"greet": {"user": "Hello, {{ name }}", "variables": {"name": "string"}, "model": "small"}}


def say(library, version=None):
    return library.render("greet", {"name": "Ada"}, version)


@pytest.fixture
async def store(tmp_path):
    stores = open_store(f"sqlite:///{tmp_path}/penstock.db", FakeClock(), lambda *_: (None, "unknown"))
    await stores.start()
    yield stores.states
    await stores.aclose()


def test_it_can_be_used_alone(directory):
    library = PromptLibrary(directory)
    assert library.list() == ["greet", "story"]
    assert say(library).messages[1] == {"role": "user", "content": "Say hello to Ada."}
    assert say(library, "staging").tag == "greet@2"
    lines = library.difference("greet", "1", "2")
    assert {"-parameters.seed: 7", "+parameters.seed: 8", "+model: slow", "-  You are {{ tone }}."} <= set(lines)
    assert library.difference("greet", "2", "staging") == []


def test_reading_again_changes_all_or_nothing(directory):
    library = PromptLibrary(directory)
    before = library.current
    greet = directory / "greet.yaml"
    good = greet.read_text()
    (directory / "new.yaml").write_text("user: hi")
    greet.write_text(good.replace("Say hello", "Say {{ word }} hello"))
    with pytest.raises(ConfigError, match=r"greet\.yaml:13: .*the variable 'word' is not declared"):
        library.reload()
    assert library.current is before
    greet.write_text(good.replace("Say hello", "Wave"))
    done = library.reload()
    assert (done.added, done.changed, done.removed, done.prompts) == (["new"], ["greet"], [], 3)
    assert say(library).messages[1]["content"] == "Wave to Ada."
    assert before.find("greet").find().render({"name": "Ada"}).messages[1]["content"] == "Say hello to Ada."
    assert library.reload().changed == []
    (directory / "new.yaml").unlink()
    assert library.reload().removed == ["new"]


def test_all_that_is_wrong_is_said_at_once(directory):
    library = PromptLibrary(directory)
    (directory / "a.yaml").write_text("sytem: x\nlabels: {}\n")
    (directory / "b.yaml").write_text("user: |\n  fine\n  {% if %}\n")
    (directory / "c.json").write_text('{"user": "x",}')
    (directory / "d.yaml").write_text("user: x\nlabels: {production: 4}\n")
    (directory / "e.yaml").write_text("user: x\nname: greet\nversion: 1\n")
    with pytest.raises(ConfigError) as caught:
        library.reload()
    said = str(caught.value)
    for part in ("a.yaml:1: unknown key 'sytem', did you mean 'system'?", "c.json:1: not valid JSON",
                 "there is no version '4'", "has version '1' of the prompt 'greet' too", "b.yaml:3: "):  # fmt: skip
        assert part in said


def test_versions_may_be_in_several_files_and_share_texts(directory):
    (directory / "greet.v3.yaml").write_text(
        "name: greet\nversion: 3\nvariables: {name: string}\n"
        "system: \"{% include 'rules.j2' %}\"\nuser: '{{ name }}?'\n"
    )
    (directory / "rules.j2").write_text("Be kind.\n")
    library = PromptLibrary(directory)
    assert say(library, "3").messages[0] == {"role": "system", "content": "Be kind."}
    (directory / "rules.j2").write_text("Be {{ kind }}.\n")
    with pytest.raises(ConfigError, match="the variable 'kind' is not declared"):
        library.reload()
    (directory / "rules.j2").write_text("Be terse.\n")
    library.reload()
    assert say(library, "3").messages[0]["content"] == "Be terse."


def test_a_built_in_prompt_stands_in_for_a_file_that_is_missing_or_broken_at_the_start(directory):
    (directory / "greet.yaml").write_text("user: '{{ oops'\n")
    with pytest.raises(ConfigError, match=r"greet\.yaml:1"):
        PromptLibrary(directory)
    for broken in ("user: '{{ oops'\n", "usr: x\n", "user: ["):
        (directory / "greet.yaml").write_text(broken)
        library = PromptLibrary(directory, built_in=BUILT_IN)
        assert say(library).tag == "greet@built-in"
        assert library.current.find("greet").definition.built_in
        assert "prompt greet is broken, the built-in one is used" in library.warnings[0]
    (directory / "greet.yaml").unlink()
    library = PromptLibrary(directory, built_in=BUILT_IN)
    assert "prompt greet has no file" in library.warnings[0]
    library = PromptLibrary(directory / "nowhere", built_in=BUILT_IN)
    assert say(library).messages == [{"role": "user", "content": "Hello, Ada"}]
    assert "there is no such directory" in library.warnings[0]
    with pytest.raises(ConfigError, match="there is no such directory"):
        PromptLibrary(directory / "nowhere")


def test_a_file_is_never_replaced_by_a_built_in_prompt_while_it_runs(directory):
    library = PromptLibrary(directory, built_in=BUILT_IN)
    (directory / "greet.yaml").write_text("usr: x\n")
    with pytest.raises(ConfigError):
        library.reload()
    assert say(library).tag == "greet@1"
    assert library.warnings == ()


def test_built_in_prompts_alone_are_prompts_like_others():
    library = PromptLibrary(built_in=BUILT_IN)
    assert say(library).tag == "greet@built-in"
    assert not library.current.find("greet").definition.built_in
    with pytest.raises(ConfigError, match="unknown key 'usr'"):
        PromptLibrary(built_in={"greet": {"usr": "x"}})


async def test_a_rollback_survives_a_restart_and_gives_way_to_a_new_file(directory, store):
    settings, clock = PromptSettings(directory=str(directory)), FakeClock()
    library = await PromptLibrary.open(settings, store, clock)
    moved = await library.rollback("greet", to="staging", by="ada")
    assert (moved.before, moved.after, moved.by) == ("1", "2", "ada")
    assert say(library).tag == "greet@2"

    library = await PromptLibrary.open(settings, store, clock)
    assert say(library).tag == "greet@2"
    await library.refresh()
    assert say(library).tag == "greet@2"
    assert (await library.rollback("greet")).after == "1"
    with pytest.raises(InvalidRequest, match="no version before 1") as caught:
        await library.rollback("greet")
    assert caught.value.code == "prompt_version_not_found"

    greet = directory / "greet.yaml"
    greet.write_text(greet.read_text().replace("production: 1", "production: 2"))
    library = await PromptLibrary.open(settings, store, clock)
    assert say(library).tag == "greet@2"
    assert [(each.before, each.after, each.by) for each in library.current.find("greet").state.moves] == [
        ("1", "2", "ada"), ("2", "1", ""), ("1", "2", "files")
    ]  # fmt: skip


async def test_a_label_of_ones_own_can_be_set(directory):
    library = PromptLibrary(directory)
    with pytest.raises(InvalidRequest, match="no label 'canary'"):
        await library.rollback("greet", "canary")
    await library.rollback("greet", "canary", "2")
    assert say(library, "canary").tag == "greet@2"
    with pytest.raises(InvalidRequest, match="no version or label '9'"):
        await library.rollback("greet", to="9")


async def test_it_keeps_up_with_files_that_have_settled(directory, caplog):
    library = PromptLibrary(directory)
    greet = directory / "greet.yaml"
    good = greet.read_text()

    async def after(text):
        greet.write_text(text)
        for _ in range(2):
            await library.keep_up()
        return say(library).messages[1]["content"]

    assert await after(good) == "Say hello to Ada."
    greet.write_text(good.replace("Say hello", "Wave hands"))
    await library.keep_up()
    assert say(library).messages[1]["content"] == "Say hello to Ada."  # it may not be all yet
    await library.keep_up()
    assert say(library).messages[1]["content"] == "Wave hands to Ada."
    assert await after(good.replace("Say hello", "{% if %}")) == "Wave hands to Ada."
    for _ in range(3):
        await library.keep_up()
    assert caplog.text.count("the new prompts are not used") == 1
    assert await after(good) == "Say hello to Ada."


def test_a_change_of_the_directory_behind_a_link_is_noticed_and_read_whole(directory, tmp_path):
    link = tmp_path / "live"
    link.symlink_to(directory)
    library = PromptLibrary(link)
    assert library.changed() is None
    other = tmp_path / "other"
    other.mkdir()
    (other / "greet.yaml").write_text('user: "Hi {{ name }}"\nvariables: {name: string}\n')
    (tmp_path / "next").symlink_to(other)
    os.replace(tmp_path / "next", link)
    assert library.changed() is not None
    assert library.reload().removed == ["story"]
    assert library.changed() is None
    assert say(library).messages == [{"role": "user", "content": "Hi Ada"}]


def test_every_rendering_is_of_one_set_while_files_are_read_again(directory):
    """Both prompts say the number of their set; a reader that takes the set once sees one number."""
    source = "user: 'set {}'\n"

    def write(number):
        for name in ("one", "two"):
            (directory / f"{name}.yaml").write_text(source.format(number))

    write(0)
    library = PromptLibrary(directory)
    stop, torn = threading.Event(), []

    def read():
        while not stop.is_set():
            current = library.current
            said = {current.find(name).find().render({}).messages[0]["content"] for name in ("one", "two")}
            if len(said) > 1:
                torn.append(said)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 30):
        write(number)
        library.reload()
    stop.set()
    reader.join()
    assert torn == []


def test_without_jinja2_it_says_what_to_install(directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "penstock.prompts.sandbox", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'penstock\[prompts\]'"):
        PromptLibrary(directory)
    assert PromptLibrary().list() == []
