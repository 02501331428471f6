"""What a file's cells are made of."""

from api import export_cells
from api.export_cells import Part
from api.presets import PRESETS
from api.questions import COLUMNS


def test_no_more_is_read_than_the_cells_are_made_of() -> None:
    assert export_cells.needed(["segment"]) == ["customer_id", "segment"]
    assert export_cells.needed(["monetary", "r"]) == ["customer_id", "monetary", "currency", "r"]
    assert export_cells.needed(["points_last_day", "points_expire_at"]) == ["customer_id", "expires_at"]
    assert export_cells.needed(COLUMNS) == list(export_cells.VALUES)


def test_cells_of_what_somebody_told() -> None:
    assert not export_cells.tell(["customer_id", "points_balance"])
    told = ("email", "email_sha256", "email_consent", "klaviyo_consent", "email_google_sha256")
    assert all(export_cells.tell([name]) for name in told)
    assert all(export_cells.tell(each.layout.values()) for each in PRESETS.values() if each.layout is not None)


def test_a_row_is_read_as_few_texts() -> None:
    assert export_cells.parts(["segment", "r"]) == [Part("text_0", ("segment", "r"))]
    assert export_cells.parts(["r", "email", "customer_id", "segment"]) == [
        Part("text_0", ("r",)),
        Part(None, ("email", "customer_id")),
        Part("text_2", ("segment",)),
    ]
    assert [len(part.cells) for part in export_cells.parts(COLUMNS)] == [3, len(COLUMNS) - 3]
