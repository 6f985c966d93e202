"""Broken, cut, foreign and empty files of every format: one sentence that names the file, and nothing left behind."""

from __future__ import annotations

import gzip

import pytest

from sor_sb3.errors import UserError
from sor_sb3.market.formats.base import Options
from sor_sb3.market.formats.converting import convert
from sor_sb3.market.formats.headers import FORMAT_NAMES
from tests.market.formats.fixtures import PACKINGS, converted, lines, write_text

NAME = "XYZ_2024-01-02_34200000_57600000_message_1.csv"  # LOBSTER's; others read any name
GOOD = {
    "tardis": lines(
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
        [("x", "A", 1_700_000_000_000_000 + i, 1_700_000_000_000_009 + i, 1, 10, 9, 2) for i in range(3000)],
    ),
    "taq": lines(
        "SYMBOL,DATE,TIME,BID,OFR,BIDSIZ,OFRSIZ,MODE,EX",
        [("X", "20080104", f"10:{i // 60 % 60:02d}:{i % 60:02d}", 10, 11, 1, 2, 12, "N") for i in range(3000)],
    ),
    "kdb": lines(
        "time,sym,bid,ask,bsize,asize",
        [(f"2020.03.29D22:{i // 60 % 60:02d}:{i % 60:02d}", "A", 1, 2, 3, 4) for i in range(3000)],
    ),
    "truefx": lines(
        "timestamp,bid,ask", [(f"2013-01-01 22:{i // 60 % 60:02d}:{i % 60:02d}+00:00", 1, 2) for i in range(3000)]
    ),
    "generic": lines("ts,bid_px,ask_px", [(1_700_000_000 + i, 1, 2) for i in range(3000)]),
    "binance": "".join(
        f'{1_700_000_000_000_000_000 + i} {{"s":"A","u":1,"b":"1","B":"2","a":"3","A":"4"}}\n' for i in range(3000)
    ),
    "bybit": "".join(
        f'{1_700_000_000_000_000_000 + i} {{"topic":"orderbook.1.A","type":"snapshot",'
        '"data":{"s":"A","b":[["1","2"]],"a":[]}}\n'
        for i in range(3000)
    ),
}


def fails(tmp_path, name, file, words):
    """The conversion says so in one line, and leaves nothing."""
    out = tmp_path / "made" / "quotes.parquet"
    with pytest.raises(UserError, match=words) as caught:
        convert(name, [str(file)], out, None, Options())
    message = str(caught.value)
    assert file.name in message
    assert "\n" not in message
    assert not out.parent.exists(), "the folder that was made for the result goes again"


@pytest.fixture(autouse=True)
def _pair(tmp_path):
    """What lies beside a message file of LOBSTER."""
    write_text(tmp_path / NAME.replace("message", "orderbook"), "10100,1,10000,1\n")


@pytest.mark.parametrize("name", FORMAT_NAMES)
@pytest.mark.parametrize("content, words", [
    pytest.param(b"", r"is empty \(0 bytes\)", id="empty"),
    pytest.param(b"\n", "begins with an empty line|no file of|is no text", id="an empty line"),
    pytest.param(b"\x00\x01\x02\xff\xfe" * 50, "begins with|is no text", id="bytes"),
    pytest.param(b"%PDF-1.7 a report\nof something else\n", "is no file of|no table|no column", id="a report"),
    pytest.param(b"PK\x03\x04 a broken zip", "cannot be unpacked with zip", id="a broken zip"),
    pytest.param(gzip.compress(b"a,b\n" * 9000)[:20], "cannot be unpacked with gzip", id="a cut gzip"),
])  # fmt: skip
def test_what_is_no_file_of_the_format(tmp_path, name, content, words):
    pytest.importorskip("databento_dbn")
    file = tmp_path / NAME
    file.write_bytes(content)
    fails(tmp_path, name, file, words)


