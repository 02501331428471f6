"""Whether this tree's folds and sink make byte for byte what another commit's make: for what only speeds them up.

`python -m scripts.bench.same [COMMIT] [--told]` (HEAD~1 where none is named) runs both trees, each in a process of its
own, over the golden files, a demo store, CDNOW, generated stores and bodies that nobody would send. Each goes in as
somebody else's producer writes it, and as our front door does. Compared are every record that leaves, in its order,
every changelog record, and the rows that the sink makes of them. With `--told` only what others are told: neither
what the worker keeps nor what it tells itself, and no revisions, whose form may change.
"""

import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]

#: Generated stores, and bodies that nobody would send.
_STORES: Final = 40
_BODIES: Final = 20_000


class Corpus(NamedTuple):
    """What one run is fed: programs by shop, and (stream, key, value) in order of arrival."""

    name: str
    programs: dict[str, Any]
    sent: list[tuple[str, str, bytes]]


#: What others are not told.
_OWN: Final = ("loyalnest.account-facts", "changelog of ")
_REVISION: Final = re.compile(r"""(["'])revision\1: ?(["']).*?\2""")


def main(commit: str = "HEAD~1", *options: str) -> int:
    with tempfile.TemporaryDirectory() as made:
        there, corpora = Path(made) / "tree", Path(made) / "corpora"
        there.mkdir()
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "x", "-C", there], input=archive.stdout, check=True)
        corpora.write_bytes(pickle.dumps([tuple(each) for each in _corpora()]))
        before, after = (_recorded(tree, corpora, *options) for tree in (there, ROOT))
    differing = [name for name in before if before[name] != after.get(name)]
    for name in differing:
        print(f"other: {name} ({before[name][0]} records before)")
    print(f"{sum(records for records, _ in before.values()):,} records of {len(before)} kinds, {len(differing)} other")
    return 1 if differing or before.keys() != after.keys() else 0


def _recorded(tree: Path, corpora: Path, *options: str) -> dict[str, tuple[int, str]]:
    """By corpus and what it is made into: how many records, and their digest."""
    command = [sys.executable, str(Path(__file__).resolve()), "record", str(corpora), *options]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, check=True)
    return {name: (records, digest) for name, records, digest in json.loads(done.stdout)}


def record(corpora: Path, *, told: bool) -> None:
    """In the tree that PYTHONPATH names: what it makes of the corpora, on stdout."""
    found = []
    for name, programs, sent in pickle.loads(corpora.read_bytes()):
        for what, records in _made(programs, sent):
            if told and what.startswith(_OWN):
                continue
            digest = hashlib.sha256()
            for each in records:
                text = _REVISION.sub("", repr(each)) if told else repr(each)
                digest.update(text.encode(errors="backslashreplace") + b"\n")
            found.append((f"{name}: {what}", len(records), digest.hexdigest()))
    json.dump(found, sys.stdout)


def _made(programs: dict[str, Any], sent: list[tuple[str, str, bytes]]) -> Iterator[tuple[str, list[Any]]]:
    from streams.sink.rows import Rows
    from tests import harness

    stream = harness.Stream(harness.reference(programs), partitions=2, workers=1, most=200, losses=0)
    stream.calm = True
    for topic, key, value in sent:
        stream.put(topic, key, value)
    stream.run()
    for shop in programs:
        stream.rescore(shop, "2026-12-01T00:00:00Z", "default")
    stream.run()
    rows = {False: Rows(False), True: Rows(True)}
    for (topic, number), log in sorted(stream.logs.items()):
        yield f"{topic}[{number}]", [tuple(each) for each in log]
        if topic not in ("loyalnest.account-facts", "loyalnest.rfm"):
            for into in rows.values():
                for received in log:
                    into.add(received)
    for (table, number), kept in sorted(stream.changelogs.items()):
        yield f"changelog of {table}[{number}]", [(each.key, each.value, each.headers) for each in kept]
    for journal, into in rows.items():
        for name, value in vars(into).items():
            listed = list(value.items()) if isinstance(value, dict) else value
            listed = sorted(listed) if isinstance(listed, set) else listed
            yield f"sink's {name}{' (journal)' * journal}", listed if isinstance(listed, list) else [listed]


