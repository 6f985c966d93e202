"""NYSE TAQ text of quotes and trades: monthly and daily files of WRDS, and the exchange's own files with | between.

Times are New York's. Sizes of quotes are round lots of 100 shares (in shares since 2025-11-03; --size-scale 1 then).
Quotes whose mode or condition says closed, halted or not firm do not quote, after Holden and Jacobsen (2014).
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Format, Options, Piece, Reading, Source, Tally, level_names
from sor_sb3.market.formats.tables import Batch, TextTable, foreign, matched, open_text
from sor_sb3.market.formats.times import date_in_name, times

VENUES = {
    "A": "AMEX", "B": "BX", "C": "NSX", "D": "FINRA", "E": "SIP", "G": "24X", "H": "MIAX", "I": "ISE", "J": "EDGA",
    "K": "EDGX", "L": "LTSE", "M": "CHX", "N": "NYSE", "P": "ARCA", "Q": "NASDAQ", "S": "CTS", "T": "NASDAQ",
    "U": "MEMX", "V": "IEX", "W": "CBSX", "X": "PSX", "Y": "BYX", "Z": "BZX",
}  # fmt: skip
_SYMBOL = ("symbol", "sym_root")
_VENUE = ("ex", "exchange")
_CLOCK = ("dt", "datetime", "timestamp", "time", "time_m", "time_ms")
_QUOTE = {
    "bid_px": ("bid", "bid_price"),
    "bid_sz": ("bidsiz", "bidsize", "bid_size"),
    "ask_px": ("ofr", "ask", "offer_price", "ask_price"),
    "ask_sz": ("ofrsiz", "asksiz", "ofrsize", "asksize", "offer_size", "ask_size"),
}
_TRADE = {"px": ("price", "trade_price"), "sz": ("size", "volume", "trade_volume")}
_OTHERS = {
    "date": ("date",),
    "suffix": ("sym_suffix", "symbol_suffix"),
    "mode": ("mode",),
    "condition": ("qu_cond", "quote_condition"),
    "correction": ("corr", "tr_corr", "trade_correction_indicator"),
}
_NO_QUOTE_MODES = ("4", "7", "9", "11", "13", "14", "15", "19", "20", "27", "28")
_QUOTE_CONDITIONS = ("", "A", "B", "H", "O", "R", "W")
_CORRECT = ("", "0", "00", "1", "01")


def _open(source: Source, options: Options) -> Reading:
    table = open_text(source)
    if table.first_of(("best_bid_price", "best_bid", "bestbid")) is not None:
        what = f"{source.path} holds the national best bid and offer, whose bid and ask are of different venues"
        raise UserError(f"{what}; download the quotes of each exchange (CQ, cqm_ or SPLITS_US_ALL_BBO files)")
    if table.first_of(("bid", "bid_price", "price", "trade_price")) is None:
        foreign(source.path, table.names, "taq", "no column BID or PRICE")
    is_quote = table.first_of(_QUOTE["bid_px"]) is not None
    needed = {"ts": _CLOCK, "symbol": _SYMBOL, "venue": _VENUE} | (_QUOTE if is_quote else _TRADE)
    names = matched(table, "taq", needed)
    found = {name: table.first_of(aliases) for name, aliases in _OTHERS.items()}
    names |= {name: column for name, column in found.items() if column is not None}
    pieces = _quotes if is_quote else _trades
    return Reading(int(is_quote), not is_quote, lambda tally: pieces(table, names, options, tally))


def _batches(table: TextTable, names: dict[str, str], tally: Tally) -> Iterator[Batch]:
    """Rows without the last line of the exchange's files, END|DATE|COUNT."""
    end = ("END" + table.separator, '"END"')
    for batch in table.batches(list(dict.fromkeys(names.values())), skip=lambda text: text.startswith(end)):
        frame = batch.frame.filter(batch.frame[names["ts"]].fill_null("") != "END")
        tally.read += frame.height
        if frame.height:
            yield Batch(batch.path, frame, batch.first_row)


def _keys(batch: Batch, names: dict[str, str], options: Options) -> dict[str, pl.Series]:
    zone = options.time_zone or "America/New_York"
    letters = batch.frame[names["venue"]].str.strip_chars(" \"'").str.to_uppercase()
    venue = letters.replace(VENUES)
    if options.venue is None:
        batch.check(names["venue"], letters.str.len_chars() > 0, "an exchange; expected a letter such as N or Q")
    symbol = batch.frame[names["symbol"]].str.strip_chars(" \"'")
    if "suffix" in names:
        symbol = (symbol + " " + batch.frame[names["suffix"]].fill_null("").str.strip_chars(" \"'")).str.strip_chars()
    whole = batch.frame[names["ts"]].str.contains(r"^[\s\"]*\d{4}[.-]?\d{2}[.-]?\d{2}[T ]")
    date: pl.Series | str | None = None
    if not whole.all():
        date = batch.frame[names["date"]] if "date" in names else date_in_name(batch.path, options.date)
    return {"ts": times(batch, names["ts"], options.time_unit, zone, date), "venue": venue, "symbol": symbol}


def _quotes(table: TextTable, names: dict[str, str], options: Options, tally: Tally) -> Iterator[Piece]:
    for batch in _batches(table, names, tally):
        numbers = {name: batch.numbers(names[name]) for name in level_names(1)}
        silent = pl.repeat(False, batch.frame.height, dtype=pl.Boolean, eager=True)
        if "mode" in names:
            silent |= batch.frame[names["mode"]].str.strip_chars(" \"'").is_in(_NO_QUOTE_MODES).fill_null(False)
        if "condition" in names:
            codes = batch.frame[names["condition"]].fill_null("").str.strip_chars(" \"'")
            silent |= ~codes.is_in(_QUOTE_CONDITIONS)
        if silent.any():
            tally.remarks["mode or condition says closed, halted or not firm: not quoting"] += int(silent.sum())
            for name in ("bid_px", "ask_px"):
                numbers[name] = numbers[name].set(silent, None)
        yield Piece(quotes=pl.DataFrame(_keys(batch, names, options) | numbers))


def _trades(table: TextTable, names: dict[str, str], options: Options, tally: Tally) -> Iterator[Piece]:
    for batch in _batches(table, names, tally):
        numbers = {name: batch.numbers(names[name]) for name in ("px", "sz")}
        rows = pl.DataFrame(_keys(batch, names, options) | numbers).with_columns(side=pl.lit(""))
        if "correction" in names:
            codes = batch.frame[names["correction"]].fill_null("").str.strip_chars(" \"'")
            rows = tally.drop(rows, codes.is_in(_CORRECT), "trades that were corrected or cancelled later")
        yield Piece(trades=rows)


FORMAT = Format(
    name="taq",
    open_file=_open,
    quote_size_scale=100.0,
    one_symbol=True,
)
