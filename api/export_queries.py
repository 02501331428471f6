"""What is read for an export: for whom it is made, the customers that its question means, and what it shows of them."""

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

import polars as pl
from psycopg import sql

from api import export_cells, questions, sql_cells
from api.context import Caller
from api.problems import ProblemError
from api.questions import COLUMNS, Question
from api.reading import Reading, Row, Statement
from api.runs import side
from books import contacts
from events.programs import Program
from lake.past import Standings

# Everybody, or who of them is asked for, with the columns that the file needs.
_LIVE = sql.SQL("""
SELECT {columns} FROM customers AS c WHERE shop = %(shop)s AND merged_into IS NULL AND {where}
""")

# Consent and address are today's, whatever day is asked for: nobody may be written to by a consent since withdrawn.
_PAST = sql.SQL("""
SELECT {columns}
FROM batch_segments AS b LEFT JOIN customers AS c ON c.shop = b.shop AND c.customer_id = b.customer_id
WHERE b.run_id = %(run)s AND b.shop = %(shop)s AND {where}
""")

#: Values that do not stand in a column of their name. A timestamptz AT TIME ZONE is a timestamp, whose 64 bits are
#: taken as they are; of an interval, for the name of a zone is looked up for each.
_OF_ROW: Final = {
    "expires_at": "(c.expires_at AT TIME ZONE INTERVAL '0')",
    "last_order_at": "(c.last_order_at AT TIME ZONE INTERVAL '0')",
    "as_of": "(c.now AT TIME ZONE INTERVAL '0')",
}

#: Of points a run has kept the balance alone: other cells are empty.
_OF_RUN: Final = {
    "currency": "%(currency)s::text",
    **dict.fromkeys(("pending", "earned", "spent", "expired", "expiring"), "''"),
    "expires_at": "NULL::timestamp",
    "last_order_at": "(b.last_order_at AT TIME ZONE INTERVAL '0')",
    "as_of": "(%(as_of)s::timestamptz AT TIME ZONE INTERVAL '0')",
    "cut_points_version": "%(version)s::text",
}

#: What holds somebody beside the program's own segments: names change with the grid, at the next batch.
_SEGMENTS = sql.SQL("SELECT segment FROM rfm_segment_counts WHERE shop = %(shop)s AND customers > 0")
_SEGMENTS_OF_RUN = sql.SQL("SELECT DISTINCT segment FROM batch_segments WHERE run_id = %(run)s AND shop = %(shop)s")

_COUNT = sql.SQL("SELECT count(*) AS customers FROM ({}) AS asked")

_NOT_KEPT: Final = "When points run out cannot be told of then just now: a batch has kept the balance alone."


class Asker(NamedTuple):
    """For whom an export is made: a shop, what its key allows, and who it is (the id of a key or session)."""

    services: Reading
    shop: str
    scopes: frozenset[str]
    who: str

    async def program(self) -> Program:
        """The shop's program; a problem (404) before it has one."""
        found = await self.services.program(self.shop)
        if found is None:
            raise ProblemError(404, "no-program", "The shop has no program yet: PUT one, or run `loyalnest shops add`.")
        return found


def asker_of(caller: Caller) -> Asker:
    """Who asks with a request."""
    return Asker(caller.services, caller.shop, caller.key.scopes, caller.key.id)