def _corpora() -> Iterator[Corpus]:
    from tests import stores
    from tests.golden import test_golden
    from tests.support import CDNOW_SHOP, cdnow_envelopes

    usual = {"currency": "USD", "zone": "America/New_York", "look_back_days": 365, "rules": []}
    golden = [(path.stem, test_golden.read(path)) for path in test_golden.FILES]
    for name, found in golden:
        yield from _both(f"golden {name}", found["programs"], found["envelopes"])
    yield from _both("cdnow", {CDNOW_SHOP: usual}, cdnow_envelopes())
    yield from _both("demo store", {"demo.myshopify.com": usual}, _demo())
    for seed in range(_STORES):
        currency = ("USD", "JPY", "KWD")[seed % 3]
        told = stores.store(seed, 8, 40, currency=currency, moments=1 + seed % 6)
        yield from _both(f"store {seed}", {stores.SHOP: stores.program(seed, currency)}, told)
    yield _nonsense(usual)


def _both(name: str, programs: dict[str, Any], envelopes: Iterable[Any]) -> Iterator[Corpus]:
    """As another producer writes the envelopes, and as our front door would."""
    from events import codec, payloads, webhook_topics
    from events.errors import BadEvent
    from tests import harness

    theirs, ours = [], []
    for each in envelopes:
        place = webhook_topics.stream_of(each["topic"]), harness.key_of(each)
        theirs.append((*place, json.dumps(each).encode()))
        try:
            exact = codec.loads_exact(json.dumps(each["payload"]).encode())
            ours.append((*place, codec.dumps({**each, "payload": payloads.minimise(each["topic"], exact)})))
        except BadEvent:
            continue
    yield Corpus(f"{name}, another's", programs, theirs)
    yield Corpus(f"{name}, ours", programs, ours)


def _demo() -> Iterator[dict[str, Any]]:
    from cli.shop import store_maker
    from events import instants

    for each in store_maker.make_store(instants.parse("2026-11-21T09:30:00Z"), customers=600, webhooks=6000):
        yield {
            "topic": each.topic,
            "shop": "demo.myshopify.com",
            "webhook_id": each.webhook_id,
            "event_id": each.event_id,
            "api_version": "2026-07",
            "triggered_at": instants.text(each.triggered_at),
            "received_at": instants.text(each.triggered_at + 400_000),
            "payload": each.payload,
        }


def _nonsense(program: dict[str, Any]) -> Corpus:
    """Bodies that nobody would send in envelopes like ours, minimised where they can be."""
    from events import codec, payloads, webhook_topics
    from tests import fuzz

    sent = []
    for number, each in enumerate(fuzz.webhooks(7, _BODIES)):
        topic = each.headers.get("Topic", "orders/paid")
        head = {
            "topic": topic,
            "shop": each.headers.get("Shop-Domain", fuzz.SHOP),
            "webhook_id": each.headers.get("Webhook-Id", ""),
            "event_id": each.headers.get("Event-Id"),
            "api_version": each.headers.get("API-Version"),
            "triggered_at": each.headers.get("Triggered-At", ""),
            "received_at": "2026-11-21T09:30:00Z",
        }
        body, key = each.body, f"{fuzz.SHOP}/{number % 50}"
        try:
            payload = codec.loads_exact(body)
            if number % 3:
                body = codec.dumps(payloads.minimise(topic, payload))
            key = f"{fuzz.SHOP}/{payloads.resource_of(topic, payload)}"
        except Exception:  # whatever it is: it goes in as it is
            pass
        known = webhook_topics.TOPICS.get(topic, webhook_topics.TOPICS["orders/paid"])
        value = codec.dumps(head)[:-1] + b',"payload":' + body + b"}"
        sent.append((known.stream, key.encode(errors="replace").decode(), value))
    return Corpus("nonsense", {fuzz.SHOP: program}, sent)


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        record(Path(sys.argv[2]), told="--told" in sys.argv)
    else:
        sys.exit(main(*sys.argv[1:]))
