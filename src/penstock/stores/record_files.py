"""Calls in files: comma-separated values, JSON lines and Parquet. Nothing is held but some hundred records."""

from __future__ import annotations

import csv
import importlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from penstock.core.errors import ConfigError
from penstock.stores.records import CallRecord

FORMATS = ("csv", "jsonl", "parquet")
_FIELDS = CallRecord.__struct_fields__
_NESTED = ("tags", "metadata", "arms", "tries", "times")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_NUMBERS = frozenset(
    {"id", "stream", "duration_us", "calls"}
    | {name for name in _FIELDS if name.endswith(("_tokens", "_us", "_before", "_after"))}
)
_AT_A_TIME = 500
_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(CallRecord).decode


def format_of(path: str, wanted: str | None) -> str:
    """Return the format of a file, by its name unless it is said.

    Raises:
        ConfigError: The name does not say.
    """
    found = wanted or Path(path).suffix.removeprefix(".").lower()
    if found not in FORMATS:
        raise ConfigError(f"cannot tell the format of {path!r} from its name; give --format",
                          key="format", expected=", ".join(FORMATS))  # fmt: skip
    return found


def write(target: IO[bytes], form: str, records: Iterable[CallRecord]) -> None:
    """Write `records` to a file.

    Raises:
        ConfigError: Parquet is wanted, and its library is not installed.
        OSError: It cannot be written.
    """
    _WRITERS[form](target, records)


def read(source: IO[bytes], form: str, name: str) -> Iterator[CallRecord]:
    """Read what `write` wrote; `name` is the file's, for messages.

    Raises:
        ConfigError: Something in it is no record; says where. Or Parquet's library is not installed.
        OSError: It cannot be read.
    """
    return _READERS[form](source, name)


def _write_lines(target: IO[bytes], records: Iterable[CallRecord]) -> None:
    for record in records:
        target.write(_encode(record) + b"\n")


def _read_lines(source: IO[bytes], name: str) -> Iterator[CallRecord]:
    for number, line in enumerate(source, 1):
        if line.strip():
            yield _checked(_decode_line, line, f"{name}, line {number}")


def _write_csv(target: IO[bytes], records: Iterable[CallRecord]) -> None:
    writer = csv.writer(_Text(target), lineterminator="\r\n")
    writer.writerow(_FIELDS)
    for record in records:
        row = msgspec.to_builtins(record)
        writer.writerow([_cell(name, row[name]) for name in _FIELDS])


def _read_csv(source: IO[bytes], name: str) -> Iterator[CallRecord]:
    text = io.TextIOWrapper(source, "utf-8-sig", newline="")
    reader = csv.DictReader(text, strict=True)
    try:
        for row in reader:
            yield _checked(_from_cells, row, f"{name}, line {reader.line_num}")
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}, line {reader.line_num}: {error}") from error
    finally:
        text.detach()


def _write_parquet(target: IO[bytes], records: Iterable[CallRecord]) -> None:
    arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
    kinds = {"id": arrow.int64(), "stream": arrow.bool_(), "started_at": arrow.timestamp("us", tz="UTC"),
             "semantic_audit": arrow.float64()}  # fmt: skip
    schema = arrow.schema(
        [(name, kinds.get(name, arrow.int64() if name in _NUMBERS or name == "answer_bytes" else arrow.string()))
         for name in _FIELDS]
    )  # fmt: skip
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for some in _batches(records):
            rows = [_columns(record) for record in some]
            writer.write_batch(arrow.RecordBatch.from_pylist(rows, schema=schema))


def _columns(record: CallRecord) -> dict[str, Any]:
    return msgspec.structs.asdict(record) | {name: _encode(getattr(record, name)).decode() for name in _NESTED}


def _read_parquet(source: IO[bytes], name: str) -> Iterator[CallRecord]:
    _arrow("pyarrow")
    try:
        file = _arrow("pyarrow.parquet").ParquetFile(source)
        number = 0
        for batch in file.iter_batches(_AT_A_TIME):
            for row in batch.to_pylist():
                number += 1
                yield _checked(_from_columns, row, f"{name}, row {number}")
    except ValueError as error:  # what pyarrow's own errors are
        raise ConfigError(f"{name}: {error}") from error


def _arrow(module: str) -> Any:  # noqa: ANN401 - an optional library without types
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError("Parquet needs another package: pip install 'penstock[parquet]'") from error


_WRITERS: dict[str, Callable[[IO[bytes], Iterable[CallRecord]], None]] = {
    "csv": _write_csv,
    "jsonl": _write_lines,
    "parquet": _write_parquet,
}
_READERS: dict[str, Callable[[IO[bytes], str], Iterator[CallRecord]]] = {
    "csv": _read_csv,
    "jsonl": _read_lines,
    "parquet": _read_parquet,
}


class _Text:
    """What `csv` writes to."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target

    def write(self, text: str) -> int:
        return self._target.write(text.encode())


def _cell(name: str, value: object) -> object:
    """Keep a spreadsheet from taking text for a formula; reading takes the mark off again."""
    if name in _NESTED:
        return _encode(value).decode() if value else ""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def _from_cells(row: dict[str | None, Any]) -> CallRecord:
    if None in row or None in row.values():
        raise ValueError("expected as many fields as the first line has")
    fields: dict[str, Any] = {}
    for name, text in row.items():
        if text == "":
            if name in ("cache", "request_id"):
                fields[name] = ""
        elif name in _NESTED:
            fields[name] = msgspec.json.decode(text)
        elif name is not None:
            fields[name] = text.removeprefix("'")
    return msgspec.convert(fields, CallRecord, strict=False)


def _from_columns(row: dict[str, Any]) -> CallRecord:
    fields = {name: value for name, value in row.items() if value is not None}
    for name in _NESTED:
        if name in fields:
            fields[name] = msgspec.json.decode(fields[name])
    return msgspec.convert(fields, CallRecord)


def _checked(decode: Callable[[Any], CallRecord], data: object, where: str) -> CallRecord:
    try:
        return decode(data)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _batches(records: Iterable[CallRecord]) -> Iterator[list[CallRecord]]:
    iterator = iter(records)
    while some := list(itertools.islice(iterator, _AT_A_TIME)):
        yield some
