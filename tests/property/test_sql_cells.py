"""An export's cells as PostgreSQL writes them, against the same cells as they are written here."""

from types import SimpleNamespace
from typing import Any, Final

import polars as pl
import psycopg
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from api import export_cells, export_rows, sql_cells
from api.export_cells import INSTANTS, VALUES, Part
from api.questions import Question
from events import instants
from tests.property.test_csv import ROW

_TYPES: Final = {
    name: "timestamp" if name in INSTANTS else "bigint" if kind == pl.Int64 else "text" for name, kind in VALUES.items()
}
_CELLS: Final = export_cells.in_sql({name: name for name in VALUES})
#: Points that the lake may not tell; a row has them.
_POINTS: Final = ("pending", "earned", "spent", "expired", "expiring")
_WRITTEN: Final = f"""
SELECT {sql_cells.row(_CELLS.values())}
FROM ROWS FROM (jsonb_to_recordset(%s) AS ({", ".join(f"{name} {kind}" for name, kind in _TYPES.items())}))
WITH ORDINALITY ORDER BY ordinality
"""


@given(rows=st.lists(ROW, min_size=1, max_size=20))
def test_a_row_is_the_same_by_both(module_database: str, rows: list[dict[str, Any]]) -> None:
    export: Any = SimpleNamespace(question=Question(), zone="UTC", parts=[Part(None, tuple(_CELLS))])
    rows = [row | {name: row[name] or 0 for name in _POINTS} for row in rows]
    values = pl.DataFrame([{"customer_id": "1", **row} for row in rows], schema=VALUES)
    told = [row | {name: None if row[name] is None else instants.text(row[name]) for name in INSTANTS} for row in rows]
    with psycopg.connect(module_database) as connection:
        found = connection.execute(_WRITTEN.encode(), (Jsonb(told),)).fetchall()
    assert "".join(f"{line}\r\n" for (line,) in found).encode() == export_rows.lines(export, values)
