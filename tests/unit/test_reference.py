"""What the folds know of a shop: one that is never changed, but replaced whole."""

from events import instants
from events.programs import CutPoints, Program, default_cut_points
from tables.reference import Reference

SHOP = "nest.myshopify.com"


def program(shop: str = SHOP, zone: str = "UTC", rate: str = "1") -> Program:
    return Program.model_validate(
        {"shop": shop, "currency": "USD", "zone": zone, "rules": [{"points_per_unit": rate}], "look_back_days": None}
    )


def cut_points(version: str, day: int) -> CutPoints:
    found = default_cut_points(SHOP, "USD", instants.to_datetime(day * instants.DAY))
    return found.model_copy(update={"version": version})


def test_who_holds_a_shop_goes_on_seeing_one_program_whole() -> None:
    reference = Reference()
    reference.put_program(program())
    reference.put_cut_points(cut_points("first", 1))
    held = reference[SHOP]
    later = {"announced_at": instants.to_datetime(instants.DAY), "zone": "Asia/Tokyo"}
    reference.put_program(program().model_copy(update=later))
    reference.put_cut_points(cut_points("second", 2))
    assert (held.zone.key, held.program.zone) == ("UTC", "UTC")
    assert held.cut_points(3 * instants.DAY).version == "first"
    found = reference[SHOP]
    assert (found.zone.key, found.program.zone) == ("Asia/Tokyo", "Asia/Tokyo")
    assert found.cut_points(3 * instants.DAY).version == "second"


def test_cut_points_may_come_before_the_program() -> None:
    reference = Reference()
    reference.put_cut_points(cut_points("second", 2))
    reference.put_cut_points(cut_points("first", 1))
    reference.put_program(program())
    assert [version.version for _, version in reference[SHOP].versions] == ["first", "second"]
