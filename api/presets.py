"""What other people's systems want of a file: its columns, and how they compare an address.

What each of them asks stands in docs/exports.md, with where they say so.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from events import addresses

Name = Literal["klaviyo", "mailchimp", "meta", "google", "spreadsheet"]


class Preset(NamedTuple):
    """A file that is read by somebody's system.

    `layout`: the header's names, each with the cell that stands under it; None: the columns that are asked for.
    `compared`: in which form two addresses are one. `clear`: addresses stand in it as they are, for a machine.
    """

    layout: Mapping[str, str] | None
    compared: Callable[[str], str]
    clear: bool = False


#: What a mail system is told of a person, by the names of its fields.
_LOYALTY: Final = {
    "Loyalty Segment": "segment",
    "Loyalty Points": "points_balance",
    "Points Expiring": "points_expiring",
    "Points Last Day": "points_last_day",
    "RFM Score": "score",
    "Orders": "frequency",
    "Total Spent": "monetary",
    "Currency": "currency",
    "Last Order": "last_order_day",
}

#: No customer ids where nobody needs them: who imports the file knows people by their address, and takes long digits
#: for numbers.
PRESETS: Final[Mapping[Name, Preset]] = {
    "klaviyo": Preset(
        {"Email": "email", "Email Marketing Consent": "klaviyo_consent", **_LOYALTY},
        addresses.plain,
        clear=True,
    ),
    "mailchimp": Preset(
        {"Email Address": "email", **_LOYALTY},
        addresses.plain,
        clear=True,
    ),
    "meta": Preset({"email": "email_sha256", "extern_id": "customer_id", "value": "monetary"}, addresses.plain),
    "google": Preset({"Email": "email_google_sha256"}, addresses.for_google),
    "spreadsheet": Preset(None, addresses.plain),
}

#: Klaviyo's words for a consent; of whatever else nobody has agreed.
KLAVIYO_CONSENTS: Final = {"subscribed": "Subscribed", "unsubscribed": "Unsubscribed"}
KLAVIYO_OTHERS: Final = "Never subscribed"
