"""The root of errors that an operator can mend: their text is one full sentence (or one per mistake)."""


class OperatorError(Exception):
    """What was asked for cannot be done; the text names the value at fault and what to do."""
