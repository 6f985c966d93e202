"""Databento's DBN and CSV against what was put in: schemas, publishers, undefined prices, clocks, mixed records."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest

from sor_sb3.errors import UserError
from tests.market.formats.fixtures import converted, lines, write_text

dbn = pytest.importorskip("databento_dbn")

START_NS = 1_700_000_000_000_000_000
UNDEFINED = (1 << 63) - 1
XNAS, ARCX, EQUS_MINI, XNAS_BASIC = 2, 43, 95, 81


def records(n, publisher=XNAS, instrument=7, levels=1, seed=0, kind=None):
    """Made-up records as dicts: half are orders added, the others trades."""
    rng = np.random.default_rng(seed)
    ts = (START_NS + np.cumsum(rng.integers(1, 10**7, n))).tolist()
    made = []
    for i, t in enumerate(ts):
        bid = int(100_000 + rng.integers(-50, 50)) * 1_000_000
        book = [
            (bid - k * 10**7, bid + (k + 1) * 10**7, int(rng.integers(1, 900)), int(rng.integers(1, 900)))
            for k in range(levels)
        ]
        made.append(
            {
                "publisher_id": publisher,
                "instrument_id": instrument,
                "ts_event": t,
                "ts_recv": t + int(rng.integers(1_000, 90_000)),
                "price": bid,
                "size": int(rng.integers(1, 400)),
                "action": kind or ("T" if i % 2 else "A"),
                "side": "BAN"[i % 3],
                "flags": 128,
                "book": book,
            }
        )
    return made


def encoded(made, schema):
    cls = {"trades": dbn.TradeMsg, "mbp-10": dbn.MBP10Msg, "mbp-1": dbn.MBP1Msg, "tbbo": dbn.MBP1Msg}.get(
        schema, dbn.BBOMsg
    )
    out = []
    for r in made:
        fields = {k: r[k] for k in ("publisher_id", "instrument_id", "ts_event", "price", "size", "ts_recv", "flags")}
        fields["side"] = dbn.Side(r["side"])
        if cls is dbn.BBOMsg:
            fields["rtype"] = dbn.RType.BBO_1S if schema == "bbo-1s" else dbn.RType.BBO_1M
        else:
            fields |= {"action": dbn.Action(r["action"]), "depth": 0}
        pairs = [dbn.BidAskPair(bid_px=b, ask_px=a, bid_sz=bs, ask_sz=as_) for b, a, bs, as_ in r["book"]]
        if schema != "trades":
            fields["levels"] = pairs if schema == "mbp-10" else pairs[0]
        out.append(bytes(cls(**fields)))
    return out


def metadata(schema, symbols=("XYZ",), dataset="XNAS.ITCH", instrument=7):
    day = SimpleNamespace(start_date=date(2023, 11, 14), end_date=date(2023, 11, 15), symbol=str(instrument))
    return dbn.Metadata(
        dataset=dataset,
        start=START_NS,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.from_str(schema),
        symbols=list(symbols),
        mappings=[SimpleNamespace(raw_symbol=symbol, intervals=[day]) for symbol in symbols],
    ).encode()


def write_dbn(path, made, schema, extra=(), **about):
    parts = encoded(made, schema)
    for at, record in extra:
        parts.insert(at, record)
    return write_text(path, metadata(schema, **about) + b"".join(parts))


def expected_quotes(made, clock="ts_recv", level=0):
    rows = [(r[clock], *r["book"][level]) for r in made]
    return [(t, b / 1e9, bs, a / 1e9, as_) for t, b, a, bs, as_ in sorted(rows, key=lambda row: row[0])]


def got(quotes, level=1):
    suffix = "" if level == 1 else f"_{level}"
    return [(q["ts"], *(q[f"{name}{suffix}"] for name in ("bid_px", "bid_sz", "ask_px", "ask_sz"))) for q in quotes]


@pytest.mark.parametrize("schema", ["mbp-1", "tbbo"])
@pytest.mark.parametrize("name", ["x.dbn", "x.dbn.zst"])
@pytest.mark.parametrize("clock", ["local", "exchange"])
def test_top_of_book_equals_what_was_put_in(tmp_path, schema, name, clock):
    made = records(300, kind="T" if schema == "tbbo" else None)
    field = {"local": "ts_recv", "exchange": "ts_event"}[clock]
    file = write_dbn(tmp_path / name, made, schema)
    quotes, trades, summary = converted(tmp_path, "databento", file, trades=True, clock=clock)
    assert got(quotes) == expected_quotes(made, field)
    tape = sorted((r for r in made if r["action"] == "T"), key=lambda r: r[field])
    side = {"B": "buy", "A": "sell", "N": ""}
    assert [(t["ts"], t["px"], t["sz"], t["side"]) for t in trades] == [
        (r[field], r["price"] / 1e9, r["size"], side[r["side"]]) for r in tape
    ]
    count = summary.venues["XNAS"]
    assert (count.symbol, count.quotes, count.trades, summary.tally.read) == ("XYZ", 300, len(tape), 300)


def test_ten_levels_give_eight(tmp_path):
    made = records(200, levels=10)
    quotes, _, summary = converted(tmp_path, "databento", write_dbn(tmp_path / "x.dbn", made, "mbp-10"))
    for level in range(8):
        assert got(quotes, level + 1) == expected_quotes(made, level=level)
    assert "bid_px_9" not in quotes[0]
    assert (summary.levels, summary.file_levels) == (8, 10)


@pytest.mark.parametrize("schema", ["bbo-1s", "bbo-1m"])
def test_samples_have_the_local_clock_and_no_trades(tmp_path, schema):
    made = records(50)
    file = write_dbn(tmp_path / "x.dbn", made, schema)
    quotes, _, _ = converted(tmp_path, "databento", file)
    assert got(quotes) == expected_quotes(made)
    with pytest.raises(UserError, match="no time of the exchange"):
        converted(tmp_path, "databento", file, clock="exchange")
    with pytest.raises(UserError, match="holds quotes of databento and no trades"):
        converted(tmp_path, "databento", file, trades=True)


def test_trades_alone_and_beside_quotes_of_another_file(tmp_path):
    made = records(60, kind="T")
    tape = write_dbn(tmp_path / "t.dbn", made, "trades")
    _, trades, _ = converted(tmp_path, "databento", tape, quotes=False, trades=True)
    assert [t["px"] for t in trades] == [r["price"] / 1e9 for r in sorted(made, key=lambda r: r["ts_recv"])]
    with pytest.raises(UserError, match="holds trades of databento and no quotes"):
        converted(tmp_path, "databento", tape)
    book = write_dbn(tmp_path / "q.dbn", records(40, kind="A"), "bbo-1s")
    quotes, trades, _ = converted(tmp_path, "databento", tape, book, trades=True)
    assert (len(quotes), len(trades)) == (40, 60)


def test_several_datasets_become_several_venues_in_order_of_time(tmp_path):
    nasdaq, arca = records(200, XNAS), records(150, ARCX, seed=1)
    write_dbn(tmp_path / "in/xnas.dbn.zst", nasdaq, "mbp-1")
    write_dbn(tmp_path / "in/arcx.dbn.zst", arca, "mbp-1", dataset="ARCX.PILLAR")
    (tmp_path / "in/manifest.json").write_text("{}")
    quotes, _, summary = converted(tmp_path, "databento", tmp_path / "in")
    assert {venue: count.quotes for venue, count in summary.venues.items()} == {"XNAS": 200, "ARCX": 150}
    for venue, made in (("XNAS", nasdaq), ("ARCX", arca)):
        assert got([q for q in quotes if q["venue"] == venue]) == expected_quotes(made)
    assert [q["ts"] for q in quotes] == sorted(q["ts"] for q in quotes)


def test_undefined_prices_are_missing_and_undefined_times_dropped(tmp_path):
    made = records(5, kind="A")
    made[1]["book"] = [(UNDEFINED, made[1]["book"][0][1], 0, 5)]
    made[2]["ts_recv"] = (1 << 64) - 1
    made[3]["flags"] = 128 | 4
    quotes, _, summary = converted(tmp_path, "databento", write_dbn(tmp_path / "x.dbn", made, "mbp-1"))
    assert [q["bid_px"] is None for q in quotes] == [False, True, False, False]
    assert summary.venues["XNAS"].no_bid == 1
    assert summary.tally.dropped == {"records without a time": 1}
    assert sum(n for what, n in summary.tally.remarks.items() if "possibly bad" in what) == 1


def test_records_of_other_kinds_between_are_counted(tmp_path):
    made = records(30)
    message = bytes(dbn.SystemMsg(ts_event=START_NS, msg="heartbeat"))
    file = write_dbn(tmp_path / "x.dbn", made, "mbp-1", extra=[(0, message), (9, message)])
    quotes, _, summary = converted(tmp_path, "databento", file)
    assert got(quotes) == expected_quotes(made)
    assert summary.tally.dropped == {"records of other kinds (system, symbols)": 2}
    assert summary.tally.read == 32


def test_several_instruments_ask_for_a_symbol(tmp_path):
    made = [*records(5), *records(5, instrument=8, seed=2)]
    file = write_dbn(tmp_path / "x.dbn", made, "mbp-1")
    with pytest.raises(UserError, match="choose with --symbol"):
        converted(tmp_path, "databento", file)
    quotes, _, summary = converted(tmp_path, "databento", file, symbols=("XYZ",))
    assert (len(quotes), summary.tally.dropped["of other symbols than --symbol"]) == (5, 5)


def test_a_second_symbol_in_another_dataset_is_refused(tmp_path):
    one = write_dbn(tmp_path / "a.dbn", records(3), "mbp-1")
    two = write_dbn(tmp_path / "b.dbn", records(3, ARCX), "mbp-1", symbols=("ABC",))
    with pytest.raises(UserError, match="symbol 'ABC' beside 'XYZ'"):
        converted(tmp_path, "databento", one, two)


@pytest.mark.parametrize("schema", ["cmbp-1", "cbbo-1s", "tcbbo"])
def test_consolidated_schemas_are_refused_with_the_reason(tmp_path, schema):
    file = write_text(tmp_path / "x.dbn", metadata(schema) + b"\0" * 80)
    with pytest.raises(UserError, match=f"consolidated schema {schema}, whose bid and ask are of different venues"):
        converted(tmp_path, "databento", file)


@pytest.mark.parametrize("schema, words", [("mbo", "orders one by one"), ("ohlcv-1s", "neither quotes nor trades")])
def test_schemas_without_quotes_are_refused(tmp_path, schema, words):
    with pytest.raises(UserError, match=words):
        converted(tmp_path, "databento", write_text(tmp_path / "x.dbn", metadata(schema)))


def test_consolidated_feeds_and_two_feeds_of_one_venue_are_refused(tmp_path):
    file = write_dbn(tmp_path / "x.dbn", records(3, EQUS_MINI), "mbp-1")
    with pytest.raises(UserError, match=r"consolidated feed EQUS\.MINI"):
        converted(tmp_path, "databento", file)
    file = write_dbn(tmp_path / "y.dbn", [*records(3), *records(3, XNAS_BASIC)], "mbp-1")
    with pytest.raises(UserError, match=r"quotes of XNAS from XNAS.\w+ and XNAS.\w+"):
        converted(tmp_path, "databento", file)


@pytest.mark.parametrize(
    "cut, words",
    [(-7, "cut off inside the record after record 19"), (40, "cut off in its metadata"), (None, "no records")],
)
def test_a_file_that_is_cut_off_is_refused(tmp_path, cut, words):
    made = records(20)
    whole = metadata("mbp-1") + (b"" if cut is None else b"".join(encoded(made, "mbp-1")))
    with pytest.raises(UserError, match=words):
        converted(tmp_path, "databento", write_text(tmp_path / "x.dbn", whole[:cut]))


def test_the_encoding_before_dbn_is_refused(tmp_path):
    with pytest.raises(UserError, match="is of the old encoding DBZ"):
        converted(
            tmp_path, "databento", write_text(tmp_path / "x.dbz", b"P*M\x18\x90\0\0\0DBZ\x01GLBX.MDP3" + b"\0" * 99)
        )


def test_a_broken_record_is_refused(tmp_path):
    parts = encoded(records(20), "mbp-1")
    file = write_text(tmp_path / "x.dbn", metadata("mbp-1") + b"".join(parts[:7]) + b"\0" * 80 + b"".join(parts[7:]))
    with pytest.raises(UserError, match="broken after record 7"):
        converted(tmp_path, "databento", file)


# CSV


def csv_text(made, levels=1, pretty=True, symbol=True, action=True):
    def px(value):
        return ("" if value == UNDEFINED else f"{value / 1e9:.9f}") if pretty else value

    def at(value):
        return f"{np.datetime64(value, 'ns')}Z" if pretty else value

    names = [
        f"{name}_{k:02d}"
        for k in range(levels)
        for name in ("bid_px", "ask_px", "bid_sz", "ask_sz", "bid_ct", "ask_ct")
    ]
    head = [
        "ts_recv",
        "ts_event",
        "rtype",
        "publisher_id",
        "instrument_id",
        *(["action"] if action else []),
        "side",
        "depth",
        "price",
        "size",
        "flags",
    ]
    rows = []
    for r in made:
        book = [v for b, a, bs, as_ in r["book"] for v in (px(b), px(a), bs, as_, 1, 1)] if levels else []
        kind = {0: 0, 1: 1 if action else 195, 10: 10}[levels]
        row = [
            at(r["ts_recv"]),
            at(r["ts_event"]),
            kind,
            r["publisher_id"],
            r["instrument_id"],
            *([r["action"]] if action else []),
        ]
        rows.append([*row, r["side"], 0, px(r["price"]), r["size"], r["flags"], *book, *(["XYZ"] if symbol else [])])
    return lines(",".join(head + names + (["symbol"] if symbol else [])), rows)


@pytest.mark.parametrize("pretty", [True, False])
@pytest.mark.parametrize("levels", [1, 10])
def test_csv_in_decimals_or_whole_units_equals_the_binary_file(tmp_path, pretty, levels):
    made = records(120, levels=levels)
    made[4]["book"] = [(UNDEFINED, *made[4]["book"][0][1:]), *made[4]["book"][1:]]
    file = write_text(tmp_path / "x.csv.zst", csv_text(made, levels, pretty))
    binary = write_dbn(tmp_path / "x.dbn", made, f"mbp-{levels}")
    assert (
        converted(tmp_path, "databento", file, trades=True)[:2]
        == converted(tmp_path, "databento", binary, trades=True)[:2]
    )


def test_csv_of_trades_and_of_samples(tmp_path):
    made = records(30, kind="T")
    _, trades, summary = converted(
        tmp_path,
        "databento",
        write_text(tmp_path / "t.csv", csv_text(made, 0, symbol=False)),
        quotes=False,
        trades=True,
    )
    assert [t["sz"] for t in trades] == [r["size"] for r in sorted(made, key=lambda r: r["ts_recv"])]
    assert summary.venues["XNAS"].symbol == "7"
    quotes, _, _ = converted(tmp_path, "databento", write_text(tmp_path / "b.csv", csv_text(made, 1, action=False)))
    assert got(quotes) == expected_quotes(made)


@pytest.mark.parametrize(
    "column, words",
    [("bid_pb_00", "consolidated schema"), ("order_id", "orders one by one"), ("open", "neither quotes")],
)
def test_csv_of_other_schemas_is_refused(tmp_path, column, words):
    text = csv_text(records(2)).replace("depth", column)
    with pytest.raises(UserError, match=words):
        converted(tmp_path, "databento", write_text(tmp_path / "x.csv", text))


def test_csv_records_of_a_consolidated_kind_are_named(tmp_path):
    text = csv_text(records(3)).replace("Z,1,2,", "Z,177,2,", 1)
    with pytest.raises(UserError, match="column 'rtype', data row 1: '177' is not a kind of record"):
        converted(tmp_path, "databento", write_text(tmp_path / "x.csv", text))
