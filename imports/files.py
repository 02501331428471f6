"""A file's format, told by its header, and its reader."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from imports import balances, bulk, customer_export, order_export, text, transactions
from imports.items import FileError, Reader


class Content(NamedTuple):
    """What a file holds, whatever its name: SHA-256 in hex, and bytes."""

    sha256: str
    size: int


def content(path: Path) -> Content:
    """FileError if it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Content(digest, file.tell())
    except OSError as error:
        raise FileError(f"it cannot be opened: {error.strerror}") from None


def reader(path: Path, shop: str, currency: str, since: int) -> Reader:
    """The reader of a file for a shop; FileError if it is of no format that is known.

    `currency` is the shop's; `since` when this content was first brought in (microseconds).
    """
    head = text.head_of(path)
    if bulk.recognised(head):
        return bulk.BulkFile(path)
    header, _ = text.header_of(path)
    if order_export.recognised(header):
        return order_export.OrderExport(path, shop, currency)
    if balances.recognised(header):
        return balances.BalanceFile(path, since)
    if customer_export.recognised(header):
        return customer_export.CustomerExport(path, since)
    transactions.columns(header)  # says which column is missing
    return transactions.PlainFile(path, shop, currency)
