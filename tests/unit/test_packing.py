"""How states are kept: what yesterday's worker kept is read tomorrow, and of another version the worker says so."""

from typing import Any

import pytest

from events import instants
from events.errors import BadEvent
from tables import contributions, customers, orders, packing
from tables.state import PartitionState, UnreadableChangelog, token_bytes

AT = instants.parse("2026-11-21T09:30:00Z")

#: Word for word as version 1 keeps them. Not to be changed: add a value at a list's end, or a version.
ORDER = (
    b'[1,["115","paid",false,false,1795253400000000,1000,100,50,1100,60,["51"],[1795253400000000,1795253401000000,"w-1",'
    b'"0123456789abcdef"]],{"51":[1795253400000000,100,10,0,-1]},true,0,["115"],[["115","mail-0123"]],[1795253400000000],'
    b'{"115":[1795253400000000,1795253400000000,"v1.sealed"]},{"115":[1795253400000000,"v1.yes"]},1795253401000000]'
)
CUSTOMER = (
    b'[1,1795253401000000,true,false,false,"v1.sealed",[1795253400000000,1,"w-1"],true,[1,2,"v1.x"],null,null,'
    b'[5,4,3,"4.3","seg_543","Loyal","default"],{"116":"00"},"",["mail-0123"],'
    b'[0,[[1795253400000000,"1001","r",1000,100,0,1,1]]],0]'
)
NODE = b'[1,1,[[1795253400000000,"1001",1795253400000000,7,1,1,1000,100,1795253400000000]]]'


def test_an_order_as_it_was_kept() -> None:
    state = orders.unpacked(ORDER)
    assert orders.packed(state) == ORDER
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
    assert customers.packed(state) == CUSTOMER
    assert state["standing"] is not None
    assert (state["standing"]["r"], state["standing"]["cut_points_version"]) == (5, "default")
    assert (state["known"], state["tree"]["e"][0][contributions.ORDER], state["next_node"]) == (True, "1001", 0)
    assert customers.unpacked(customers.packed(customers.initial())) == customers.initial()


def test_a_node_as_it_was_kept() -> None:
    node = contributions.unpacked(NODE)
    assert (contributions.packed(node), node["h"], node["c"][0][3]) == (NODE, 1, 7)


@pytest.mark.parametrize(("kept", "of"), [(ORDER, orders), (CUSTOMER, customers)])
def test_what_was_not_kept_yet_is_as_at_first(kept: bytes, of: Any) -> None:
    fewer = packing.pack(packing.unpack(kept)[:-1])
    last = list(of.initial())[-1]
    assert of.unpacked(fewer) == {**of.unpacked(kept), last: of.initial()[last]}


@pytest.mark.parametrize("kept", [b'{"now":1}', b"[2,3]", b"[12,3]", b"1", b"", b"[1]"])
def test_another_versions_is_named(kept: bytes) -> None:
    with pytest.raises(BadEvent, match="another version"):
        packing.unpack(kept)
    with pytest.raises(UnreadableChangelog, match="offset 0"):
        PartitionState().read(0, b"shop/1", token_bytes(0) + kept, None)
