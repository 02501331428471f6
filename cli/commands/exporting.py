"""`loyalnest export`: who and which columns, as the API's CSV has them, from the shell."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from pydantic import ValidationError

from cli.commands import batch, common
from cli.commands.common import CommandError, Data, Database, Shop
from runtime.settings import Settings

#: What nobody needs a key for: whoever can reach the database may count its customers.
_WITHOUT_A_KEY = frozenset({"export"})


def export(
    shop: Shop,
    out: Annotated[Path | None, typer.Option("--out", help="The file to write.", show_default="stdout")] = None,
    segment: Annotated[
        list[str] | None, typer.Option("--segment", help="Only this segment; repeat it for several.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="klaviyo, mailchimp, meta, google or spreadsheet: who consented, each once."),
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", help="These columns alone, in this order, with commas between.")
    ] = None,
    r: Annotated[str | None, typer.Option("--r", help="Recency's digit, or digits such as 4-5.")] = None,
    f: Annotated[str | None, typer.Option("--f", help="Frequency's.")] = None,
    m: Annotated[str | None, typer.Option("--m", help="Monetary's.")] = None,
    points_from: Annotated[int | None, typer.Option("--points-from", help="This balance or more.")] = None,
    points_to: Annotated[int | None, typer.Option("--points-to", help="This balance or less.")] = None,
    points_expire_before: Annotated[
        str | None, typer.Option("--points-expire-before", help="Who has points that run out before then.")
    ] = None,
    last_order_after: Annotated[
        str | None, typer.Option("--last-order-after", help="Last order then or later: a time, or a date in UTC.")
    ] = None,
    last_order_before: Annotated[
        str | None, typer.Option("--last-order-before", help="Last order before then.")
    ] = None,
    consent: Annotated[
        str | None, typer.Option("--consent", help="Only this consent, or any; in a preset it is subscribed.")
    ] = None,
    changed_since: Annotated[
        str | None, typer.Option("--changed-since", help="Only whose segment changed then or later.")
    ] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="As of a past instant.")] = None,
    excel: Annotated[bool, typer.Option("--excel", help="For a spreadsheet: accents and all digits stay.")] = False,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="LOYALNEST_API_KEY",
            help="An API key of the shop: with the scopes export and pii, addresses are in clear.",
            show_default=False,
        ),
    ] = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Write customers as CSV: the same bytes as the API's exports/segments.csv. Addresses are hashed without a key.

    docs/exports.md says who and which columns may be asked for.
    """
    name = common.shop_name(shop)
    times = {"last_order_after": last_order_after, "last_order_before": last_order_before}
    times |= {"points_expire_before": points_expire_before, "changed_since": changed_since, "as_of": as_of}
    said: dict[str, Any] = {each: common.instant(text) for each, text in times.items() if text is not None}
    given: dict[str, Any] = {"segment": segment, "preset": preset, "columns": columns, "consent": consent}
    given |= {"r": r, "f": f, "m": m, "points_from": points_from, "points_to": points_to, "excel": excel}
    said |= {each: value for each, value in given.items() if value is not None}
    with common.attached(common.read_settings(database=database, data=data)) as settings:
        rows = _write(settings, name, said, key, out)
    if out is not None:
        common.out.print(f"{rows:,} rows in {out}", markup=False, soft_wrap=True)


def _write(settings: Settings, shop: str, said: dict[str, Any], key: str | None, out: Path | None) -> int:
    """Writes the file; how many rows it has. Here, not above: the API takes a second to load."""
    from api.problems import ProblemError
    from api.questions import Question

    try:
        question = Question.model_validate(said)
    except ValidationError as error:
        raise CommandError("; ".join(_wrong(each) for each in error.errors())) from None
    if key is None and "pii" in question.scopes:
        raise CommandError(
            "such a file shows addresses, or people who did not agree: give, in LOYALNEST_API_KEY, an API key of the"
            " shop with the scopes export and pii"
        )
    try:
        with _file(out) as file:
            return asyncio.run(_exported(settings, shop, question, key, file))
    except ProblemError as problem:
        raise CommandError(problem.detail) from None


def _wrong(error: Any) -> str:
    option = "-".join(str(part) for part in error["loc"][:1]).replace("_", "-")
    return f"--{option}: {error['msg']}" if option else str(error["msg"])


async def _exported(settings: Settings, shop: str, question: Any, key: str | None, file: IO[bytes]) -> int:
    from api import export_queries, export_streams, exports, reading
    from books import api_keys
    from books import exports as book

    async with reading.opened(settings, "loyalnest export") as services:
        scopes, who = _WITHOUT_A_KEY, "shell"
        if key is not None:
            async with services.pool.connection() as connection:
                granted = await api_keys.check(connection, key)
            if granted is None or shop not in granted.shops or "export" not in granted.scopes:
                raise CommandError(f"that is no API key of {shop} with the scope export")
            scopes, who = granted.scopes, granted.id
        export = await export_queries.prepared(export_queries.Asker(services, shop, scopes, who), question)
        total, noted = await export_queries.of(export), await exports.Noted.begun(export, "shell")
        ended: book.Status = "broken off"
        try:
            with batch.bar() as progress:
                task = progress.add_task(f"exporting {shop}", total=total)
                stream = export_streams.written(export, noted.tally, lambda: None, noted.row.id)
                async with aclosing(stream) as pieces:
                    async for piece in pieces:
                        file.write(piece)
                        progress.update(task, completed=noted.tally.done)
            ended = "done"
        finally:
            await noted.over(ended)
        return noted.tally.rows


@contextmanager
def _file(out: Path | None) -> Iterator[IO[bytes]]:
    """Where it is written: a file appears whole, and its owner alone can read it."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = out.with_name(f".{out.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
