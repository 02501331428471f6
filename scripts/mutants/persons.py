"""Customers who are one person: whose consent is heard, and whom a redaction reaches."""

from scripts.mutants.mutant import ORDER_FREE, Mutant

CONTACTS = "tests/property/test_contacts.py"
JOINED = f"{CONTACTS}::test_what_several_told_is_joined_as_the_oracle_has_it"
PERSONS = "tests/integration/test_persons.py"

MUTANTS = [
    Mutant(
        "a consent told of a merged customer is forgotten",
        "events/contacts.py",
        "for each in (kept, *others) if each.consent",
        "for each in (kept,) if each.consent",
        (JOINED,),
    ),
    Mutant(
        "of two consents of one time what allows stands",
        "events/contacts.py",
        "of.consent != SUBSCRIBED",
        "of.consent == SUBSCRIBED",
        (JOINED,),
    ),
    Mutant(
        "another customer's order stands before a consent without a time",
        "events/contacts.py",
        "(ordered is not None and 0 < own[0] < ordered[0])",
        "(ordered is not None and own[0] < ordered[0])",
        (JOINED,),
    ),
    Mutant(
        "who took their address away is found by another customer's",
        "events/contacts.py",
        "if email is None and not kept.removed:",
        "if email is None:",
        (JOINED,),
    ),
    Mutant(
        "a consent of an address alone is a dead letter",
        "events/webhook_topics.py",
        "BY_ADDRESS: Final = frozenset({Kind.CUSTOMER, Kind.CONSENT, Kind.REDACT})",
        "BY_ADDRESS: Final = frozenset({Kind.CUSTOMER, Kind.REDACT})",
        (CONTACTS,),
    ),
    Mutant(
        "an address that unsubscribed is written to under another's name",
        "books/contacts.py",
        "if consent == SUBSCRIBED and email is not None",
        "if consent is None and email is not None",
        (f"{PERSONS}::test_consent_follows_the_person",),
    ),
    Mutant(
        "a row does not say how new a consent is",
        "tables/reaching.py",
        "instants.text(consent_at) if consent_at else None",
        "None",
        (f"{ORDER_FREE}::test_any_order_of_the_webhooks_and_any_crash_end_in_the_oracles_state",),
    ),
    Mutant(
        "a past list has the consent of who somebody was",
        "books/persons.py",
        "while missing := {",
        "while (missing := set()) and {",
        (f"{PERSONS}::test_a_past_list_has_todays_consent_of_who_somebody_is_today",),
    ),
    Mutant(
        "a redaction reaches only whom it names",
        "books/persons.py",
        "c.merged_into = same.customer_id AND",
        "c.customer_id = same.customer_id AND",
        (f"{PERSONS}::test_one_batch_may_bring_all_of_it",),
    ),
    Mutant(
        "who is somebody forgotten only later keeps their key",
        "streams/sink/store.py",
        "        if late:\n",
        "        if not late:\n",
        (f"{PERSONS}::test_a_redaction_reaches_all_who_are_they_in_whatever_order_it_is_heard",),
    ),
    Mutant(
        "a redaction does not wait for who is just being stored",
        "streams/sink/store.py",
        "    _lock_persons(cursor, rows)\n",
        "",
        (f"{PERSONS}::test_two_who_write_at_once_do_not_miss_each_other",),
    ),
    Mutant(
        "sinks wait for each other to store who is whom",
        "streams/sink/store.py",
        "[shop in forgotten for shop in shops]",
        "[True for _ in shops]",
        (f"{PERSONS}::test_sinks_that_store_who_is_whom_do_not_wait_for_each_other",),
    ),
    Mutant(
        "the addresses that are stored of a merged customer stay",
        "books/contacts.py",
        "sorted({*emails, *filter(None, [told])})",
        "filter(None, [told])",
        (f"{PERSONS}::test_every_address_that_is_stored_of_them_is_forgotten",),
    ),
    Mutant(
        "a redaction that is replayed forgets no address",
        "books/dead_letters.py",
        "contacts.take(vault, shop, topic, found, now)",
        "contacts.seal(vault, shop, topic, found)",
        (f"{PERSONS}::test_a_replayed_redaction_reaches_whom_its_address_names",),
    ),
    Mutant(
        "an export of customers without ids is rejected",
        "imports/customer_export.py",
        'if ident is None and not cell["email"]:',
        "if ident is None:",
        ("tests/unit/test_customer_export.py",),
    ),
]
