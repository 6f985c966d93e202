"""Tells by a file's first line which vendor wrote the file. Reads no files, and imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Sequence

FORMAT_NAMES = ("databento", "tardis", "lobster", "binance", "bybit", "taq", "kdb", "truefx", "generic")
"""What ``sor-sb3 data convert`` knows; each is a module of this package with a `FORMAT`."""

_SIGNS: tuple[tuple[str, tuple[frozenset[str], ...]], ...] = tuple(
    (name, tuple(frozenset(words.split()) for words in signs))
    for name, *signs in (
        ("databento", "ts_event publisher_id", "ts_event rtype", "ts_recv rtype"),
        ("tardis", "exchange symbol timestamp local_timestamp"),
        (
            "binance",
            "best_bid_price best_ask_price",
            "is_buyer_maker price",
            "agg_trade_id price",
            "is_buyer_maker qty",
        ),
        ("bybit", "symbol side size price tickdirection"),
        ("kdb", "sym time bid ask", "sym time price size", "sym timestamp bid ask", "sym time price side"),
        ("kdb", "sym exchange bid ask", "sym exchange price size", "sym exchangetime"),
        ("taq", "bid ofr", "bid ask sym_root", "bid bidsiz ask asksiz", "time exchange symbol bid_price offer_price"),
        ("taq", "symbol price size g127", "sym_root price size", "exchange symbol trade_volume trade_price"),
        ("taq", "symbol price size ex date", "best_bid_price best_offer_price symbol"),
    )
)
"""What names are together in a header, in lower case and with _ for spaces, of which format."""

_NUMBER = re.compile(r"-?\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE)
_TRUEFX_FIRST = re.compile(r"[A-Z]{3}/[A-Z]{3}")
_LOBSTER_MESSAGE = 6  # columns: time, type, order, size, price, direction


def recognise(header: Sequence[str]) -> str | None:
    """The format, as ``sor-sb3 data convert`` names it, of a file whose first line has these cells.

    Cells are as a reader of commas found them: a line with other separators may come as one cell, a capture of JSON
    messages cut at its commas, a file without a header (LOBSTER, TrueFX) as its first row.

    Returns None for what no format but ``generic`` could read.
    """
    line = ",".join(header)
    cells = [cell.strip().strip("\"'") for cell in (re.split(r"[|;\t]", header[0]) if len(header) == 1 else header)]
    if re.match(r"\s*(\d{10,19}\s*)?\{", line):
        return "bybit" if '"topic"' in line else "binance"
    if all(_NUMBER.fullmatch(cell) for cell in cells):
        message = len(cells) == _LOBSTER_MESSAGE and cells[1] in "1234567" and cells[5] in ("1", "-1")
        return "lobster" if message or (cells and len(cells) % 4 == 0) else None
    names = {cell.lower().replace(" ", "_") for cell in cells}
    if names == {"timestamp", "bid", "ask"} or (len(cells) == 4 and _TRUEFX_FIRST.fullmatch(cells[0])):
        return "truefx"
    for name, signs in _SIGNS:
        if any(sign <= names for sign in signs):
            return name
    return None
