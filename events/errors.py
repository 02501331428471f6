"""What can be wrong with an event, as one typed error that becomes a dead letter."""


class BadEvent(ValueError):
    """An event that cannot be used.

    `reason` is a short, stable code (a metric label and the dead letter's `error`); `detail` says what was
    found, without personal data.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class UnusedTopic(BadEvent):
    """A webhook of a topic that we have no use for: it is counted and passed, and nothing of it is kept."""

    def __init__(self) -> None:
        # Not which: whoever sends it may have put anything there.
        super().__init__("unused_topic", "not a topic that is taken")
