"""What the module raises, besides TypeError for arguments of another type."""


class _Error(Exception):
    """`field`: the argument that the sentence names first, empty if it names none."""

    def __init__(self, sentence: str, field: str = "") -> None:
        """The sentence says what is wrong and what to do."""
        super().__init__(sentence)
        self.field = field


class Refused(_Error, ValueError):
    """An invalid argument, or settings that do not fit into the budget: nothing was done."""


class Failed(_Error, RuntimeError):
    """A failure at run time, such as a full disk or a loss that is not finite."""
