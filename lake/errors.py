"""What the lake can say no with; each message is one sentence."""


class LakeError(RuntimeError):
    """The lake cannot be filled just now."""


class StoreError(LakeError):
    """Its object store does not answer, or refuses us."""


class BehindError(RuntimeError):
    """It lacks more than a reader takes in, or cannot be read; the message says what to do."""
