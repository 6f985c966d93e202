"""TrueFX files with and without a header; GMT, no sizes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sor_sb3.errors import UserError
from tests.market.formats.fixtures import converted, lines, write_text

ROWS = [(f"20140501 00:00:{i:02d}.{i:03d}", round(1.38 + i / 1e5, 5), round(1.38004 + i / 1e5, 5)) for i in range(40)]


def expected():
    start = int(datetime(2014, 5, 1, tzinfo=UTC).timestamp())
    return [((start + i) * 10**9 + i * 10**6, bid, ask) for i, (_, bid, ask) in enumerate(ROWS)]


@pytest.mark.parametrize("form", ["no header", "header", "header with offsets"])
def test_bids_and_asks_equal_what_was_written(tmp_path, form):
    if form == "no header":
        text = lines(None, [("EUR/USD", *row) for row in ROWS])
    else:
        suffix = "+00:00" if form.endswith("offsets") else ""
        text = lines("timestamp,bid,ask", [(f"{t[:4]}-{t[4:6]}-{t[6:]}{suffix}", bid, ask) for t, bid, ask in ROWS])
    quotes, _, summary = converted(tmp_path, "truefx", write_text(tmp_path / "EURUSD-2014-05.csv", text))
    assert [(row["ts"], row["bid_px"], row["ask_px"]) for row in quotes] == expected()
    assert {(row["bid_sz"], row["ask_sz"], row["venue"]) for row in quotes} == {(None, None, "truefx")}
    assert summary.venues["truefx"].symbol == ("EUR/USD" if form == "no header" else "")


def test_several_pairs_ask_for_one(tmp_path):
    text = lines(None, [("EUR/USD", *ROWS[0]), ("GBP/USD", *ROWS[1])])
    file = write_text(tmp_path / "x.csv", text)
    with pytest.raises(UserError, match=r"symbol 'GBP/USD' beside 'EUR/USD'.*choose with --symbol"):
        converted(tmp_path, "truefx", file)
    quotes, _, summary = converted(tmp_path, "truefx", file, symbols=("GBP/USD",))
    assert [row["bid_px"] for row in quotes] == [ROWS[1][1]]
    assert summary.tally.dropped == {"of other symbols than --symbol": 1}
