"""Lists of people for other people's systems: what each asks of a file, and whom nobody may put into one."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest

from api import export_streams, presets
from events.payloads import Contact
from lake import reading
from tests.integration.api_world import NOW, OTHER, SHOP, World, opened, prospect

AUDIENCES = ("klaviyo", "mailchimp", "meta", "google")


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


def ask(world: World, preset: str, *scopes: str, **parameters: Any) -> httpx.Response:
    answer: httpx.Response = world.get(
        "/exports/segments.csv", world.key("export", *scopes), preset=preset, **parameters
    )
    return answer


def rows(world: World, preset: str, *scopes: str, **parameters: Any) -> list[dict[str, str]]:
    answer = ask(world, preset, *scopes, **parameters)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""), strict=True))


def emails(world: World, preset: str = "klaviyo", **parameters: Any) -> list[str]:
    return [next(iter(row.values())) for row in rows(world, preset, "pii", **parameters)]


def person(
    world: World, customer_id: str, email: str | None, consent: str | None, at: datetime | None = None, **changes: Any
) -> None:
    """A customer with what they told, their consent as of a time."""

    def sealed(*told: str | None) -> str:
        found: str = world.run(world.services.vault.seal(SHOP, customer_id, Contact(*told)))
        return found

    world.customer(
        customer_id,
        contact=sealed(email, None) if email else None,
        consent=sealed(None, consent) if consent else None,
        **changes,
    )
    if at is not None:
        world.sql("UPDATE customers SET consent_at = %s WHERE customer_id = %s", at, customer_id)


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def test_each_to_the_byte(world: World) -> None:
    # When the 15th begins in the shop's zone: the last day is the 14th.
    points: dict[str, Any] = {"expiring": 40, "expires_at": datetime(2026, 12, 15, 5, tzinfo=UTC)}
    # The last order came in the evening of the 9th there.
    points["last_order_at"] = datetime(2026, 11, 10, 2, tzinfo=UTC)
    person(world, "7210448301122334", " Jane.Doe+shop@gmail.com", "subscribed", segment="Fidèle, à vie", **points)
    person(world, "9", "new@x.com", "subscribed", **prospect(balance=-5))
    assert ask(world, "klaviyo", "pii").content.decode() == (
        "Email,Email Marketing Consent,Loyalty Segment,Loyalty Points,Points Expiring,Points Last Day,RFM Score,Orders,"
        "Total Spent,Currency,Last Order\r\n"
        'jane.doe+shop@gmail.com,Subscribed,"Fidèle, à vie",129,40,2026-12-14,3.8,3,129.90,USD,2026-11-09\r\n'
        "new@x.com,Subscribed,Prospects,-5,0,,,0,0.00,USD,\r\n"
    )
    assert ask(world, "mailchimp", "pii").content.decode() == (
        "Email Address,Loyalty Segment,Loyalty Points,Points Expiring,Points Last Day,RFM Score,Orders,Total Spent,"
        "Currency,Last Order\r\n"
        'jane.doe+shop@gmail.com,"Fidèle, à vie",129,40,2026-12-14,3.8,3,129.90,USD,2026-11-09\r\n'
        "new@x.com,Prospects,-5,0,,,0,0.00,USD,\r\n"
    )
    # An id's digits alone: nothing that opens this file is a spreadsheet.
    assert ask(world, "meta").content.decode() == (
        "email,extern_id,value\r\n"
        f"{digest('jane.doe+shop@gmail.com')},7210448301122334,129.90\r\n"
        f"{digest('new@x.com')},9,0.00\r\n"
    )
    assert ask(world, "google").content.decode() == (
        f"Email\r\n{digest('janedoe@gmail.com')}\r\n{digest('new@x.com')}\r\n"
    )


def test_a_spreadsheets_keeps_every_digit_and_all_columns(world: World) -> None:
    person(world, "7210448301122334567", "bob@x.com", "subscribed", segment="Fidèle à vie")
    answer = ask(world, "spreadsheet")
    # Who is listed here are those who agreed: with everybody, it is what `excel=true` makes.
    assert answer.content == world.get("/exports/segments.csv", world.key("export"), excel=True).content
    assert answer.content.startswith(b"\xef\xbb\xbfcustomer_id,email_sha256,")
    assert "'7210448301122334567" in answer.text
    assert answer.headers["content-disposition"].startswith('attachment; filename="spreadsheet-nest-')
    (row,) = rows(world, "spreadsheet", "pii", columns="customer_id,email")
    assert row == {"customer_id": "'7210448301122334567", "email": "bob@x.com"}


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_only_who_consented_and_has_an_address(world: World, preset: str) -> None:
    consents = ("subscribed", "unsubscribed", "not_subscribed", "pending", None)
    for number, consent in enumerate(consents):
        person(world, str(number), f"{number}@x.com", consent)
    person(world, "7", None, "subscribed")
    person(world, "8", "8@x.com", "subscribed", deleted=True)
    person(world, "9", "9@x.com", "subscribed", redacted=True)
    world.customer("99", shop=OTHER)
    assert len(rows(world, preset, "pii")) == 1
    assert len(rows(world, preset, "pii", consent="any")) == len(consents)
    assert len(rows(world, preset, "pii", consent="not_subscribed")) == 2
    assert [row["Email Marketing Consent"] for row in rows(world, "klaviyo", "pii", consent="any")] == [
        *("Subscribed", "Unsubscribed", "Never subscribed", "Never subscribed", "Never subscribed")
    ]


def test_clear_addresses_and_who_did_not_agree_need_the_scope(world: World) -> None:
    for preset in presets.PRESETS:
        clear = preset in ("klaviyo", "mailchimp")
        assert ask(world, preset).status_code == (403 if clear else 200)
        for consent in ("any", "unsubscribed"):
            answer = ask(world, preset, consent=consent)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:loyalnest:problem:no-scope")
            assert ask(world, preset, "pii", consent=consent).status_code == 200
        assert ask(world, preset, *(["pii"] if clear else []), consent="subscribed").status_code == 200


@pytest.mark.parametrize("preset", AUDIENCES)
def test_their_columns_are_their_own(world: World, preset: str) -> None:
    for asked in ({"columns": "customer_id"}, {"excel": True}):
        answer = ask(world, preset, "pii", **asked)
        assert answer.status_code == 422
        assert preset in answer.json()["detail"]


def test_a_preset_that_there_is_not_is_said_with_those_there_are(world: World) -> None:
    answer = ask(world, "hubspot")
    assert answer.status_code == 422
    assert all(each in answer.json()["detail"] for each in presets.PRESETS)


@pytest.mark.parametrize(
    ("first", "second", "listed"),
    [
        (("subscribed", 1), ("unsubscribed", 2), False),
        (("unsubscribed", 1), ("subscribed", 2), True),
        (("subscribed", 2), ("unsubscribed", 1), True),
        (("subscribed", 1), ("unsubscribed", 1), False),  # of one time the one that forbids
        (("subscribed", 1), (None, None), True),
        (("subscribed", None), ("unsubscribed", None), False),
        (("unsubscribed", None), ("subscribed", 1), True),
        (("subscribed", None), (None, None), True),
        ((None, None), (None, None), False),
    ],
)
def test_of_one_address_the_newest_consent_decides_once(
    world: World, first: tuple[str | None, int | None], second: tuple[str | None, int | None], listed: bool
) -> None:
    for customer_id, email, (consent, days) in (("1", "ian@x.com", first), ("2", " Ian@X.com", second)):
        person(world, customer_id, email, consent, None if days is None else NOW + timedelta(days=days))
    person(world, "3", "eve@x.com", "subscribed", NOW)
    assert emails(world) == (["ian@x.com"] if listed else []) + ["eve@x.com"]
    assert emails(world, consent="any") == ["ian@x.com", "eve@x.com"]
    # In our own CSV each customer stands with what was told of them.
    answer = world.get("/exports/segments.csv", world.key("export"), columns="email_sha256")
    assert answer.text.count(digest("ian@x.com")) == 2


def test_who_has_the_address_elsewhere_in_the_shop_is_heard(world: World) -> None:
    """The one who withdrew it is in another segment: the address is not written to all the same."""
    person(world, "1", "ian@x.com", "subscribed", NOW, segment="Active")
    person(world, "2", "ian@x.com", "unsubscribed", NOW + timedelta(days=1), segment="Loyal")
    person(world, "3", "eve@x.com", "unsubscribed", NOW, segment="Active")
    person(world, "4", "eve@x.com", "subscribed", NOW + timedelta(days=1), segment="Loyal")
    assert emails(world, segment="Active") == ["eve@x.com"]
    assert rows(world, "google", segment="Active") == [{"Email": digest("eve@x.com")}]


def test_what_google_compares_alike_is_one_address_there(world: World) -> None:
    person(world, "1", "jane.doe@gmail.com", "subscribed", NOW)
    person(world, "2", "janedoe+shop@gmail.com", "subscribed", NOW)
    person(world, "3", "j.an@gmail.com", "subscribed", NOW)
    person(world, "4", "jan@gmail.com", "unsubscribed", NOW + timedelta(days=1))
    assert rows(world, "google") == [{"Email": digest("janedoe@gmail.com")}]
    assert emails(world) == ["jane.doe@gmail.com", "janedoe+shop@gmail.com", "j.an@gmail.com"]


def test_whoever_was_merged_is_one_person(world: World) -> None:
    person(world, "1", "old@x.com", "unsubscribed", NOW + timedelta(days=1), merged_into="2")
    person(world, "2", "kept@x.com", "subscribed", NOW)
    person(world, "3", None, "subscribed", NOW + timedelta(days=1))
    person(world, "4", "their@x.com", None, merged_into="3")
    assert emails(world) == ["their@x.com"]
    assert emails(world, consent="any") == ["kept@x.com", "their@x.com"]


def test_a_past_list_has_todays_consent_and_each_person_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST", -1)
    world.batch(NOW - timedelta(days=1), {"1": "Loyal", "2": "Loyal", "3": "Loyal", "4": "Loyal"})
    person(world, "1", None, None, merged_into="2")
    person(world, "2", "kept@x.com", "subscribed", NOW)
    person(world, "3", "gone@x.com", "unsubscribed", NOW)
    assert emails(world, as_of=NOW.isoformat()) == ["kept@x.com"]


def test_many_are_heard_and_listed_alike_in_chunks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_streams, "_CHUNK", 3)
    monkeypatch.setattr(export_streams, "_FIRST_CHUNK", 1)
    for number in range(20):
        person(world, f"{number:02}", f"{number % 7}@x.com", "subscribed", NOW)
    person(world, "90", "5@x.com", "unsubscribed", NOW + timedelta(days=1))
    wanted = [f"{number}@x.com" for number in (0, 1, 2, 3, 4, 6)]
    assert emails(world) == wanted
    assert ask(world, "klaviyo", "pii").content == ask(world, "klaviyo", "pii").content
