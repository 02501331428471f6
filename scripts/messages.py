"""The dashboard's words: gathers those of the templates into each language's catalogue (`make messages`).

What has no translation yet stays empty there, and a test fails.
"""

import sys
from pathlib import Path

from babel.messages import Catalog, pofile
from babel.messages.extract import extract_from_dir

DASHBOARD = Path(__file__).resolve().parent.parent / "api" / "dashboard"
_METHODS = [("**.py", "python"), ("**.html", "jinja2.ext:babel_extract")]


def gathered() -> Catalog:
    """What the templates say, untranslated."""
    catalogue = Catalog(project="LoyalNest", charset="utf-8", fuzzy=False)
    found = extract_from_dir(
        DASHBOARD, _METHODS, {"**.html": {"trimmed": "true"}}, keywords={"_": None, "gettext": None}
    )
    for _file, _line, message, _comments, _context in found:
        catalogue.add(message)
    return catalogue


def main() -> int:
    for path in sorted((DASHBOARD / "locale").glob("*.po")):
        with path.open("rb") as file:
            catalogue = pofile.read_po(file, locale=path.stem)
        catalogue.update(gathered(), no_fuzzy_matching=True)
        with path.open("wb") as file:
            pofile.write_po(file, catalogue, sort_output=True, omit_header=True, ignore_obsolete=True, width=120)
        left = sum(1 for message in catalogue if message.id and not message.string)
        print(f"{path.name}: {len(catalogue)} messages, {left} without a translation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