class Export(NamedTuple):
    """One export: what was asked, and what to read for it.

    `zone` is the shop's. `standings` are the lake's, of a past instant, and `chosen` who of them is asked for; then the
    query is none.
    """

    asker: Asker
    question: Question
    zone: str
    query: Statement | None
    parameters: Row
    standings: Standings | None = None
    chosen: pl.Expr | None = None

    @property
    def layout(self) -> Mapping[str, str]:
        """The header's names in the file's order, each with the cell that stands under it."""
        system = self.question.system
        if system is not None and system.layout is not None:
            return system.layout
        if self.question.columns:
            return {name: name for name in self.question.columns}
        shown = "pii" in self.asker.scopes
        names = ["email" if shown and name == "email_sha256" else name for name in COLUMNS]
        return dict(zip(names, names, strict=True))

    @property
    def parts(self) -> list[export_cells.Part]:
        """The cells of a line, as they are read."""
        return export_cells.parts(self.layout.values())

    @property
    def values(self) -> list[str]:
        """The values that the query has of a row: those (of VALUES) that cells are made of here."""
        return export_cells.needed([cell for part in self.parts if part.text is None for cell in part.cells])

    @property
    def tells(self) -> bool:
        """Whether anything of addresses or consents is asked: to open them takes most of an export's time."""
        asked = self.question.wanted_consent is not None or self.question.preset is not None
        return asked or export_cells.tell(self.layout.values())

    def columns(self, table: str, others: Mapping[str, str]) -> sql.SQL:
        """What a query of its rows reads: values, then the texts of the parts that have one, made of columns of the
        table but for `others`; then, if it tells anything, what was told, sealed.
        """
        values = {name: others.get(name, f"{table}.{name}") for name in export_cells.VALUES}
        cells = export_cells.in_sql(values)
        texts = [sql_cells.row(cells[cell] for cell in part.cells) for part in self.parts if part.text is not None]
        read = [*(values[name] for name in self.values), *texts, *([contacts.SEALED] if self.tells else [])]
        return sql.SQL(", ".join(read))

    @property
    def scopes(self) -> frozenset[str]:
        """What a key must allow to see the file."""
        clear = "email" in self.layout.values()
        return frozenset({"export"}) | self.question.scopes | (frozenset({"pii"}) if clear else frozenset())


async def prepared(asker: Asker, question: Question) -> Export:
    """What to read for a question. A problem (403, 404, 422, 503) where it cannot be answered for this asker."""
    questions.refuse_without_scopes(question, asker.scopes)
    program = await asker.program()
    if question.as_of is None:
        where, parameters = questions.where(question, "c")
        parameters |= {"shop": asker.shop}
        if question.segment:
            await _refuse_unknown_segments(asker, question, program, _SEGMENTS, parameters)
        export = Export(asker, question, program.zone, None, parameters)
        return export._replace(query=_LIVE.format(columns=export.columns("c", _OF_ROW), where=where))
    found = await side(asker, program, question.as_of)
    parameters = {"shop": asker.shop, "as_of": found.at, "currency": program.currency}
    if found.standings is not None:
        questions.refuse_unknown_segments(question, program, (each["segment"] for each in found.standings.segments))
        parameters |= {"version": found.standings.cut_points.version}
        chosen = await questions.expression(asker.services, asker.shop, question)
        return Export(asker, question, program.zone, None, parameters, found.standings, chosen)
    assert found.run is not None
    if question.points_expire_before is not None:
        raise ProblemError(503, "lake-behind", _NOT_KEPT, {"Retry-After": "60"})
    where, asked = questions.where(question, "b")
    parameters |= {**asked, "run": found.run.id, "version": found.run.version}
    if question.segment:
        await _refuse_unknown_segments(asker, question, program, _SEGMENTS_OF_RUN, parameters)
    export = Export(asker, question, program.zone, None, parameters)
    return export._replace(query=_PAST.format(columns=export.columns("b", _OF_RUN), where=where))


async def of(export: Export) -> int:
    """How many customers it goes through; in a list of people, fewer may stand in the file."""
    if export.query is None:
        assert export.standings is not None
        assert export.chosen is not None
        return await asyncio.to_thread(export.standings.count, export.chosen)
    (row,) = await export.asker.services.rows(_COUNT.format(export.query), export.parameters)
    return int(row["customers"])


async def _refuse_unknown_segments(
    asker: Asker, question: Question, program: Program, query: Statement, parameters: Row
) -> None:
    others = [row["segment"] for row in await asker.services.rows(query, parameters)]
    questions.refuse_unknown_segments(question, program, others)
