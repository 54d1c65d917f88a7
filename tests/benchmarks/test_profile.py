"""How time and instructions are shared out among parts."""

from pathlib import Path

import pytest
from benchmarks.profile.apportioning import owned, totalled
from benchmarks.profile.page import rows
from benchmarks.profile.parts import FILES, LOOP, Parts

from penstock.pipeline import CALL, TARGET

SOURCE = Path(__file__).parents[2] / "src"

PART = Parts().names[1]
CALLGRIND = """\
version: 1
fn=(1) _PyEval_EvalFrameDefault
0 500
cfn=(2) hook
calls=2 0
0 900
fn=(2)
0 40
cfn=(3) arc_00a
calls=1 0
0 600
cfn=(4) arc_00b'2
calls=1 0
0 260
cfn=(1)
calls=3 0
0 70
fn=(3)
0 5
cfn=(1)
calls=1 0
0 595
totals: 1400
"""


def part_of(path: str) -> str:
    return next(part for start, part in FILES if path.startswith(start))


def test_each_layer_is_a_part_of_its_own():
    for name in {name for name, _ in (*CALL, *TARGET)}:
        assert part_of(f"penstock/layers/{name}.py") == f"layer {name}"


def test_each_start_in_the_table_is_of_files_that_are_there_and_not_hidden_by_an_earlier_one():
    for position, (start, _) in enumerate(FILES):
        if start.startswith("penstock/"):
            assert (SOURCE / start).exists(), start
        assert not any(start.startswith(earlier) for earlier, _ in FILES[:position]), start


def test_by_file_each_file_is_a_part_of_its_own():
    parts = Parts.files_of_source()
    assert "penstock/pipeline.py" in parts.names
    assert len(parts.names) < 1024, "more than frames.c has room for"


def test_what_callgrind_counted_within_each_arc_is_read():
    assert totalled(CALLGRIND.splitlines()) == (1400, {0xA: 600, 0xB: 260})


def test_a_part_has_what_it_costs_without_what_it_calls():
    arcs = {0: (0, 0, 1), 1: (1, 1, 2), 2: (2, 2, 1)}
    assert owned(1000, arcs, {0: 700, 1: 500, 2: 100}) == {0: 300, 1: 300, 2: 400}


def test_counts_that_do_not_add_up_are_refused():
    with pytest.raises(RuntimeError, match="do not add up"):
        owned(1000, {0: (0, 0, 1), 1: (1, 1, 2)}, {0: 100, 1: 500})


def test_the_table_has_each_part_that_costs_something_and_the_sums():
    us = {kind: {LOOP: 1.0, f"kernel, for {LOOP}": 2.0} for kind in ("hit", "json", "sse")}
    counts = {kind: {PART: 3000.0} for kind in ("hit", "json", "sse")}
    table = rows(us, counts, {"json": 5000})
    assert f"| {LOOP} | 1.0 | 1.0 | 1.0 |  |  |  |" in table
    assert f"| {PART} |  |  |  | 3.0 | 3.0 | 3.0 |" in table
    assert "| **all** | 3.0 | 3.0 | 3.0 | 3.0 | 8.0 | 3.0 |" in table
