"""`loyalnest import`: a store's past brought in from files, and the list of what was."""

import asyncio
import csv
import json
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from books import imports as book
from books import programs
from books.master_keys import master_keys
from books.vault import Vault
from cli.commands import common, show
from cli.commands.batch import run_segments
from cli.commands.common import AsJson, CommandError, Data, Database, Kafka
from events import instants, money
from imports import files
from imports.importing import Bringing, Tally
from imports.items import NOTES, FileError, ImportingError, Problem
from imports.judging import Summary
from imports.pace import BATCH, Pace
from runtime import database
from runtime.ports import Publisher
from runtime.settings import Settings

#: Messages published at once where nobody's webhooks wait behind them.
_AT_ONCE = 2_000


class _Done(NamedTuple):
    found: book.Import
    tally: Tally | None  # None: it was brought in before
    seconds: float


def bring_in(
    words: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files to bring in; or the word list.", show_default=False)
    ],
    shop: Annotated[str, typer.Option("--shop", help="The shop's domain.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only read, and say what would come in.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what was brought in before. It changes nothing.")
    ] = False,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="As fast as can be: live webhooks wait meanwhile.")
    ] = False,
    as_json: AsJson = False,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Bring a store's past in, from files; or list what was brought in: `loyalnest import list --shop SHOP`.

    Taken are Shopify's bulk operations (JSONL of orders, of customers), the order and the customer export of Shopify's
    admin (CSV), the CSV of transactions that `play` takes, and a CSV of points that customers have. Lines that cannot
    be read are written to FILE.rejected.csv and stop nothing. What was broken off goes on where it stopped;
    docs/imports.md has the rest.
    """
    name = common.shop_name(shop)
    settings = common.read_settings(kafka=kafka, database=database, data=data)
    if words == ["list"]:
        _list(settings, name, as_json=as_json)
        return
    with common.attached(settings) as complete:
        currency = _currency(complete, name)
        failed = 0
        said = common.err if as_json else common.out  # for people, beside what programs read
        if dry_run:
            for word in words:
                failed += not _try(Path(word), name, currency, as_json=as_json)
        else:
            paths = [Path(word) for word in words]
            try:
                done, failed = _bring_all(complete, paths, name, currency, again, at_once, said)
            except KeyboardInterrupt:
                common.err.print("Broken off: give the same command again, and it goes on where it stopped.")
                raise typer.Exit(130) from None
            if any(each.tally is not None and each.tally.position for each in done):
                _score(complete, name, said)
            if as_json:
                ids = {each.found.id for each in done}
                _as_json([each for each in _listed(complete, name) if each.id in ids])
    if failed:
        raise CommandError(
            f"{failed} of {len(words)} files could not be brought in" if len(words) > 1 else "not brought in"
        )


def _currency(settings: Settings, shop: str) -> str:
    with database.connect(settings.database_url(), "loyalnest", autocommit=True) as connection:
        program = programs.known(connection, shop)
    if program is None:
        raise CommandError(f"there is no shop {shop}; add it with `loyalnest shops add {shop}`")
    return program.currency


# --- trying ------------------------------------------------------------------------------------------------------


def _try(path: Path, shop: str, currency: str, *, as_json: bool) -> bool:
    """Print what a file would bring in; False if it cannot be read."""
    from imports import quick  # here: DuckDB takes a while to load

    began = datetime.now(UTC)
    try:
        with common.err.status(f"reading {path.name}"):
            reader = files.reader(path, shop, currency, instants.from_datetime(began))
            lines, found = quick.summary(reader, path, shop, currency)
    except FileError as error:
        _refused(path, error)
        return False
    seconds = (datetime.now(UTC) - began).total_seconds()
    rejected = _Rejected(path)
    rejected.anew()
    rejected.write(found.problems)
    if as_json:
        sys.stdout.write(json.dumps(_told(path, reader.form, lines, found, currency, reader.notes.counts)) + "\n")
        return True
    common.out.print(f"{path.name}: {reader.form}, {lines:,} lines", markup=False)
    if found.orders:
        days = " to ".join(instants.text(at)[:10] for at in (found.first or 0, found.last or 0))
        common.out.print(f"  {found.orders:,} orders of {found.customers:,} customers, {days}")
        rows = [
            {
                "status": status,
                "orders": f"{count:,}",
                "counts": money.decimal_text(found.money[status], currency) if found.money[status] else "",
            }
            for status, count in sorted(found.by_status.items())
        ]
        show.rows(rows, numbers=("orders", "counts"))
    if found.balances:
        common.out.print(f"  {found.balances:,} balances, {found.points:,} points in all")
    if found.customers_told:
        common.out.print(f"  {found.customers_told:,} customers with what they told of themselves")
    for count, what in (
        (found.guests, "without a customer"),
        (found.tests, "for testing"),
        (found.cancelled, "cancelled"),
    ):
        if count:
            are = "order is" if count == 1 else "orders are"
            common.out.print(f"  {count:,} {are} {what} and count{'s' * (count == 1)} for nobody")
    _notes(reader.notes.counts, common.out)
    rejected.told(len(found.problems), common.out)
    common.out.print(f"  read in {seconds:.1f} s ({lines / max(seconds, 0.001):,.0f} lines/s); nothing was brought in")
    return True


def _told(path: Path, form: str, lines: int, found: Summary, currency: str, notes: dict[str, int]) -> dict[str, Any]:
    return {
        "file": path.name,
        "format": form,
        "lines": lines,
        "orders": found.orders,
        "customers": found.customers,
        "customers_told": found.customers_told,
        "balances": found.balances,
        "points": found.points,
        "without_customer": found.guests,
        "tests": found.tests,
        "cancelled": found.cancelled,
        "first": None if found.first is None else instants.text(found.first),
        "last": None if found.last is None else instants.text(found.last),
        "orders_by_status": dict(sorted(found.by_status.items())),
        "money_by_status": {name: money.decimal_text(sum_, currency) for name, sum_ in sorted(found.money.items())},
        "currency": currency,
        "rejected": [{"line": line, "reason": reason} for line, reason in found.problems[: book.PROBLEMS_KEPT]],
        "rejected_lines": len(found.problems),
        "notes": dict(notes),
    }


def _notes(counts: dict[str, int], said: Console) -> None:
    for name, count in sorted(counts.items()):
        if count:
            said.print(f"  {count:,} {NOTES[name]}", style="yellow", markup=False)


def _refused(path: Path, error: Exception) -> None:
    common.err.print(f"{path.name}: {common.sentence(error)}", style="red", markup=False)


class _Rejected:
    """The file beside the input: a line and a reason for each line that could not be read. None is made without any."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.rejected.csv")
        self._known: set[str] = set()

    def anew(self) -> None:
        """What stood there was of another reading."""
        self.path.unlink(missing_ok=True)

    def resume(self) -> None:
        """Keep what an import that was broken off has written."""
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                self._known = {row[0] for row in csv.reader(file) if row}

    def write(self, problems: Iterable[Problem]) -> None:
        fresh = [each for each in problems if str(each.line) not in self._known]
        if not fresh:
            return
        with self.path.open("a" if self._known else "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if not self._known:
                writer.writerow(("line", "reason"))
            writer.writerows(fresh)
        self._known |= {"line", *(str(each.line) for each in fresh)}

    def told(self, count: int, said: Console) -> None:
        if count:
            lines = "line" if count == 1 else "lines"
            said.print(f"  {count:,} {lines} could not be read: see {self.path.name}", style="yellow", markup=False)


# --- bringing in -------------------------------------------------------------------------------------------------


def _bring_all(
    settings: Settings, paths: list[Path], shop: str, currency: str, again: bool, at_once: bool, said: Console
) -> tuple[list[_Done], int]:
    """Each file in turn; what was done, and how many could not be."""

    async def all_of_them() -> tuple[list[_Done], int]:
        done, failed = [], 0
        pool = database.pool(settings.database_url(), "loyalnest import", size=2)
        await pool.open(wait=True, timeout=15)
        with ExitStack() as stack:
            pace = None if at_once or settings.kafka is None else Pace(settings, _waiting)
            if pace is not None:
                stack.callback(pace.close)
            try:
                async with common.publishing(settings) as publisher:
                    vault = Vault(master_keys(settings), pool)
                    for path in paths:
                        try:
                            brought = _bring(settings, path, shop, currency, vault, publisher, pace, again, said)
                            done.append(await brought)
                        except (FileError, ImportingError) as error:
                            failed += 1
                            _refused(path, error)
            finally:
                await pool.close()
        return done, failed

    return asyncio.run(all_of_them())


def _waiting(said: str) -> None:
    common.err.print(f"The import {said} (--at-once waits for nobody)", style="yellow", markup=False)


async def _bring(
    settings: Settings,
    path: Path,
    shop: str,
    currency: str,
    vault: Vault,
    publisher: Publisher,
    pace: Pace | None,
    again: bool,
    out: Console,
) -> _Done:
    began = datetime.now(UTC)
    content = await asyncio.to_thread(files.content, path)
    connection = await database.connect_async(settings.database_url(), "loyalnest import", autocommit=True)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(connection)
        found = await book.begin_or_find(connection, shop, path.name, content.sha256, content.size, began, again=again)
        if found.status == "done":
            out.print(
                f"{path.name} was brought in on {show.moment(found.finished_at or found.updated_at)}:"
                " nothing to do (--again brings it in again)",
                markup=False,
            )
            return _Done(found, None, 0.0)
        if not await stack.enter_async_context(book.held(connection, shop, content.sha256)):
            raise ImportingError("it is being brought in just now: `loyalnest import list` shows how far it is")
        rejected = _Rejected(path)
        if found.position:
            rejected.resume()
            out.print(f"{path.name} goes on after {found.position:,}", markup=False)
        else:
            rejected.anew()
        with _bar() as progress:
            task = progress.add_task(path.name, total=None, said="")

            def moved(tally: Tally, lines: int) -> None:
                seconds = (datetime.now(UTC) - began).total_seconds()
                rate = (tally.line - found.line) / max(seconds, 0.001)
                left = (lines - tally.line) / max(rate, 0.001)
                said = f"{tally.line:,} of {lines:,} lines, {rate:,.0f}/s, {_duration(left)} left"
                progress.update(task, total=lines, completed=tally.line, said=said)

            tally = await Bringing(
                path=path,
                shop=shop,
                currency=currency,
                vault=vault,
                publisher=publisher,
                pace=pace,
                batch=_AT_ONCE if pace is None else BATCH,
                batch_due=settings.kafka is None,
                rejected=rejected.write,
                moved=moved,
            ).run(connection, found)
    seconds = (datetime.now(UTC) - began).total_seconds()
    fresh = tally.position - found.position
    out.print(
        f"{path.name}: {tally.orders:,} orders and {tally.customers:,} customers in {seconds:.1f} s"
        f" ({fresh / max(seconds, 0.001):,.0f}/s)",
        markup=False,
    )
    _notes(tally.notes, out)
    rejected.told(tally.rejected, out)
    return _Done(found, tally, seconds)


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[said]}"),
        console=common.err,
        transient=True,
        disable=not common.err.is_terminal,
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _score(settings: Settings, shop: str, said: Console) -> None:
    """The batch, once: the past has made other customers of everybody."""
    if settings.kafka is None:
        common.err.print("It takes effect when `loyalnest up` starts; the batch runs then.")
        return
    report = run_segments(settings, shop, datetime.now(UTC))
    with database.connect(settings.database_url(), "loyalnest", autocommit=True) as connection:
        book.batch_done(connection, shop)
    said.print(f"{report.customers:,} customers scored: cut points {report.version}.")


