"""Keys, and the partition of a key: the same for our agents, for every producer of ours and for Kafka's own."""

import re
from collections import Counter

import pytest
from aiokafka.partitioner import murmur2 as aiokafkas
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events import keys
from events.errors import BadEvent
from runtime import kafka
from runtime.settings import Settings
from tests.support import ROOT


@pytest.mark.parametrize(
    ("key", "signed"),
    [  # of Apache Kafka's own UtilsTest
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(key: bytes, signed: int) -> None:
    assert keys.murmur2(key) == signed % (1 << 32)
    assert keys.partition_of(key, 12) == (signed & 0x7FFFFFFF) % 12


@given(st.binary(max_size=40))
@example(b"")
@example(b"1")
@example(b"12345")
def test_the_hash_is_that_of_another_client(key: bytes) -> None:
    assert keys.murmur2(key) == aiokafkas(key) % (1 << 32)


@settings(deadline=None)  # numpy is loaded once
@given(st.sets(st.binary(max_size=40) | st.from_regex(rb"nest[.]com/[0-9]{1,13}", fullmatch=True), max_size=60))
@example({b"nest.com/%d" % number for number in range(keys._MANY)})
def test_many_at_once_are_hashed_as_one_by_one(found: set[bytes]) -> None:
    wanted = {key: keys.partition_of(key, 12) for key in found}
    assert keys.partitions_of(found, 12) == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_MANY", 1)  # what is drawn at random is seldom as many
        assert keys.partitions_of(found, 12) == wanted


def test_every_producer_of_ours_partitions_so() -> None:
    """librdkafka's own default is another partitioner: one customer would be split over two workers."""
    assert kafka.producer_config(Settings(kafka="127.0.0.1:1"))["partitioner"] == "murmur2_random"
    made = re.compile(r"\bProducer\(([^)]*)")
    for package in ("runtime", "streams", "batch", "api"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for found in made.findall(file.read_text(encoding="utf-8")):
                # One asks a broker for its metadata, one owns the embedded broker; neither ever sends.
                harmless = "test.mock.num.brokers" in found or found.startswith("client_config(")
                assert harmless or "producer_config(" in found, f"{file.name}: Producer({found}"


def test_guests_are_spread_over_their_keys_by_their_order() -> None:
    found = Counter(keys.guest(str(10**18 + number)) for number in range(6400))
    assert len(found) == keys.GUEST_KEYS
    assert max(found.values()) < 200
    assert keys.guest("1001") == keys.guest("1001")
    assert all(keys.is_guest(each) for each in found)
    assert not keys.is_guest("7")


@pytest.mark.parametrize("value", [7, "7", 2**63 - 1, "820982911946154508"])
def test_an_id(value: object) -> None:
    assert keys.resource_id(value) == str(value)


@pytest.mark.parametrize(
    "value", [None, True, -7, 7.0, "", "7 ", " 7", "7\n", "٧", "gid://shopify/Order/7", "7" * 21, 10**21, [7]]
)
def test_what_is_no_id(value: object) -> None:
    with pytest.raises(BadEvent):
        keys.resource_id(value)


@pytest.mark.parametrize("name", ["a.myshopify.com", " A-1.MyShopify.com ", "0.myshopify.com"])
def test_a_shop(name: str) -> None:
    assert keys.shop_domain(name) == name.strip().lower()


@pytest.mark.parametrize(
    "name",
    [None, 5, "", "myshopify.com", ".myshopify.com", "a.b.myshopify.com", "a.myshopify.com/x", "a.myshopify.com\n.x"],
)
def test_what_is_no_shop(name: object) -> None:
    with pytest.raises(BadEvent):
        keys.shop_domain(name)


def test_keys_part_where_they_were_joined() -> None:
    assert keys.split(keys.join("a.myshopify.com", "7")) == ("a.myshopify.com", "7")
    assert keys.split("a.myshopify.com") == ("a.myshopify.com", "")
