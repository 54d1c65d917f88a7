"""The check of instructions per request: what it compares, and what it says."""

from benchmarks.profile import record

RECORDED = {"hit": 100_000, "json": 1_000_000}


def test_a_row_that_is_a_tenth_dearer_fails_and_says_which_by_how_much_and_what_to_do():
    hit, json = record.compare({"hit": 110_001, "json": 1_100_000}, RECORDED)
    assert hit.failed
    assert not json.failed
    said = str(hit)
    assert all(part in said for part in ("hit:", "110,001", "100,000", "+10.0%", "benchmarks.profile --record"))


def test_a_cheaper_row_passes_and_a_much_cheaper_one_is_to_be_recorded_anew():
    hit, json = record.compare({"hit": 85_000, "json": 990_000}, RECORDED)
    assert not hit.failed
    assert not json.failed
    assert "recorded anew" in str(hit)
    assert "recorded anew" not in str(json)


def test_a_row_that_is_not_recorded_passes_and_says_so():
    (new,) = record.compare({"sse": 1}, RECORDED)
    assert not new.failed
    assert "not recorded" in str(new)


def test_a_record_keeps_those_of_other_builds(tmp_path):
    file = tmp_path / "instructions.json"
    file.write_text('{"another build": {"hit": 7}}')
    record.write(RECORDED, file)
    assert record.read(file) == {"another build": {"hit": 7}, record.build(): RECORDED}


def test_the_tracked_file_has_all_rows_of_each_build():
    for rows in record.read().values():
        assert set(rows) == {"hit", "json", "sse", "json, ledger's thread", "sse, ledger's thread"}
