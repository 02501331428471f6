"""A batch run's quality as a page: what was measured, each gate with its verdict. It loads nothing from elsewhere."""

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any, Final

#: A shop's runs, newest first; parameters: shop, how many.
RUNS: Final = """
SELECT id, as_of, version, published, status, attempt, customers, scored, rescored, rounds, differ, webhooks, seconds,
       detail, started_at, finished_at, quality
FROM batch_runs WHERE shop = %s ORDER BY started_at DESC LIMIT %s
"""

#: One run of a shop; parameters: shop, id.
RUN: Final = RUNS.replace("ORDER BY started_at DESC LIMIT %s", "AND id = %s")

#: The page's only style; whoever serves it allows it by its hash.
STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1e}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".failed{color:#a3131b;font-weight:600}.passed{color:#1b6e3c}.skipped{color:#666}"
    "@media(prefers-color-scheme:dark){body{background:#161618;color:#eee}th,td{border-color:#444}"
    ".failed{color:#ff8f8f}.passed{color:#7fd8a0}.skipped{color:#aaa}}"
)


def failed(quality: Mapping[str, Any] | None) -> list[str]:
    """The names of the gates that a run did not pass."""
    return [gate["name"] for gate in (quality or {}).get("gates", ()) if gate["passed"] is False]


def html(shop: str, run: Mapping[str, Any]) -> str:
    """A run as a page; `run` is a row of RUNS."""
    quality = run["quality"] or {"measured": {}, "gates": []}
    facts = {
        "run": str(run["id"]),
        "as of": _moment(run["as_of"]),
        "status": run["status"] + (", published" if run["published"] else ", not published"),
        "try": str(run["attempt"]),
        "cut points": run["version"] or "",
        "customers": _number(run["customers"]),
        "seconds": _number(run["seconds"]),
        "what was not as it should be": run["detail"] or "nothing",
    }
    gates = "".join(_gate(each) for each in quality["gates"]) or '<tr><td colspan="4">No gate was asked.</td></tr>'
    numbers = "".join(
        f'<tr><td>{_words(name)}</td><td class="n">{_number(value)}</td></tr>'
        for name, value in quality["measured"].items()
    )
    rows = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    title = f"Batch of {escape(shop)} as of {_moment(run['as_of'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>{title}</h1>'
        f"<table>{rows}</table>"
        f"<h2>Gates</h2><table><tr><th>gate</th><th>value</th><th>wanted</th><th>verdict</th></tr>{gates}</table>"
        f"<h2>Measured</h2><table>{numbers}</table></body></html>\n"
    )


def _gate(gate: Mapping[str, Any]) -> str:
    verdict = {True: "passed", False: "failed", None: "skipped"}[gate["passed"]]
    said = verdict if gate["why"] is None else f"not asked: {gate['why']}"
    return (
        f"<tr><td><strong>{_words(gate['name'])}</strong><br>{escape(gate['says'])}</td>"
        f'<td class="n">{_number(gate["value"])}</td><td class="n">{wanted(gate)}</td>'
        f'<td class="{verdict}">{escape(said)}</td></tr>'
    )


def wanted(gate: Mapping[str, Any]) -> str:
    """A gate's range in words."""
    low, high = gate["low"], gate["high"]
    if low is None and high is None:
        return ""
    if low is None:
        return f"at most {_number(high)}"
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def _words(name: str) -> str:
    return escape(name.replace("_", " "))


def _moment(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
