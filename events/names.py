"""What clients call what they ask for, so that asking twice is asking once, and what programs call their rewards."""

from typing import Final

#: What the name of a checked deduction begins with among the requests: no redemption's does.
CHECKED: Final = "checked/"

#: Patterns: a name, and that of whatever was asked for.
NAME: Final = "[0-9A-Za-z._:-]{1,64}"
ASKED: Final = f"(?:{CHECKED})?{NAME}"

#: A name alone, where a pattern must say so.
NAME_ALONE: Final = f"^{NAME}$"
