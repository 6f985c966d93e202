"""Cleaned recordings are kept as files: cleaned once, mapped by others, keyed by content and options."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sor_sb3.market import recording_cache, recordings
from sor_sb3.market.loading import load_market
from sor_sb3.market.quotes import QuoteRecording, load_quotes
from sor_sb3.market.recording_cache import KEPT_DAYS, VARIABLE, cache_folder, recorded
from sor_sb3.market.recordings import recording_for
from tests.market.quote_fixtures import write_recording

OPTIONS: dict[str, Any] = {"max_gap_s": 300.0, "hide_older": False}
ARRAYS = "first time_s bid_px bid_size ask_px ask_size bid_levels mid_time_s mid_px segments".split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    recordings._cache.clear()
    yield tmp_path / "cache" / "recordings"
    recordings._cache.clear()


@pytest.fixture
def quotes(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "q.parquet", duration_s=900.0, trades_path=tmp_path / "t.parquet")


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def cleaned(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are cleaned from now on."""
    files: list[Path] = []

    def counting(path: Path, **options: Any) -> QuoteRecording:
        files.append(path)
        return load_quotes(path, **options)

    monkeypatch.setattr(recording_cache, "load_quotes", counting)
    return files


def same(one: QuoteRecording, other: QuoteRecording) -> bool:
    arrays = all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in ARRAYS)
    return arrays and (one.venues, one.report, one.sha256) == (other.venues, other.report, other.sha256)


