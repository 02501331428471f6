"""The chart library, which plotly's Python package ships."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

LIBRARY: Final = Path(str(files("plotly"))) / "package_data" / "plotly.min.js"

_STYLE: Final = re.compile(r'getElementById\("([0-9a-f]{64})"\)')


@cache
def styles() -> tuple[str, ...]:
    """The ids of elements that stop the library from making style sheets of its own for maps, which we do not draw.

    The pages' policy would refuse them, and the browser complain.
    """
    return tuple(dict.fromkeys(_STYLE.findall(LIBRARY.read_text("utf-8"))))
