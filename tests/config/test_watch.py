import os

from penstock.config.watch import FileStamp, changed


def test_writing_replacing_and_relinking_are_changes(tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text("a: 1")
    seen = FileStamp.of(str(path))
    assert changed(str(path), seen) is None

    path.write_text("a: 12")
    seen = changed(str(path), seen)
    assert seen is not None

    status = path.stat()
    other = tmp_path / "other.yaml"
    other.write_text("b: 12")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    seen = changed(str(path), seen)
    assert seen is not None


def test_a_file_that_is_gone_is_no_change(tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text("a: 1")
    seen = FileStamp.of(str(path))
    path.unlink()
    assert changed(str(path), seen) is None
    assert FileStamp.of(str(path)) is None


def test_a_file_that_appears_is_a_change(tmp_path):
    path = tmp_path / "penstock.yaml"
    path.write_text("a: 1")
    assert changed(str(path), None) == FileStamp.of(str(path))
