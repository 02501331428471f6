"""Writes what in docs/ comes from the code: JSON Schemas, the topic table, the settings and the metrics.

`make docs` writes; tests/contracts/test_docs.py fails when what stands there is not what the code says.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from pydantic import TypeAdapter
from pydantic_core import PydanticUndefined

from events import account_records, envelopes, records, topics
from events.programs import CutPoints, Program
from runtime import metrics
from runtime.settings import OperatorSettings

DOCS = Path(__file__).resolve().parent.parent / "docs"

#: What stands on each topic: the model, and the name of its schema.
MODELS: dict[str, tuple[str, TypeAdapter[Any]]] = {
    topics.ORDERS: ("envelope", envelopes.ENVELOPE),
    topics.CUSTOMERS: ("envelope", envelopes.ENVELOPE),
    topics.SHOPS: ("envelope", envelopes.ENVELOPE),
    topics.REQUESTS: ("envelope", envelopes.ENVELOPE),
    topics.REDEMPTIONS: ("redemption", records.REDEMPTION),
    topics.ACCOUNT_FACTS: ("account-fact", account_records.ACCOUNT_RECORD),
    topics.POINTS: ("points", records.POINTS_RECORD),
    topics.CUSTOMER_ROWS: ("customer", records.CUSTOMER_ROW),
    topics.RFM: ("rfm-updated", records.RFM_UPDATED),
    topics.WINDOWS: ("window", records.WINDOW_ROW),
    topics.PROGRAMS: ("program", TypeAdapter(Program)),
    topics.CUT_POINTS: ("cut-points", TypeAdapter(CutPoints)),
    topics.RESCORE: ("rescore", records.RESCORE),
    topics.DEAD_LETTERS: ("dead-letter", records.DEAD_LETTER),
}


def schemas() -> dict[Path, str]:
    """Every schema file with its text."""
    return {
        DOCS / "schemas" / f"{name}.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **adapter.json_schema()}, indent=2
        )
        + "\n"
        for name, adapter in MODELS.values()
    }


def _retention(topic: topics.Topic) -> str:
    if topic.compacted:
        return "compacted"
    return "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms // topics.DAY_MS} days"


_KEYS = {
    topics.ORDERS: "shop/order_id",
    topics.SHOPS: "shop",
    topics.PROGRAMS: "shop",
    topics.WINDOWS: "shop/partition",
    topics.CUT_POINTS: "shop/version",
    topics.RESCORE: "shop/run.N",
    topics.DEAD_LETTERS: "as received",
}


def topic_table() -> str:
    lines = ["| topic | key | kept | schema | carries |", "|---|---|---|---|---|"]
    for topic in topics.ALL:
        schema = MODELS[topic.name][0]
        key = _KEYS.get(topic.name, "shop/customer_id")
        lines.append(
            f"| `{topic.name}` | {key} | {_retention(topic)} | [{schema}](schemas/{schema}.json) | {topic.carries} |"
        )
    return "\n".join(lines)


def settings_table() -> str:
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in OperatorSettings.model_fields.items():
        said = ",".join(map(str, field.default)) if isinstance(field.default, list) else field.default
        default = "" if field.default in (None, PydanticUndefined, []) else f"`{said}`"
        lines.append(f"| `LOYALNEST_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def metrics_table() -> str:
    lines = ["| metric | kind | labels | what it counts |", "|---|---|---|---|"]
    for _, metric in inspect.getmembers(metrics, lambda each: isinstance(each, Counter | Gauge | Histogram)):
        name = metric._name + ("_total" if isinstance(metric, Counter) else "")
        labels = ", ".join(metric._labelnames)
        lines.append(f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |")
    return "\n".join([*lines[:2], *sorted(lines[2:])])


TABLES = {
    DOCS / "topics.md": {"topics": topic_table},
    DOCS / "operations.md": {"settings": settings_table, "metrics": metrics_table},
}


def filled(page: Path) -> str:
    """A page with its generated tables as they should be."""
    text = page.read_text(encoding="utf-8")
    for name, table in TABLES[page].items():
        pattern = re.compile(rf"(<!-- {name}: made by `make docs` -->\n).*?(<!-- end -->)", re.DOTALL)
        text, found = pattern.subn(lambda match, table=table: f"{match[1]}{table()}\n{match[2]}", text)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"{page.name} has no place for the table {name!r}")
    return text


def wanted() -> dict[Path, str]:
    """Every file that comes from the code, with the text it should have."""
    return {**schemas(), **{page: filled(page) for page in TABLES}}


if __name__ == "__main__":
    for path, text in wanted().items():
        path.write_text(text, encoding="utf-8")
