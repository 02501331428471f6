"""Rows of a CSV as others write it: any encoding, any separator, broken quotes, a last line cut short. No row is lost
because another is broken."""

import codecs
import csv
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

from imports.items import FileError, Notes, Problem

DELIMITERS: Final = ",;\t|"

#: A row's cells are no longer than this (signs), or its quotes are broken.
csv.field_size_limit(131_072)

_HEAD: Final = 4096

#: Of a text whose next line cannot be decoded: nothing behind it can.
BREAKS_OFF: Final = "the file breaks off, or is not of the encoding that it says"


def encoding(head: bytes) -> str:
    """The encoding of a text that begins so. What is not UTF-8 in it becomes surrogates."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head[1:64:2].count(0) > len(head[:64]) // 4:
        return "utf-16-le"
    if head[0:64:2].count(0) > len(head[:64]) // 4:
        return "utf-16-be"
    return "utf-8-sig"


def head_of(path: Path) -> bytes:
    """The first bytes of a file; FileError for one that is no text."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise FileError(f"it cannot be opened: {error.strerror}") from None
    if head.startswith(b"PK"):
        raise FileError("it is a ZIP or an Excel workbook: unpack it, or save the sheet as CSV (UTF-8)")
    if head.startswith(b"\x1f\x8b"):
        raise FileError("it is compressed: unpack it first")
    if not head.strip():
        raise FileError("it is empty")
    return head


def opened(path: Path, head: bytes) -> IO[str]:
    """The file as text, its line ends as they are."""
    return path.open(encoding=encoding(head), errors="surrogateescape", newline="")


def is_clean(text: str) -> bool:
    """Whether a text was all of its file's encoding."""
    return text.isascii() or not any("\udc80" <= sign <= "\udcff" for sign in text)


def split(line: str, delimiter: str) -> list[str]:
    """The cells of one line."""
    return next(csv.reader([line], delimiter=delimiter), [])


def delimiter_of(header: str) -> str:
    """What parts the columns: that which makes the most of them."""
    return max(DELIMITERS, key=lambda sign: len(split(header, sign)))


def plain_name(name: str) -> str:
    """A column's name as it is compared: lower case, one space between words."""
    return " ".join(name.replace("_", " ").lower().split())


class Row(NamedTuple):
    """A row's cells, as many as the header has, and the line on which it begins (from 1, the header's)."""

    line: int
    cells: list[str]


class _Feed:
    """Lines for csv.reader, which remembers those of the row that is being read and can take some back."""

    def __init__(self, lines: Iterable[str], notes: Notes) -> None:
        self._lines = iter(lines)
        self._notes = notes
        self.again: deque[str] = deque()
        self.taken: list[str] = []
        self.over = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.again:
            line = self.again.popleft()
        else:
            try:
                line = next(self._lines)
            except StopIteration:
                self.over = True
                raise
            if not line.isascii() and not is_clean(line):
                self._notes("not_utf8")
        self.taken.append(line)
        return line


def header_of(path: Path) -> tuple[list[str], str]:
    """The names of a CSV's columns as they stand there, and what parts them. (A first line `sep=;` is Excel's.)"""
    return header_lines(path)[:2]


def header_lines(path: Path) -> tuple[list[str], str, int]:
    """As `header_of`, and how many lines the header's end is from the file's beginning."""
    with opened(path, head_of(path)) as file:
        return _header(file)


def _header(file: IO[str]) -> tuple[list[str], str, int]:
    try:
        for number, line in enumerate(file, start=1):
            if line.strip() and not line.lower().startswith("sep="):
                delimiter = delimiter_of(line)
                return split(line, delimiter), delimiter, number
    except UnicodeError:
        raise FileError(BREAKS_OFF) from None
    return [], ",", 0


def rows(path: Path, notes: Notes) -> Iterator[Row | Problem]:
    """The rows below the header. A row of too few cells is filled up, since spreadsheets leave empty ones out.

    A quote that is never closed swallows what follows: then its line is a problem, and the others are read again.
    """
    with opened(path, head_of(path)) as file:
        header, delimiter, number = _header(file)
        width = len(header)
        feed = _Feed(file, notes)
        reader = csv.reader(feed, delimiter=delimiter)
        while True:
            feed.taken.clear()
            feed.over = False
            begins = number + 1
            broken: str | None = None
            cells: list[str] = []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                broken = "its quotes are broken"
            except UnicodeError:
                yield Problem(begins, BREAKS_OFF)
                return
            if broken is None:
                if feed.over:  # it wanted one more line to close a quote
                    broken = "a quote is not closed" if len(feed.taken) > 1 else "the file breaks off in it"
                elif len(cells) > width and any(cells[width:]):
                    broken = f"it has {len(cells)} columns, the header {width}"
                elif len(cells) < width and (len(feed.taken) > 1 or not feed.taken[-1].endswith(("\n", "\r"))):
                    cut = len(feed.taken) == 1
                    broken = "the file breaks off in it" if cut else f"it has {len(cells)} columns, the header {width}"
            if broken is not None:
                yield Problem(begins, broken)
                if len(feed.taken) > 1:
                    feed.again.extendleft(reversed(feed.taken[1:]))
                    del feed.taken[1:]
                reader = csv.reader(feed, delimiter=delimiter)
                number += 1
                continue
            number += len(feed.taken)
            if cells:
                yield Row(begins, cells + [""] * (width - len(cells)))
