"""What softly raises and warns about, apart from Python's own errors."""


class InputError(ValueError):
    """Input that cannot be used: the message names what was received and the remedy, in one line."""


class RowError(InputError):
    """Scores of one row that cannot be used: `row` is its number in the source, `what` says why and the remedy."""

    def __init__(self, row: int, what: str) -> None:
        super().__init__(f"scores, row {row}: {what}")
        self.row, self.what = row, what


class DegenerateFitWarning(UserWarning):
    """A fit has no interior optimum; its status says which degenerate case was met."""
