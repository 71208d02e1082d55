"""CSV files as people have them: any Unicode coding, commas, semicolons or tabs, columns in any order and case."""

from __future__ import annotations

import codecs
import csv
import itertools
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fer_tf.errors import InputError
from fer_tf.labels import word_key

DELIMITERS = ",;\t|"
# Byte order marks; the longer ones first, because UTF-32's begins like UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
# Around a value: also the byte order mark of a second file that was put behind the first.
_BLANKS = f"{string.whitespace}\u00a0\ufeff"
# What pandas, databases and spreadsheets write for no value, as they spell it; not NA, which may be initials.
_NO_VALUE = frozenset(("NaN", "nan", "<NA>", "NULL", "null", "#N/A", "N/A", "n/a"))
# Columns of names and numbers: a line break in them is none that somebody meant, as in a note it may be.
_NAMES = frozenset(
    ("video", "image", "path", "person", "expression", "pose", "gender", "age", "split", "usage", "emotion")
    + ("clip_group", "session", "take", "image_name")
)
# Bytes that no text has, but UTF-16.
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# What is called .csv and is none: how it begins, what it is, what to do.
_AS_CSV = "save it from there as `CSV UTF-8`"
_BY_PANDAS = "write it with `DataFrame.to_csv(path, index=False)`"
_AS_LINES = "write one line a clip, values separated by commas, below a line with the columns' names"
_OTHERS = (
    (
        b"PK\x03\x04",
        "a workbook (xlsx, ods, numbers) or a zip archive",
        f"open it in a spreadsheet program and {_AS_CSV}",
    ),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (xls)", f"open it in a spreadsheet program and {_AS_CSV}"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it with `gunzip`"),
    (b"BZh", "compressed with bzip2", "unpack it with `bunzip2`"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it with `unxz`"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "unpack it with `unzstd`"),
    (b"PAR1", "a Parquet file", _BY_PANDAS),
    (b"ARROW1", "a Feather file", _BY_PANDAS),
    (b"\x93NUMPY", "an array of NumPy", "write its rows as text, values separated by commas"),
    (b"\x80\x03", "a pickle", _BY_PANDAS),
    (b"\x80\x04", "a pickle", _BY_PANDAS),
    (b"\x80\x05", "a pickle", _BY_PANDAS),
    (b"\x89HDF", "an HDF5 file", _BY_PANDAS),
    (b"SQLite format", "an SQLite database", "export the table itself as CSV"),
    (b"version https://git-lfs", "a pointer of Git LFS to the file", "get the file itself with `git lfs pull`"),
    (b"\x89PNG", "a picture", "name the table itself"),
    (b"%PDF", "a PDF", "export the table itself as CSV"),
    (b"{\\rtf", "a text of a word processor (RTF)", f"copy its table into a spreadsheet program and {_AS_CSV}"),
    (b"{", "JSON", _AS_LINES),
    (b"<", "a web page or XML, as a download without login gives it", "download the file itself"),
)


@dataclass(frozen=True)
class CsvTable:
    """An opened CSV.

    Attributes:
      columns: the columns' names by `word_key`; empty for one without a name.
      rows: each row's line in the file and its values without surrounding blanks, one a column; empty for what
        programs write where there is no value, such as NaN.
    """

    columns: tuple[str, ...]
    rows: Iterator[tuple[int, list[str]]]


def read(lines: Iterable[bytes], name: str, required: Sequence[str]) -> CsvTable:
    """Opens a CSV, streaming.

    Args:
      lines: the file's bytes in pieces, such as an open file's lines.
      name: the file's name for errors.
      required: the columns that must be there, by `word_key`.

    Raises:
      InputError: the file is empty, no CSV, of an unknown coding, or lacks a column; also while its rows are read.
    """
    texts = text_lines(lines, name)
    first, skipped = next(texts, ""), 0
    while first and not first.strip():
        first, skipped = next(texts, ""), skipped + 1
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # Excel's note to itself.
        first, skipped = next(texts, ""), skipped + 1
    delimiter = delimiter_of(first, required)
    rows = _quoted(itertools.chain([first], texts), delimiter, skipped, name)
    columns = tuple(word_key(column) for column in next(rows, (0, 0, []))[2])
    _check(columns, name, required)
    return CsvTable(columns, _rows(rows, columns, delimiter, name))


