"""Where the processes of a gateway meet."""

import os
import socket
import stat

import pytest

from penstock.workers.place import meeting_place


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def listen(folder, name: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / name))
    listening.listen()
    return listening


def test_it_is_this_users_alone_and_gone_afterwards(here):
    with meeting_place() as directory:
        assert os.path.dirname(directory) == str(here)
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    assert os.listdir(here) == []


def test_what_killed_gateways_left_is_removed_and_what_lives_or_is_being_made_is_not(here):
    for name in ("penstock-killed", "penstock-draining", "penstock-new", "other"):
        (here / name).mkdir(mode=0o700)
    (here / "penstock-link").symlink_to(here / "other")
    for folder in ("penstock-killed", "penstock-draining", "other"):
        listen(here / folder, "0.sock").close()
    with listen(here / "penstock-draining", "2.sock"), meeting_place() as directory:
        assert sorted(os.listdir(here)) == sorted(
            ["other", "penstock-draining", "penstock-link", "penstock-new", os.path.basename(directory)]
        )
