"""How somebody may be reached: sealed into payloads, and opened where somebody may see it.

Address and consent are sealed apart, for each is joined by itself, and whoever joins them cannot read them. So those of
customers who are one person are joined here, where they are opened: each row keeps what was told of it alone.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from books import persons
from books.sealed import Opened as ByPlace
from books.sealed import VaultError
from books.vault import Sealer, Vault
from events import instants, keys, payloads
from events.contacts import SUBSCRIBED, Account, joined
from events.envelopes import Opened, Personal, personal
from events.payloads import Contact
from events.webhook_topics import TELLING, TOPICS, Kind


async def seal(vault: Vault, shop: str, topic: str, opened: Opened) -> str:
    """Puts into the payload what it told, as `sealed` has it. The answer is the webhook's Kafka key."""
    [(key, fields)] = await sealed(vault, shop, [personal(topic, opened)])
    opened.payload.update(fields)
    return key


async def sealed(vault: Vault, shop: str, asked: Sequence[Personal]) -> list[tuple[str, dict[str, Any]]]:
    """Of each webhook its Kafka key, and what goes into its payload of what it told.

    That is `contact` and `consent`, sealed, and `address`, the keyed id of the e-mail. A `contact` of null says that
    there is no address any more. All are sealed with the customer's key, or without one with that of whoever is known
    by the address alone; null is what nobody is to have. An award of whoever is known by the address alone gets
    their `customer_id`. Few statements for all.
    """
    telling = {at: each for at, each in enumerate(asked) if TOPICS[each.topic].kind in TELLING}
    naming = {at for at, each in enumerate(asked) if each.key is None and TOPICS[each.topic].kind is Kind.AWARD}
    emails = {at: email for at in [*telling, *naming] if (email := asked[at].told.email) is not None}
    addresses = await vault.addresses(shop, emails)
    owners = {at: each.customer_id or addresses.get(at) for at, each in telling.items()}
    sealer = await vault.sealer(shop, {whose for at, whose in owners.items() if whose and _tells(asked[at])})
    found = []
    for at, each in enumerate(asked):
        fields: dict[str, Any] = {"customer_id": addresses.get(at)} if at in naming else {}
        if at in telling:
            fields = _fields(sealer, each.told, owners[at], addresses.get(at))
        found.append((each.key or payloads.key_of(each.topic, shop, fields), fields))
    return found


def _tells(each: Personal) -> bool:
    return each.told.email is not None or each.told.consent is not None