def reader_of(lines: Iterable[str], delimiter: str, strict: bool = False) -> Any:
    """Returns a `csv.reader` in which a blank before a quotation mark, as hands write it, is no part of the value."""
    return csv.reader(lines, delimiter=delimiter, strict=strict, skipinitialspace=True)


def _quoted(lines: Iterable[str], delimiter: str, skipped: int, name: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yields each row's first line, last line and values; raises InputError where a quotation mark stands alone."""
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = reader_of(noted(), delimiter, strict=True)
    while True:
        begins = reader.line_num + skipped + 1
        taken.clear()
        try:
            try:
                values = next(reader, None)
            except csv.Error:
                # Within one line, text behind a second mark takes no other row with it: a blank, mostly.
                if len(taken) != 1 or taken[0].count('"') % 2:
                    raise
                values = next(reader_of(taken, delimiter))
        except csv.Error as error:
            raise _not_a_row(f"{name}, line {begins}", reader.line_num + skipped - begins, error) from None
        if values is None:
            return
        yield begins, reader.line_num + skipped, values


def _not_a_row(where: str, further: int, error: csv.Error) -> InputError:
    """The error of a row that reaches so many lines further."""
    if "unexpected end" in str(error) or (further and "larger" in str(error)):
        return InputError(f"{where}: a quotation mark has no second one; add or delete it.")
    if further:
        return InputError(
            f"{where}: a quotation mark has its second one only {further} lines further, with text behind it; add or "
            "delete one."
        )
    return InputError(f"{where}: not a CSV row: {error}.")


def _rows(
    rows: Iterable[tuple[int, int, list[str]]], columns: Sequence[str], delimiter: str, name: str
) -> Iterator[tuple[int, list[str]]]:
    for begins, ends, values in rows:
        values = [_value(text) for text in values]
        if ends > begins:
            _check_line_breaks(values, columns, delimiter, f"{name}, line {begins}")
        while len(values) > len(columns) and not values[-1]:  # Spreadsheets end lines with empty cells.
            values.pop()
        # Files put one behind the other repeat the first one's header; the first cell tells most rows from it.
        if any(values) and not (word_key(values[0]) == columns[0] and is_header(values, columns)):
            yield ends, values


def _check_line_breaks(values: Sequence[str], columns: Sequence[str], delimiter: str, where: str) -> None:
    """Raises InputError where a value took rows with it: between a stray quotation mark and the next one."""
    for column, value in itertools.zip_longest(columns[: len(values)], values, fillvalue=""):
        first, *others = value.splitlines() or [""]
        if others and (column in _NAMES or column.startswith("reviewer")):
            raise InputError(
                f"{where}: `{column}` has a line break behind {first!r}; add or delete a quotation mark, or the break."
            )
        cut_off = len(values) < len(columns) and value == values[-1]
        # A note of several lines is one; but whoever writes sentences puts a blank behind a comma.
        parts = [line.split(delimiter) for line in others]
        if others and (cut_off or any(len(row) >= len(columns) and not _has_blanks(row) for row in parts)):
            raise InputError(
                f"{where}: a quotation mark has no second one in its row, so that {first!r} takes further rows with "
                "it; add or delete it."
            )


def _has_blanks(parts: Sequence[str]) -> bool:
    return any(part.startswith(" ") for part in parts[1:])


def is_header(values: Sequence[str], columns: Sequence[str]) -> bool:
    """Returns whether a row names the columns, by `word_key`; empty cells behind them do not matter."""
    keys = [word_key(_value(text)) for text in values]
    while len(keys) > len(columns) and not keys[-1]:
        keys.pop()
    return keys == list(columns)


def _value(text: str) -> str:
    value = text.strip(_BLANKS)
    return "" if value in _NO_VALUE else value


def delimiter_of(header: str, required: Sequence[str]) -> str:
    """The mark that gives most of the required columns; a comma when none gives any."""

    def known(mark: str) -> int:
        try:
            names = {word_key(column) for column in next(reader_of([header], mark), [])}
        except csv.Error:  # Of what is no CSV row, the reader of the rows tells.
            return 0
        return len(names & set(required))

    return max(DELIMITERS, key=known)


def _check(columns: Sequence[str], name: str, required: Sequence[str]) -> None:
    named = [column for column in columns if column]
    if not named:
        raise InputError(f"{name} is empty; its first line must name the columns {tuple(required)}.")
    missing = [column for column in required if column not in columns]
    if missing:
        raise InputError(
            f"{name}, line 1: column `{missing[0]}` is missing; the first line must name the columns "
            f"{tuple(required)}. Received: {named}."
        )
    repeated = sorted({column for column in named if named.count(column) > 1})
    if repeated:
        raise InputError(f"{name}, line 1: column `{repeated[0]}` stands there twice; rename or delete one of them.")


def text_lines(lines: Iterable[bytes], name: str) -> Iterator[str]:
    """Yields a text file's lines, decoded; raises InputError when it is no text."""
    pieces = iter(lines)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= 4:
            break
    coding = coding_of(head, name)
    if coding == "utf-8" and _NO_TEXT.search(head):
        raise _no_text(name)
    decoder = codecs.getincrementaldecoder(coding)()
    rest, number, end = "", 1, ""
    for piece in itertools.chain([head], pieces, [None]):
        try:
            rest += decoder.decode(piece or b"", final=piece is None)
        except UnicodeDecodeError as error:
            if coding == "utf-8" and _NO_TEXT.search(piece or b""):
                raise _no_text(name) from None
            raise _not_in_coding(name, number, coding, error) from None
        if not end and ("\n" in rest or piece is None):
            end = "\r" if _ends_by_return(rest.split("\n", 1)[0]) else "\n"
        if end:
            *whole, rest = rest.split(end)
            for line in whole:
                yield line + "\n"
            number += len(whole)
    # The last line, or below the first one all lines of a program that ends only that one otherwise.
    yield from (f"{line}\n" for line in rest.split("\r") if line)


def _ends_by_return(line: str) -> bool:
    """Whether what stands before the first line feed is several lines of an old Macintosh; those ended by return."""
    before, mark, rest = line.partition("\r")
    return bool(mark and rest.strip("\r")) and before.count('"') % 2 == 0


def coding_of(head: bytes, name: str) -> str:
    """Returns the coding of a file that begins with these bytes, four or more; raises InputError when it is no text."""
    for mark, coding in _MARKS:
        if head.startswith(mark):
            return coding
    for begin, what, advice in _OTHERS:
        if head.startswith(begin):
            raise InputError(f"{name} is no CSV but {what}: {advice}.")
    if re.match(rb"\[\s*[\[{\"]|\[\s*$", head):
        raise InputError(f"{name} is no CSV but JSON: {_AS_LINES}.")
    # UTF-16 without its mark: every other byte of Latin letters is zero.
    if head[1:2] == b"\0" and head[:1] != b"\0":
        return "utf-16-le"
    return "utf-16-be" if head[:1] == b"\0" and head[1:2] != b"\0" else "utf-8"


def _no_text(name: str) -> InputError:
    return InputError(f"{name} is no CSV and no text: name the table itself, saved as `CSV UTF-8`.")


def _not_in_coding(name: str, line: int, coding: str, error: UnicodeDecodeError) -> InputError:
    if coding.startswith("utf-8"):
        advice = "Save it as UTF-8; a file of Windows or of an old editor with `iconv -f cp1252 -t utf-8`"
    else:
        advice = "Save it as UTF-8; the file seems to be cut off"
    return InputError(f"{name}, line {line}: not {coding.removesuffix('-sig').upper()} ({error.reason}). {advice}.")