@pytest.mark.parametrize("name", FORMAT_NAMES)
@pytest.mark.parametrize("other", GOOD)
def test_a_file_of_another_vendor_is_recognised(tmp_path, name, other):
    pytest.importorskip("databento_dbn")
    if name == other or {name, other} == {"generic", "truefx"}:
        return
    file = write_text(tmp_path / NAME, "\n".join(GOOD[other].splitlines()[:30]) + "\n")
    known = "" if other == "generic" else f".*it looks like a file of {other}"
    fails(tmp_path, name, file, f"is no file of {name}{known}" if name != "generic" else "generic")


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("packing", [".gz", ".zst", ".zip"])
def test_a_packed_file_that_is_cut_off(tmp_path, name, packing):
    whole = write_text(tmp_path / f"x.csv{packing}", GOOD[name])
    packed = whole.read_bytes()
    whole.write_bytes(packed[: len(packed) // 2])
    fails(tmp_path, name, whole, "cannot be unpacked|cut off|is not a whole message")


@pytest.mark.parametrize("name", [name for name in GOOD if name not in ("binance", "bybit")])
def test_a_row_that_is_cut_off_and_a_header_alone(tmp_path, name):
    text = GOOD[name]
    file = write_text(tmp_path / "x.csv", text[: text.rindex(",") - 1].rpartition(",")[0])
    fails(tmp_path, name, file, r"is broken \(data row 3000: Expected \d columns, got \d")
    file = write_text(tmp_path / "x.csv", text[: text.index("\n") + 1])
    fails(tmp_path, name, file, "has a header but no rows")


def test_bytes_that_are_no_text_inside(tmp_path):
    text = GOOD["tardis"].encode()
    file = write_text(tmp_path / "x.csv", text[:5000] + b"\xff" + text[5000:])
    fails(tmp_path, "tardis", file, "is broken|is not")


def test_one_wrong_file_among_many_leaves_nothing(tmp_path):
    for i in range(3):
        write_text(
            tmp_path / f"in/{i}.csv", GOOD["tardis"] if i < 2 else GOOD["tardis"].replace(",10,9,", ",ten,9,", 1)
        )
    out = tmp_path / "made" / "q.parquet"
    with pytest.raises(UserError, match=r"2.csv, column 'ask_price', data row 1: 'ten' is not a number"):
        convert("tardis", [str(tmp_path / "in")], out)
    assert not out.parent.exists()


def test_a_result_that_is_there_is_kept(tmp_path):
    file = write_text(tmp_path / "x.csv", GOOD["tardis"])
    out = tmp_path / "q.parquet"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"q\.parquet exists; give another name, or delete it"):
        convert("tardis", [str(file)], out)
    assert out.read_text() == "mine"


@pytest.mark.parametrize("paths, words", [
    (["nowhere.csv"], "nowhere.csv does not exist"),
    (["*.nothing"], r"no file fits \*.nothing"),
    (["A=nowhere.csv"], "nowhere.csv does not exist"),
    (["empty"], "folder empty has no file that ends in"),
])  # fmt: skip
def test_paths_that_lead_nowhere(tmp_path, monkeypatch, paths, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.md").write_text("x")
    with pytest.raises(UserError, match=words):
        convert("tardis", paths, tmp_path / "q.parquet")


def test_what_is_asked_for_must_make_sense(tmp_path):
    file = str(write_text(tmp_path / "x.csv", GOOD["tardis"]))
    out = tmp_path / "q.parquet"
    for words, arguments in (
        ("there is nothing to write", ("tardis", [file], None)),
        ("are both", ("tardis", [file], out, out)),
        ("ends in .parquet", ("tardis", [file], tmp_path / "q.csv")),
        (r"format 'tardi' is unknown \(did you mean 'tardis'\?\)", ("tardi", [file], out)),
        ("no quotes were found in 1 files, 3,000 rows", ("tardis", [file], out, None, Options(symbols=("B",)))),
    ):
        with pytest.raises(UserError, match=words):
            convert(*arguments)
    assert list(tmp_path.iterdir()) == sorted(tmp_path.iterdir(), key=list(tmp_path.iterdir()).index)
    assert not out.exists()


@pytest.mark.parametrize("packing", PACKINGS)
def test_how_a_file_is_packed_is_seen_from_its_content(tmp_path, packing):
    packed = write_text(tmp_path / f"x.csv{packing}", GOOD["generic"])
    file = packed.rename(tmp_path / "plain.csv")
    quotes, _, _ = converted(tmp_path, "generic", file)
    assert len(quotes) == 3000


def test_a_folder_whose_name_has_an_equals_sign_names_no_venue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "date=2024-01-02/x.csv", GOOD["generic"])
    for path in ("date=2024-01-02/x.csv", "date=*/x.csv", "date=2024-01-02"):
        _, _, summary = converted(tmp_path, "generic", path)
        assert list(summary.venues) == ["generic"]
    _, _, summary = converted(tmp_path, "generic", "EBS=date=2024-01-02/x.csv")
    assert list(summary.venues) == ["EBS"]


def test_a_file_that_is_named_twice_is_read_once(tmp_path):
    file = write_text(tmp_path / "in/x.csv", GOOD["generic"])
    quotes, _, summary = converted(tmp_path, "generic", file, tmp_path / "in", tmp_path / "in" / "*.csv")
    assert (len(quotes), summary.files) == (3000, 1)


def test_progress_ends_at_the_whole(tmp_path):
    told = []
    file = write_text(tmp_path / "x.csv.gz", GOOD["tardis"])
    convert("tardis", [str(file)], tmp_path / "q.parquet", progress=lambda *now: told.append(now))
    assert told[-1] == ("reading x.csv.gz", file.stat().st_size, file.stat().st_size)
