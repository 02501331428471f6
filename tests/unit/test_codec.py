"""JSON's bytes, put together."""

import json
from decimal import Decimal
from typing import Any

import pytest

from events import codec


@pytest.mark.parametrize("first", [{}, {"id": "1"}, {"id": "1", "note": 'a}"\\', "lines": [{}]}])
@pytest.mark.parametrize("more", [{}, {"contact": None}, {"address": "ü", "consent": "v1.x"}])
def test_fields_at_the_end_are_as_if_written_at_once(first: dict[str, Any], more: dict[str, Any]) -> None:
    assert codec.joined(codec.dumps(first), more) == codec.dumps({**first, **more})


@pytest.mark.parametrize(
    "text",
    [
        *("1.50", "1e5", "1E400", "-0.0", "0.1", "-0", "123456789012345678901234567890", "18446744073709551616"),
        *('{"a": 1.0, "b": 2, "a": 3.10}', '"\\ud800"', '["\\ud83d\\ude00", 7.0]', '"\u00fc"', "[true, null, []]"),
    ],
)
def test_exactly_is_as_json_has_it(text: str) -> None:
    found = codec.loads_exact(text.encode())
    assert repr(found) == repr(json.loads(text, parse_float=Decimal))
