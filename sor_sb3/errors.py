"""The exceptions that a command says in one sentence: a user's mistake (exit status 2), and failed work (1).

Not for faults of ours: those keep their traceback.
"""

from __future__ import annotations

from difflib import get_close_matches


class UserError(ValueError):
    """Something the user asked for cannot be done; the message says what to change, in one sentence on one line."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else " " for c in message))  # names in files may hold anything


class WorkFailed(RuntimeError):
    """The work failed for a reason outside the command; the message says what to do, in one sentence."""


def did_you_mean(word: str, known: list[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known word, or an empty string."""
    near = get_close_matches(word, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
