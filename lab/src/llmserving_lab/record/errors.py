"""What a recording ends with when it cannot be made."""


class RecordError(RuntimeError):
    """The recording cannot be made; the message is one line that says why and what would be right."""
