"""Session hours in UTC, and times as people read them."""

from __future__ import annotations

import re

import numpy as np

from sor_sb3.market.quote_columns import BoolArray, IntArray, QuoteFileError

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS


def parse_session(session: tuple[str, str] | None) -> tuple[int, int] | None:
    """Returns (start since midnight UTC, length) in nanoseconds."""
    if session is None:
        return None
    if isinstance(session, str) or len(session) != 2:
        raise QuoteFileError(f"session is {session!r}, but must be a start and an end in UTC: ('14:35', '21:00').")
    start, end = (_parse_clock(value) for value in session)
    length = DAY_NS if end - start == DAY_NS else (end - start) % DAY_NS
    if length == 0:
        what = f"session starts and ends at {session[0]}, which keeps nothing"
        raise QuoteFileError(f"{what}: give two different times or none.")
    return start, length


def _parse_clock(value: str) -> int:
    match = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", value) if isinstance(value, str) else None
    if match is not None:
        hour, minute, second = (int(part or 0) for part in match.groups())
        if minute < 60 and second < 60 and (hour < 24 or (hour, minute, second) == (24, 0, 0)):
            return (hour * 3600 + minute * 60 + second) * SECOND_NS
    expected = "UTC times from '00:00' to '24:00': write HH:MM or HH:MM:SS (in YAML put them in quotes)"
    raise QuoteFileError(f"session has the time {value!r}, but must have {expected}.")


def in_session(ts: IntArray, hours: tuple[int, int] | None) -> BoolArray:
    """Whether each stamp is inside the session `hours` (start and length, ns), bool (n,)."""
    if hours is None:
        return np.ones(len(ts), dtype=np.bool_)
    return np.asarray((ts - hours[0]) % DAY_NS < hours[1], dtype=np.bool_)


def utc_text(ts: np.int64 | int) -> str:
    """A stamp (ns) for a person, to the second."""
    return f"{np.datetime64(int(ts), 'ns').astype('datetime64[s]')}Z"


def gap_ns(max_gap_s: float) -> int:
    """`max_gap_s` in whole ns; the longest that there is where it is more."""
    return int(min(max_gap_s, 9e9) * SECOND_NS)
