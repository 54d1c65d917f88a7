"""A third of the fault matrix, each fault once; `make faults` plays all of it."""

import uvloop
from benchmarks.faults import aborts, dead, running
from benchmarks.faults.cells import PLACES
from benchmarks.faults.reporting import page

ROTATION = len(PLACES)


def sample():
    cells = running.all_cells()
    return [cell for number, cell in enumerate(cells) if number % ROTATION == number // ROTATION % ROTATION]


def test_the_matrix_is_as_large_as_promised_and_every_cell_is_another():
    cells = running.all_cells()
    assert len(cells) >= 200
    assert len({cell.id for cell in cells}) == len(cells)
    marks = [(cell.fault.line, cell.fault.name, cell.fault.moment, cell.fault.kind, cell.place) for cell in cells]
    assert len(set(marks)) == len(marks)
    assert {cell.fault.line for cell in cells} == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}


def test_every_fault_comes_to_what_it_should():
    result = uvloop.run(running.run(sample(), every=2))
    assert len(result.rows) > 150
    assert [row for row in result.rows if row.problems] == []
    assert result.leaks == []
    assert f"**{len(result.rows)} of {len(result.rows)} cells pass**" in page(result)


def test_clients_that_hang_up_leave_nothing_behind():
    aborted = uvloop.run(aborts.run(200, seed=7))
    assert aborted.clients == 200
    assert aborted.remarks == []
    assert len(aborted.closed_ms) > 100
    assert max(aborted.closed_ms) < 1000


def test_a_dead_provider_is_not_noticed():
    survived = uvloop.run(dead.run(2000))
    assert survived.failures == []