# --- listing -----------------------------------------------------------------------------------------------------


def _listed(complete: Settings, shop: str) -> list[book.Import]:
    async def listing() -> list[book.Import]:
        async with await database.connect_async(complete.database_url(), "loyalnest", autocommit=True) as connection:
            return await book.listing(connection, shop)

    return asyncio.run(listing())


def _as_json(found: list[book.Import]) -> None:
    shown = [
        {**each._asdict(), "lines_per_second": round(each.rate), "seconds_left": each.seconds_left} for each in found
    ]
    sys.stdout.write(json.dumps(shown, default=str, indent=2) + "\n")


def _list(settings: Settings, shop: str, *, as_json: bool) -> None:
    with common.attached(settings) as complete:
        found = _listed(complete, shop)
    if as_json:
        _as_json(found)
        return
    if not found:
        common.out.print(f"Nothing was brought in for {shop} yet: `loyalnest import FILE --shop {shop}`.", markup=False)
    for each in found:
        _show(each)


def _show(found: book.Import) -> None:
    counts = f"{found.orders:,} orders, {found.customers:,} customers, {found.rejected:,} rejected lines"
    lines = [
        Text(f"{show.moment(found.started_at)}  {found.status}  {found.file}"),
        Text(f"{found.id}, {found.format or 'not read yet'}"),
        Text(counts),
    ]
    if (left := found.seconds_left) is not None:
        share = 100 * found.line / max(found.lines, 1)
        lines.append(Text(f"{share:.0f} % of {found.lines:,} lines, {found.rate:,.0f} lines/s, {_duration(left)} left"))
    if found.detail:
        lines.append(Text(found.detail))
    lines += [Text(f"{count:,} {NOTES[name]}") for name, count in sorted(found.notes.items()) if name in NOTES]
    lines += [Text(f"line {line}: {reason}") for line, reason in found.problems[:3]]
    show.block(*lines)