def _fields(sealer: Sealer, told: payloads.Told, whose: str | None, address: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if told.email is not None:
        fields["address"] = address
    if told.email is not None or told.removed:
        fields["contact"] = told.email and whose and sealer.seal(whose, Contact(told.email, None))
    if told.consent is not None:
        fields["consent"] = whose and sealer.seal(whose, Contact(None, told.consent))
        if told.consent_at is not None:
            fields["consent_at"] = told.consent_at
    return fields


async def take(vault: Vault, shop: str, topic: str, opened: Opened, at: datetime) -> str:
    """What is personal in a webhook: seals it, or destroys the keys of whom it asks to forget. Its Kafka key."""
    kind, told = TOPICS[topic].kind, opened.told
    if kind is Kind.SHOP_REDACT:
        await vault.destroy_shop(shop, at)
    elif kind is Kind.REDACT:
        if opened.key is None and told.email is not None:
            opened.payload["address"] = await vault.address(shop, told.email)
        key = opened.key or payloads.key_of(topic, shop, opened.payload)
        await forget(vault, shop, keys.split(key)[1], told.email, at)
        return key
    return await seal(vault, shop, topic, opened)


# --- opened ------------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What of a customer's row `opened` looks at."""

    customer_id: str
    merged_into: str | None
    contact: str | None
    contact_at: datetime | None
    consent: str | None
    consent_at: datetime | None
    consent_by_order: bool | None
    deleted: bool | None
    redacted: bool | None

    @property
    def tells(self) -> bool:
        """Whether it tells anything that may be known."""
        return bool(self.contact or self.consent or self.contact_at) and not (self.deleted or self.redacted)


COLUMNS: Final = Told._fields

_NO_ROW: Final = dict.fromkeys(COLUMNS)


class Rows(NamedTuple):
    """What customers' rows tell, column by column, a customer at each place: SEALED behind the ids."""

    customer_ids: Sequence[str]
    merged_into: Sequence[str | None]
    contacts: Sequence[str | None]
    consents: Sequence[str | None]


#: The columns of a row of customers, `c`, that Rows is made of. Of who is forgotten nothing is told.
SEALED: Final = """
c.merged_into, CASE WHEN c.deleted OR c.redacted THEN NULL ELSE c.contact END AS contact,
CASE WHEN c.deleted OR c.redacted THEN NULL ELSE c.consent END AS consent
"""

_SEALED_OF: Final = "SELECT c.customer_id, {} FROM customers AS c WHERE shop = %s AND customer_id = %s"

#: The last of a shop's customers. Whoever is known by their address alone stands behind all digits.
_LAST: Final = "SELECT customer_id FROM customers WHERE shop = %s ORDER BY customer_id DESC LIMIT 1"


class Persons(NamedTuple):
    """What was told of some persons: by place the address and the consent of each whose row tells all, and all that was
    told of those who are several customers: of the one who was kept first.
    """

    emails: list[str | None]
    consents: list[str | None]
    several: Mapping[int, list[Account]]

    @property
    def joined(self) -> ByPlace:
        """By place the address and the consent of each of them."""
        emails, consents = self.emails[:], self.consents[:]
        for at, accounts in self.several.items():
            emails[at], consents[at] = joined(*accounts)
        return emails, consents


async def told(vault: Vault, connection: AsyncConnection[Any], shop: str, rows: Rows) -> Persons:
    """What was told of the persons whose rows these are, read on the connection. Of none who is forgotten, and nothing
    of whoever is known by their address alone and is somebody else: they are a person too.
    """
    asked = await persons.followed(connection, shop, rows.customer_ids)
    asked |= {each for each, into in zip(rows.customer_ids, rows.merged_into, strict=True) if into is not None}
    contacts, consents, several = rows.contacts, rows.consents, dict[int, list[Account]]()
    if asked:
        contacts, consents = list(contacts), list(consents)
        accounts = await _told_by_id(vault, connection, shop, asked)
        for at, customer_id in enumerate(rows.customer_ids):
            if customer_id in asked:
                contacts[at] = consents[at] = None
                if customer_id in accounts:
                    several[at] = accounts[customer_id]
    found = await vault.open_columns(connection, shop, rows.customer_ids, contacts, consents)
    return Persons(*found, several)


async def opened(vault: Vault, connection: AsyncConnection[Any], shop: str, rows: Rows) -> ByPlace:
    """By place the addresses and the consents of the persons whose rows these are, read on the connection.

    Whoever the shop has deleted, or who was redacted, has neither, and nor have those of whom nothing can be read. Two
    may share an address that belongs to one of them: what was told of it alone is heard before either is written to.
    """
    found = await told(vault, connection, shop, rows)
    emails, consents = found.joined
    written_to = {
        at: email
        for at, (email, consent) in enumerate(zip(emails, consents, strict=True))
        if consent == SUBSCRIBED and email is not None
    }
    if written_to and await _any_alone(connection, shop):
        addresses = await vault.addresses(shop, written_to)
        alone = await _accounts(vault, connection, shop, await _read(connection, shop, set(addresses.values())))
        shared = {at: address for at, address in addresses.items() if address in alone}
        singles = {rows.customer_ids[at] for at in shared if at not in found.several}
        own = await _told_by_id(vault, connection, shop, singles)
        for at, address in shared.items():
            accounts = found.several.get(at) or own.get(rows.customer_ids[at])
            if accounts:
                emails[at], consents[at] = joined(*accounts, alone[address])
    return emails, consents


async def opened_of(vault: Vault, connection: AsyncConnection[Any], shop: str, customer_id: str) -> Contact | None:
    """As `opened`, of one customer; None where nothing can be read."""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(_SEALED_OF.format(SEALED).encode(), (shop, customer_id))
    found = await cursor.fetchall()
    if not found:
        return None
    [email], [consent] = await opened(vault, connection, shop, Rows(*zip(*found, strict=True)))
    return None if email is None and consent is None else Contact(email, consent)


async def _told_by_id(
    vault: Vault, connection: AsyncConnection[Any], shop: str, customer_ids: Collection[str]
) -> dict[str, list[Account]]:
    """As `_told_of_several`, of rows that are not read yet. Somebody's may not be stored so far."""
    if not customer_ids:
        return {}
    found = await persons.find(connection, shop, customer_ids, COLUMNS)
    rows = {each: Told(**found.get(each, _NO_ROW | {"customer_id": each})) for each in customer_ids}
    return await _told_of_several(vault, connection, shop, rows)


async def _told_of_several(
    vault: Vault, connection: AsyncConnection[Any], shop: str, asked: Mapping[str, Told]
) -> dict[str, list[Account]]:
    """What was told of each of these persons, by customer: of the one who was kept first. Of none who is forgotten."""
    rows = {customer_id: row._asdict() for customer_id, row in asked.items()}
    everybody = await persons.related(connection, shop, rows, COLUMNS)
    telling = [row for row in (Told(**each) for each in everybody.values()) if row.tells]
    accounts = await _accounts(vault, connection, shop, telling)
    ends = persons.ends(everybody)
    groups: dict[str, list[str]] = {}
    for customer_id in accounts:
        groups.setdefault(ends[customer_id], []).append(customer_id)
    told: dict[str, list[Account]] = {}
    for customer_id in asked:
        # In a circle, or on a way that ends nowhere yet, nobody was kept: so they are.
        end = everybody.get(ends[customer_id])
        kept = customer_id if end is None or end["merged_into"] is not None else end["customer_id"]
        if everybody[kept]["deleted"] or everybody[kept]["redacted"]:
            continue
        merged = [accounts[each] for each in groups.get(ends[customer_id], ()) if each != kept]
        told[customer_id] = [accounts.get(kept, Account()), *merged]
    return told


async def _any_alone(connection: AsyncConnection[Any], shop: str) -> bool:
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(_LAST, (shop,))
    last = await cursor.fetchone()
    return last is not None and not last[0].isdigit()


async def _read(connection: AsyncConnection[Any], shop: str, customer_ids: Collection[str]) -> list[Told]:
    """Their rows, of those that tell anything."""
    found = await persons.find(connection, shop, customer_ids, COLUMNS)
    return [row for row in (Told(**each) for each in found.values()) if row.tells]


async def _accounts(
    vault: Vault, connection: AsyncConnection[Any], shop: str, rows: Collection[Told]
) -> dict[str, Account]:
    """What can be read of each of these rows, and when it was told, by customer."""
    customer_ids, contacts, consents = (
        [getattr(row, name) for row in rows] for name in ("customer_id", "contact", "consent")
    )
    found = await vault.open_columns(connection, shop, customer_ids, contacts, consents)
    return {row.customer_id: _account(row, *each) for row, *each in zip(rows, *found, strict=True)}


def _account(row: Told, email: str | None, consent: str | None) -> Account:
    return Account(
        email,
        _at(row.contact_at),
        row.contact is None and row.contact_at is not None,
        consent,
        _at(row.consent_at),
        bool(row.consent_by_order),
    )


def _at(when: datetime | None) -> int:
    return 0 if when is None else instants.from_datetime(when)


# --- forgotten ---------------------------------------------------------------------------------------------------


_ADDRESSED: Final = ("customer_id", "merged_into", "contact")


async def forget(vault: Vault, shop: str, customer_id: str, told: str | None, asked_at: datetime) -> None:
    """Destroys a customer's key, and those of everybody who is the same person: who was merged into them, and who is
    known by an address of theirs alone, be it the one that is told or one that is stored.
    """
    emails = await _stored(vault, shop, customer_id)
    for email in sorted({*emails, *filter(None, [told])}):
        address = await vault.address(shop, email)
        if address is not None:
            await vault.destroy(shop, address, asked_at)
    # Last: what names the others goes with it. Should one of them fail, whoever asks again finds them all.
    await vault.destroy(shop, customer_id, asked_at)


async def _stored(vault: Vault, shop: str, customer_id: str) -> set[str]:
    """The e-mails that are stored of a customer and of those who are they.

    None where nobody can read them: their keys go all the same.
    """
    async with vault.connection() as connection:
        rows = await persons.find(connection, shop, [customer_id], _ADDRESSED)
        rows |= await persons.led(connection, shop, [customer_id], _ADDRESSED)
        addresses, nothing = [row["contact"] for row in rows.values()], [None] * len(rows)
        try:
            emails, _ = await vault.open_columns(connection, shop, list(rows), addresses, nothing)
        except VaultError:
            return set()
    return {email for email in emails if email is not None}
