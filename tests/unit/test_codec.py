"""JSON's bytes, put together."""

from typing import Any

import pytest

from events import codec


@pytest.mark.parametrize("first", [{}, {"id": "1"}, {"id": "1", "note": 'a}"\\', "lines": [{}]}])
@pytest.mark.parametrize("more", [{}, {"contact": None}, {"address": "ü", "consent": "v1.x"}])
def test_fields_at_the_end_are_as_if_written_at_once(first: dict[str, Any], more: dict[str, Any]) -> None:
    assert codec.joined(codec.dumps(first), more) == codec.dumps({**first, **more})