def test_a_file_is_cleaned_once_and_its_arrays_are_those_of_the_loader(
    folder: Path, quotes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, trades = cleaned(monkeypatch), tmp_path / "t.parquet"
    again = [recorded(quotes, trades, None, **OPTIONS) for _ in range(2)]
    plain = load_quotes(quotes, trades=trades, **OPTIONS)
    assert files == [quotes]
    for found in again:
        assert same(found, plain)
        assert found.trade_time_s is not None and plain.trade_time_s is not None
        assert found.trade_time_s.tobytes() == plain.trade_time_s.tobytes()
    named = recorded(quotes, trades, plain.venues, **OPTIONS)  # as a worker asks, who knows the venues
    assert files == [quotes] and same(named, plain)


def test_arrays_are_mapped_and_what_is_written_to_them_is_not_kept(folder: Path, quotes: Path) -> None:
    found = recorded(quotes, None, None, **OPTIONS)
    assert found.folder is not None and found.folder.parent == folder
    base = found.ask_px
    while base.base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert type(found.ask_px) is np.ndarray and found.ask_px.flags.c_contiguous and found.ask_px.flags.writeable
    before = found.ask_px[0]
    found.ask_px[0] = -1.0
    assert recorded(quotes, None, None, **OPTIONS).ask_px[0] == before


def test_another_content_or_option_is_another_recording_and_another_name_is_not(
    folder: Path, quotes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = cleaned(monkeypatch)
    recorded(quotes, None, None, **OPTIONS)
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(quotes.read_bytes())
    assert recorded(copy, None, None, **OPTIONS).report.file == "copy.parquet"
    assert files == [quotes]
    recorded(quotes, None, None, **OPTIONS | {"max_gap_s": 5.0})
    recorded(quotes, None, ("ARCA",), **OPTIONS)
    write_recording(copy, duration_s=900.0, seed=1)
    recorded(copy, None, None, **OPTIONS)
    assert files == [quotes, quotes, quotes, copy]
    assert len(kept(folder)) == 4


def test_a_changed_loader_reads_anew(folder: Path, quotes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = cleaned(monkeypatch)
    recorded(quotes, None, None, **OPTIONS)
    monkeypatch.setattr(recording_cache, "_sources_digest", lambda: "of other sources")
    recorded(quotes, None, None, **OPTIONS)
    assert len(files) == 2


def test_the_digest_covers_every_module_that_the_loader_is_made_of() -> None:
    market = Path(recording_cache.__file__).parent
    waiting, found = ["quotes"], set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        source = (market / f"{name}.py").read_text()
        for other in (path.stem for path in market.glob("*.py")):
            named = f"sor_sb3.market.{other} import" in source or f"import cleaning, {other}" in source
            if (named or (name == "quotes" and other == "cleaning")) and other not in found:
                waiting.append(other)
    assert found - {"cleaning_report"} == set(recording_cache._SOURCES)


def test_damage_is_mended(folder: Path, quotes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = recorded(quotes, None, None, **OPTIONS)
    files = cleaned(monkeypatch)
    assert first.folder is not None
    (first.folder / "recording.json").write_text("{")
    assert same(recorded(quotes, None, None, **OPTIONS), load_quotes(quotes, **OPTIONS))
    assert recorded(quotes, None, None, **OPTIONS).folder == first.folder
    (first.folder / "ask_px.npy").unlink()
    assert same(recorded(quotes, None, None, **OPTIONS), load_quotes(quotes, **OPTIONS))
    assert files == [quotes, quotes]


def test_nothing_is_kept_where_nothing_can_be(quotes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = load_quotes(quotes, **OPTIONS)
    monkeypatch.setenv(VARIABLE, "")
    assert cache_folder() is None
    assert same(recorded(quotes, None, None, **OPTIONS), plain)
    in_the_way = tmp_path / "file"
    in_the_way.write_text("no folder")
    monkeypatch.setenv(VARIABLE, str(in_the_way))
    found = recorded(quotes, None, None, **OPTIONS)
    assert found.folder is None and same(found, plain)


def test_the_users_cache_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sor_sb3" / "recordings"
    monkeypatch.delenv("XDG_CACHE_HOME")
    if os.name != "nt":
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder() == tmp_path / "home" / ".cache" / "sor_sb3" / "recordings"


def test_what_was_not_used_for_long_goes(folder: Path, quotes: Path) -> None:
    old = recorded(quotes, None, ("ARCA",), **OPTIONS).folder
    used = recorded(quotes, None, ("NYSE",), **OPTIONS).folder
    assert old is not None and used is not None
    long_ago = time.time() - (KEPT_DAYS + 1) * 86_400
    for path in (old, used):
        os.utime(path / "recording.json", (long_ago, long_ago))
    recorded(quotes, None, ("NYSE",), **OPTIONS)  # marks it as used
    new = recorded(quotes, None, None, **OPTIONS).folder
    assert new is not None
    assert set(kept(folder)) == {used, new}


def _clean(quotes: Path, cache: Path, ready: Any, answers: Any) -> None:
    os.environ[VARIABLE] = str(cache)
    ready.wait()
    found = recorded(quotes, None, None, **OPTIONS)
    answers.put((str(found.folder), found.ask_px.sum()))


def test_two_processes_that_clean_at_once_both_get_it_whole(folder: Path, quotes: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, answers = spawn.Barrier(2), spawn.SimpleQueue()
    both = [spawn.Process(target=_clean, args=(quotes, folder.parent, ready, answers)) for _ in range(2)]
    for process in both:
        process.start()
    got = [answers.get() for _ in both]
    for process in both:
        process.join()
    assert got[0] == got[1] == (str(kept(folder)[0]), load_quotes(quotes, **OPTIONS).ask_px.sum())
    assert len(kept(folder)) == 1 and not list(folder.glob(".*"))


def test_a_worker_gets_a_path_and_a_sell_is_mirrored_once(folder: Path, quotes: Path) -> None:
    market = load_market(quotes, side="sell", crossed="keep")
    assert len(pickle.dumps(market)) < 10_000  # the specification, no arrays
    first = recording_for(market, "test")
    mirrored = sorted(path.name for path in kept(folder)[0].glob("minus_*.npy"))
    assert {"minus_ask_px.npy", "minus_bid_px.npy", "minus_mid_px.npy"} <= set(mirrored)
    recordings._cache.clear()
    again = recording_for(market, "test")
    plain = load_quotes(quotes)
    for arrays in (first, again):
        np.testing.assert_array_equal(arrays.ask_px, -plain.bid_px)
        np.testing.assert_array_equal(arrays.bid_px, -plain.ask_px)
        np.testing.assert_array_equal(arrays.mid_px, -plain.mid_px)
    assert json.loads((kept(folder)[0] / "recording.json").read_text())["sha256"] == market.quotes_sha256
