import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from penstock import __version__
from penstock.cli import COMMANDS, main
from penstock.cli.output import emit


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_the_commands_without_importing_them():
    code = (
        "import sys\nfrom penstock.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'yaml', 'rich', 'sqlalchemy', 'starlette', 'uvicorn'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    shown = python("-c", code).stdout
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert "heavy: []" in shown


def test_python_m_penstock_is_the_command():
    assert python("-m", "penstock", "--version").stdout == f"penstock, version {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name):
    command = main.get_command(click.Context(main), name)
    commands = command.commands.values() if isinstance(command, click.Group) else [command]
    for each in commands:
        assert each.help
        assert any("--json" in parameter.opts for parameter in each.params), each.name
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_an_unknown_command_is_bad_usage():
    result = CliRunner().invoke(main, ["serv"])
    assert result.exit_code == 2
    assert "No such command 'serv'" in result.stderr


def test_tables_keep_rows_whole_and_show_control_characters(capsys):
    emit([{"name": "a\x1b[31m", "n": 5}, {"name": "[bold]" + "x" * 300, "n": 10_000.5}], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("a\\x1b[31m ")
    assert lines[2].startswith("[bold]" + "x" * 300)
    assert lines[2].endswith("10000.5")


def test_json_is_for_programs(capsys):
    emit([{"name": "é", "n": None}], as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"name": "é", "n": None}]
