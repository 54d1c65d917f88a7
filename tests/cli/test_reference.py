from pathlib import Path

from click.testing import CliRunner

from penstock.cli import main
from penstock.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


def test_the_page_in_the_documentation_is_up_to_date():
    assert PAGE.read_text() == reference(), "write it anew: penstock --reference > docs/reference/command-line.md"


def test_the_option_prints_it():
    result = CliRunner().invoke(main, ["--reference"])
    assert (result.exit_code, result.output) == (0, reference())


def test_every_command_and_option_is_there():
    page = reference()
    for name in ("serve", "demo", "config check", "config show", "config schema", "config import", "doctor", "usage"):
        assert f"\n## `penstock {name}`\n\n    penstock {name}" in page
    assert "`--port INTEGER RANGE`" in page
    assert "Exit codes: 0 stopped, 2" in page
