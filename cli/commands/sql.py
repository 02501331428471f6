"""SQL over a shop's analysts' file, for those who have no DuckDB of their own: read only, and nothing else in reach."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import duckdb
import typer

from cli.commands import common, show
from cli.commands.common import CommandError, Data
from runtime import duck
from runtime.settings import Settings

Format = Literal["table", "csv", "json"]

#: Of a query; beyond it DuckDB spills beside the file.
_MEMORY: Final = "2GB"

#: Rows fetched at a time.
_SLICE: Final = 10_000

_NUMBERS: Final = ("INT", "DECIMAL", "DOUBLE", "FLOAT")

_TABLES: Final = """
SELECT name AS "table", means FROM (
    SELECT table_name AS name, comment AS means FROM duckdb_tables() WHERE NOT internal
    UNION ALL SELECT view_name, comment FROM duckdb_views() WHERE NOT internal
) ORDER BY name
"""
_COLUMNS: Final = """
SELECT column_name AS "column", data_type AS "type", comment AS means FROM duckdb_columns()
WHERE NOT internal AND table_name = ? ORDER BY column_index
"""
_HELP: Final = "SQL, ended by ;   .tables   .columns TABLE   .quit"


def sql(
    query: Annotated[str | None, typer.Argument(help="The query; without one, a prompt.", show_default=False)] = None,
    shop: Annotated[str, typer.Option("--shop", help="The shop's domain.", show_default=False)] = ...,  # type: ignore[assignment]
    form: Annotated[Format, typer.Option("--format", help="How rows are printed.")] = "table",
    data: Data = None,
) -> None:
    """Ask a shop's analysts' file: `loyalnest sql --shop nest "SELECT segment, count(*) FROM customers GROUP BY ALL"`.

    Nothing can be changed from here, no other file or network reached. docs/analysts.md has questions to begin with.
    """
    name = common.shop_name(shop)
    path = _file(common.read_settings(data=data), name)
    if query is not None:
        ask(path, query, form)
        return
    with duck.locked(path, _MEMORY) as connection:
        _prompt(connection, name, form)


def ask(path: Path, query: str, form: Format = "table") -> None:
    """Prints what a query of an analysts' file gives; CommandError for one that DuckDB refuses."""
    try:
        with duck.locked(path, _MEMORY) as connection:
            _run(connection, query, form)
    except duckdb.Error as error:
        raise CommandError(said(error)) from None


def _file(settings: Settings, shop: str) -> Path:
    path = settings.analytics_file(shop)
    if not path.exists():
        raise CommandError(f"there is no analysts' file of {shop} yet: run `loyalnest batch analytics --shop {shop}`")
    return path


def said(error: duckdb.Error) -> str:
    """DuckDB's error in one sentence."""
    return str(error).strip().splitlines()[0]


def _run(connection: duckdb.DuckDBPyConnection, query: str, form: Format, *parameters: str) -> None:
    # DuckDB gives nothing at all for a query in which nothing stands.
    found: duckdb.DuckDBPyConnection | None = connection.execute(query, parameters)
    if found is None:
        raise CommandError("the query is empty")
    names = _unlike([each[0] for each in found.description])
    if form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        for some in _slices(found):
            writer.writerows([["" if cell is None else _exactly(cell) for cell in row] for row in some])
    elif form == "json":
        sys.stdout.writelines(_json(names, found))
    elif not (rows := found.fetchall()):
        common.out.print(f"no rows ({', '.join(names)})", markup=False)
    else:
        numbers = [name for name, each in zip(names, found.description, strict=True) if _is_number(each[1])]
        cells = [{name: _cell(cell) for name, cell in zip(names, row, strict=True)} for row in rows]
        show.rows(cells, numbers=numbers)


def _slices(found: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    """All rows, some at a time: a file has millions of them."""
    while rows := found.fetchmany(_SLICE):
        yield rows


def _json(names: Sequence[str], found: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """An array of objects, a row each."""
    begun = False
    for some in _slices(found):
        for row in some:
            plain = {name: _plain(cell) for name, cell in zip(names, row, strict=True)}
            text = json.dumps(plain, ensure_ascii=False, indent=2).replace("\n", "\n  ")
            yield f"{',' if begun else '['}\n  {text}"
            begun = True
    yield "\n]\n" if begun else "[]\n"


def _unlike(names: Sequence[str]) -> list[str]:
    """The columns' names, each once: two of one name would be one."""
    found: list[str] = []
    for at, name in enumerate(names):
        free = (f"{name}_{number}" for number in count(2))
        # One that comes later keeps its own.
        found.append(name if name not in found else next(each for each in free if each not in {*found, *names[at:]}))
    return found


def _is_number(kind: Any) -> bool:
    return any(word in str(kind) for word in _NUMBERS) and not str(kind).endswith("[]")


def _cell(value: Any) -> str:
    """A value for people: of a part of a number as much as makes six digits."""
    if isinstance(value, float) and isfinite(value):
        if value == int(value) and abs(value) < 1e15:
            return f"{value:.1f}"
        return f"{value:.1f}" if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return "" if value is None else _exactly(value)


def _exactly(value: Any) -> str:
    """A value for programs: what it says, and no less."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(_exactly, value))
    return str(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it: numbers of any size, and texts; a decimal keeps its places as text. JSON has no word for
    a number that is infinite or none: null."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value)


# --- the prompt --------------------------------------------------------------------------------------------------


def _prompt(connection: duckdb.DuckDBPyConnection, shop: str, form: Format) -> None:
    """Asks until there is nothing more; an error is said, and the next question taken."""
    with suppress(ImportError):
        import readline  # noqa: F401 - lines can be edited, and come back, from here on
    if sys.stdin.isatty():
        common.err.print(f"The analysts' file of {shop}. {_HELP}", markup=False)
    waiting: list[str] = []
    while True:
        try:
            line = input(("...> " if waiting else "sql> ") if sys.stdin.isatty() else "")
        except EOFError:
            line = ".quit" if not waiting else ";"
        except KeyboardInterrupt:
            waiting = []
            common.err.print()
            continue
        if not waiting and line.strip().startswith("."):
            if line.split()[0] in (".quit", ".exit"):
                return
            _command(connection, line.split(), form)
        elif line.strip() or waiting:
            waiting.append(line)
            if line.rstrip().endswith(";"):
                _ask(connection, "\n".join(waiting), form)
                waiting = []


def _command(connection: duckdb.DuckDBPyConnection, words: list[str], form: Format) -> None:
    if words == [".tables"]:
        _ask(connection, _TABLES, form)
    elif words[0] == ".columns" and len(words) == 2:
        _ask(connection, _COLUMNS, form, words[1])
    else:
        common.err.print(_HELP, markup=False)


def _ask(connection: duckdb.DuckDBPyConnection, query: str, form: Format, *parameters: str) -> None:
    try:
        _run(connection, query, form, *parameters)
    except duckdb.Error as error:
        common.err.print(said(error), markup=False)
    except CommandError as error:
        common.err.print(str(error), markup=False)
