"""How states are kept: what yesterday's worker kept is read tomorrow, and of another version the worker says so."""

from typing import Any

import pytest

from events import instants
from events.errors import BadEvent
from tables import contributions, customers, orders, packing
from tables.state import PartitionState, UnreadableChangelog, token_bytes

AT = instants.parse("2026-11-21T09:30:00Z")

#: Byte for byte as version 1 keeps them. Not to be changed: add a value at a list's end, or a version.
ORDER = bytes.fromhex(
    "019a9ca3313135a470616964c2c2cf000660c601305600cd03e86432cd044c3c91a2353194cf000660c601305600cf000660c6013f98"
    "40a3772d31b03031323334353637383961626364656681a2353195cf000660c601305600640a00ffc30091a33131359192a3313135a9"
    "6d61696c2d3031323391cf000660c60130560081a331313593cf000660c601305600cf000660c601305600a976312e7365616c656481"
    "a331313592cf000660c601305600a676312e796573cf000660c6013f9840"
)
CUSTOMER = bytes.fromhex(
    "01dc0010cf000660c6013f9840c3c2c2a976312e7365616c656493cf000660c60130560001a3772d31c3930102a476312e78c0c09705"
    "0403a3342e33a77365675f353433a54c6f79616ca764656661756c7481a3313136a23030a091a96d61696c2d3031323392009198cf00"
    "0660c601305600a431303031a172cd03e86400010100"
)
NODE = bytes.fromhex("0192019199cf000660c601305600a431303031cf000660c601305600070101cd03e864cf000660c601305600")


def test_an_order_as_it_was_kept() -> None:
    state = orders.unpacked(ORDER)
    # As it was before codes were kept; now one value more is, here none.
    assert orders.packed(state) == ORDER.replace(b"\x9a", b"\x9b", 1) + b"\x90"
    assert state["snapshot"] is not None
    assert (state["snapshot"]["status"], state["snapshot"]["gross_tax"], state["snapshot"]["key"][2]) == (
        "paid",
        60,
        "w-1",
    )
    assert (state["cancelled"], state["homes"], state["now"]) == (True, [AT], AT + instants.SECOND)
    assert orders.unpacked(orders.packed(orders.initial())) == orders.initial()


def test_a_customer_as_they_were_kept() -> None:
    state = customers.unpacked(CUSTOMER)
    # As it was before there were accounts; now three values more are kept, here nothing.
    assert customers.packed(state) == CUSTOMER.replace(b"\xdc\x00\x10", b"\xdc\x00\x13", 1) + b"\xc0\x00\xc0"
    assert state["standing"] is not None
    assert (state["standing"]["r"], state["standing"]["cut_points_version"]) == (5, "default")
    assert (state["known"], state["tree"]["e"][0][contributions.ORDER], state["next_node"]) == (True, "1001", 0)
    assert customers.unpacked(customers.packed(customers.initial())) == customers.initial()


def test_a_node_as_it_was_kept() -> None:
    node = contributions.unpacked(NODE)
    assert (contributions.packed(node), node["h"], node["c"][0][3]) == (NODE, 1, 7)


@pytest.mark.parametrize(("kept", "of"), [(ORDER, orders), (CUSTOMER, customers)])
def test_what_was_not_kept_yet_is_as_at_first(kept: bytes, of: Any) -> None:
    kept = of.packed(of.unpacked(kept))
    fewer = packing.pack(packing.unpack(kept)[:-1])
    last = list(of.initial())[-1]
    assert of.unpacked(fewer) == {**of.unpacked(kept), last: of.initial()[last]}


@pytest.mark.parametrize("kept", [b'{"now":1}', b"[1,3]", b"\x02\x90", b""])
def test_another_versions_is_named(kept: bytes) -> None:
    with pytest.raises(BadEvent, match="another version"):
        packing.unpack(kept)
    with pytest.raises(UnreadableChangelog, match="offset 0"):
        PartitionState().read(0, b"shop/1", token_bytes(0) + kept, None)


@pytest.mark.parametrize("kept", [b"\x01", b"\x01\x92\x01", b"\x01\x01", b"\x01\x91\x01\x01"])
def test_what_is_cut_off_or_no_list_is_refused(kept: bytes) -> None:
    with pytest.raises(BadEvent, match="cannot be read"):
        packing.unpack(kept)
