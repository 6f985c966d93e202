"""Loading a market: what is right loads, and a mistake is one sentence: file, field, value, expectation."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import sor_sb3
from sor_sb3.errors import UserError
from sor_sb3.market import router_names
from sor_sb3.market.loading import load_market, parse_market, preset_names
from sor_sb3.market.spec import NotebookMarket, SyntheticMarket
from sor_sb3.policies.registry import GROUPS, rule_names
from tests.market.quote_fixtures import write_recording

GOOD = """
name: tiny
order: {quantity_shares: 100, horizon_steps: 2, step_s: 1}
venues:
  - {name: A, take_fee_bps: 0.3, offset_bps: 1, size_shares: 100, latency_ms: 1}
  - {name: B, take_fee_bps: 0.1, offset_bps: 1, size_shares: 100, latency_ms: 2}
"""


def write(folder: Path, text: str, name: str = "my.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(market, **options) -> str:
    with pytest.raises(UserError) as caught:
        load_market(market, **options)
    message = str(caught.value)
    assert "\n" not in message, "one sentence"
    assert (caught.value.__cause__ is None and caught.value.__suppress_context__) or not caught.value.__context__
    return message


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_and_bear_their_file_names(name):
    market = load_market(name)
    assert market.name == name and market.description and market.sources and market.n_venues >= 2
    assert load_market(market) is market
    assert type(market).model_validate(market.model_dump()) == market
    assert type(market).model_validate_json(market.model_dump_json()) == market


def test_the_presets_that_others_build_on_are_there():
    assert {"notebook", "notebook_blind", "us_equity"} <= set(preset_names())
    assert load_market("notebook").cost_unit != "bps" and load_market("us_equity").cost_unit == "bps"
    assert load_market("us_equity").has_volume and not load_market("notebook").has_volume


def test_a_file_loads_by_string_and_by_path(tmp_path):
    path = write(tmp_path, GOOD)
    market = load_market(path)
    assert market == load_market(str(path)) == sor_sb3.load_market(path)
    assert isinstance(market, SyntheticMarket) and market.venue_names == ("A", "B")


def test_a_file_without_a_name_takes_the_files(tmp_path):
    assert load_market(write(tmp_path, GOOD.replace("name: tiny\n", ""), "fine.yml")).name == "fine"


def test_specifications_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_market("notebook").name = "other"


def test_an_unknown_preset_is_refused_with_a_suggestion():
    said = refusal("us_equty")
    assert "market 'us_equty' is unknown (did you mean 'us_equity'?)" in said and "notebook_blind" in said
    assert "did you mean" not in refusal("zzzzzzz") and ".yaml" in refusal("zzzzzzz")


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "none.yaml"
    assert f"market file {path} does not exist" in refusal(path)
    (tmp_path / "folder.yaml").mkdir()
    assert "does not exist" in refusal(tmp_path / "folder.yaml")


WRONG = {
    "misspelt field": (
        ("take_fee_bps: 0.3", "take_fees_bps: 0.3"),
        (
            "field 'venues.0.take_fees_bps' is unknown (did you mean 'take_fee_bps'?)",
            "expected one of",
            "offset_bps",
        ),
    ),
    "misspelt top field": (
        ("name: tiny", "nam: tiny"),
        ("field 'nam' is unknown (did you mean 'name'?)", "expected one of"),
    ),
    "misspelt nested field": (
        ("name: tiny", "name: tiny\nprice: {jump_per_hour: 1}"),
        ("field 'price.jump_per_hour' is unknown (did you mean 'jumps_per_hour'?)",),
    ),
    "misspelt order field": (
        ("step_s: 1", "step_ms: 1"),
        ("field 'order.step_ms' is unknown (did you mean 'step_s'?)", "1 more"),
    ),
    "negative latency": (
        ("latency_ms: 2", "latency_ms: -2"),
        ("field 'venues.1.latency_ms' is -2", "greater than or equal to 0"),
    ),
    "zero size": (
        ("size_shares: 100, latency_ms: 1", "size_shares: 0, latency_ms: 1"),
        ("field 'venues.0.size_shares' is 0", "greater than 0"),
    ),
    "not a number": (
        ("take_fee_bps: 0.1", "take_fee_bps: cheap"),
        ("field 'venues.1.take_fee_bps' is 'cheap'", "number"),
    ),
    "infinite": (
        ("take_fee_bps: 0.1", "take_fee_bps: .inf"),
        ("field 'venues.1.take_fee_bps' is inf", "finite"),
    ),
    "not a number at all": (
        (
            "offset_bps: 1, size_shares: 100, latency_ms: 1",
            "offset_bps: .nan, size_shares: 100, latency_ms: 1",
        ),
        ("field 'venues.0.offset_bps' is nan",),
    ),
    "fractional horizon": (
        ("horizon_steps: 2", "horizon_steps: 2.5"),
        ("field 'order.horizon_steps' is 2.5", "integer"),
    ),
    "zero horizon": (("horizon_steps: 2", "horizon_steps: 0"), ("field 'order.horizon_steps' is 0",)),
    "wrong side": (
        ("step_s: 1", "step_s: 1, side: short"),
        ("field 'order.side' is 'short'", "'buy' or 'sell'"),
    ),
    "missing field": (
        ("order: {quantity_shares: 100, horizon_steps: 2, step_s: 1}\n", ""),
        ("field 'order' is missing; add it",),
    ),
    "missing venue field": (
        ("take_fee_bps: 0.1, ", ""),
        ("field 'venues.1.take_fee_bps' is missing; add it",),
    ),
    "empty name": (("name: A", "name: ''"), ("field 'venues.0.name' is ''",)),
    "duplicate venues": (
        ("name: B", "name: A"),
        ("two venues are named 'A'", "must differ"),
    ),
    "one venue": (
        ("  - {name: B, take_fee_bps: 0.1, offset_bps: 1, size_shares: 100, latency_ms: 2}\n", ""),
        ("field 'venues'", "at least 2"),
    ),
    "unknown model": (
        ("name: tiny", "name: tiny\nmodel: agent_based"),
        ("field 'model' is 'agent_based'", "expected one of synthetic, notebook, replay"),
    ),
    "probability above one": (
        ("name: tiny", "name: tiny\ninformed: {removed_fraction: 1.5}"),
        ("field 'informed.removed_fraction' is 1.5", "less than or equal to 1"),
    ),
    "several mistakes": (
        ("latency_ms: 2", "latency_ms: -2, toxicity: -1"),
        ("field 'venues.1.latency_ms' is -2", "more after this one)"),
    ),
}


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.replace(" ", "_"))
def test_a_mistake_is_named_with_its_file_field_value_and_what_was_expected(case, tmp_path):
    (old, new), parts = WRONG[case]
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    said = refusal(path)
    assert said.startswith(f"{path}"), "the file is named first"
    for part in parts:
        assert part in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2\nb: 3", "is not valid YAML at line"),
        ("name: x\n\tvenues: []", "is not valid YAML at line 2"),
        ("- a\n- b", "holds list; expected a mapping"),
        ("just words", "holds str; expected a mapping"),
        ("", "holds NoneType; expected a mapping"),
        ("venues: 5\norder: {quantity_shares: 1, horizon_steps: 1, step_s: 1}", "field 'venues' is 5"),
        ("model: [1]\nvenues: []", "field 'model' is [1]"),
        ("model: {a: 1}\nvenues: []", "field 'model' is"),
        ("model:\nvenues: []", "field 'model' is None"),
    ],
)
def test_what_is_no_market_is_refused(text, said, tmp_path):
    path = write(tmp_path, text)
    message = refusal(path)
    assert message.startswith(str(path)) and said in message


def test_yaml_that_would_run_code_is_refused(tmp_path):
    path = write(tmp_path, "name: !!python/object/apply:os.getcwd []")
    assert "is not valid YAML" in refusal(path)


def test_a_key_given_twice_is_refused(tmp_path):
    """YAML says that keys are unique; taking the last one silently would run another market than was read."""
    path = write(tmp_path, GOOD.replace("latency_ms: 2", "latency_ms: 2, latency_ms: 3"))
    assert "latency_ms" in refusal(path)


def test_keys_that_are_no_strings_are_refused(tmp_path):
    assert "keys should be strings" in refusal(write(tmp_path, GOOD + "\n1: 2\n"))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(bytes(range(256)))
    assert refusal(path).startswith(str(path))


def test_options_of_a_recording_are_refused_elsewhere(tmp_path):
    said = refusal("us_equity", assumed_depth_shares=100)
    assert "'us_equity'" in said and "assumed_depth_shares" in said and "recorded quotes only" in said
    assert "trades_file" in refusal(write(tmp_path, GOOD), trades_file="x.csv")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("spread", [0.05, 0.01], "spread is [0.05, 0.01]; expected the lower end first"),
        ("spread", [0.01], "field 'spread"),
        ("liquidity", [0, 200], "field 'liquidity.0' is 0"),
        ("blind", "perhaps", "field 'blind' is 'perhaps'"),
        ("take_fee_bps", 1, "field 'take_fee_bps' is unknown"),
    ],
)
def test_mistakes_in_a_notebook_market_are_named(field, value, said):
    data = load_market("notebook").model_dump(mode="json")
    with pytest.raises(UserError) as caught:
        parse_market(yaml.safe_dump({**data, field: value}), "my.yaml", Path())
    assert said in str(caught.value) and str(caught.value).startswith("my.yaml: ")
    assert isinstance(parse_market(yaml.safe_dump(data), "my.yaml", Path()), NotebookMarket)


def test_a_market_of_many_venues_loads_and_too_many_are_refused(tmp_path):
    venue = "  - {name: V%d, take_fee_bps: 0.3, offset_bps: 1, size_shares: 100, latency_ms: 1}\n"
    head = GOOD[: GOOD.index("  - {")]
    many = write(tmp_path, head + "".join(venue % k for k in range(256)))
    assert load_market(many).n_venues == 256
    assert "field 'venues'" in refusal(write(tmp_path, head + "".join(venue % k for k in range(257))))


# ------------------------------------------------------------------------------------------- rules and oracles


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (
            "reference_router: roundrobin",
            ("'reference_router' is 'roundrobin'", "did you mean 'round_robin'", "pro_rata"),
        ),
        ("oracle: snapshot_orcale", ("'oracle' is 'snapshot_orcale'", "did you mean 'snapshot_oracle'", "clairvoyant")),
        (
            "oracle: round_robin",
            ("'oracle' is 'round_robin'", "expected one of snapshot_oracle, placement_oracle, clairvoyant"),
        ),
        ("reference_router: snapshot_oracle", ("'reference_router' is 'snapshot_oracle'", "expected one of random")),
        ("reference_router: vwap", ("'vwap'", "volume.shares_per_day")),
        ("reference_router: dark_first", ("'dark_first'", "dark")),
        ("oracle: clairvoyant", ("'clairvoyant'", "order.lot_shares")),
        ("reference_router: 3", ("field 'reference_router' is 3", "string")),
    ],
)
def test_a_router_that_nobody_knows_or_that_cannot_be_is_refused(line, parts, tmp_path):
    path = write(tmp_path, GOOD + line)
    said = refusal(path)
    assert said.startswith(f"{path}: ")
    for part in parts:
        assert part in said


def test_routers_whose_needs_are_met_are_taken(tmp_path):
    text = GOOD.replace("step_s: 1", "step_s: 1, lot_shares: 10") + "volume: {shares_per_day: 1e6}\n"
    text += "reference_router: vwap\noracle: clairvoyant\n"
    market = load_market(write(tmp_path, text))
    assert (market.reference_router, market.oracle) == ("vwap", "clairvoyant")


def test_a_router_of_ones_own_may_be_named_once_it_is_known(tmp_path, monkeypatch):
    path = write(tmp_path, GOOD + "reference_router: mine\noracle: my_oracle\n")
    assert "'mine'" in refusal(path)
    monkeypatch.setattr(router_names, "RULE_NEEDS", dict(router_names.RULE_NEEDS))
    monkeypatch.setattr(router_names, "ORACLE_NEEDS", dict(router_names.ORACLE_NEEDS))
    router_names.register_router_name("mine")
    router_names.register_router_name("my_oracle", oracle=True)
    assert load_market(path).reference_router == "mine"


def test_markets_know_the_routers_that_there_are():
    rules, oracles = sor_sb3.routers.ROUTER_NAMES, sor_sb3.routers.ORACLE_NAMES
    assert set(router_names.RULE_NEEDS) >= set(rules)
    assert set(router_names.ORACLE_NEEDS) >= set(oracles)
    for name in preset_names():
        market = load_market(name)
        meant = [rule for rule, needs in router_names.RULE_NEEDS.items() if not needs or getattr(market, needs)]
        assert set(rules) & set(rule_names(market, "OrderPlace-v1", GROUPS)) == set(rules) & set(meant)


# ------------------------------------------------------------------------------------------------ what YAML may be


@pytest.mark.parametrize("name", ["my.YAML", "my.Yml", "MY.YML"])
def test_the_case_of_a_suffix_does_not_matter(name, tmp_path):
    assert load_market(write(tmp_path, GOOD, name)).venue_names == ("A", "B")


@pytest.mark.parametrize("name", ["QUOTES.CSV", "quotes.Parquet", "QUOTES.CSV.GZ"])
def test_the_case_of_a_recordings_suffix_does_not_matter(name, tmp_path):
    path = write_recording(tmp_path / name.lower(), duration_s=900)
    path.rename(tmp_path / name)
    market = load_market(tmp_path / name, horizon_steps=2)
    assert market.model == "replay" and market.name == name.partition(".")[0]


MERGED = GOOD.replace("- {name: A", "- &lit {name: A").replace(
    "- {name: B, take_fee_bps: 0.1, offset_bps: 1, size_shares: 100,", "- {<<: *lit, name: B,"
)


def test_merge_keys_and_anchors_work(tmp_path):
    first, second = load_market(write(tmp_path, MERGED)).venues
    assert (second.name, second.latency_ms) == ("B", 2.0)
    assert second.take_fee_bps == first.take_fee_bps == 0.3
    twice = "base: &a {step_s: 1, horizon_steps: 2}\n"
    listed = GOOD.replace("order: {quantity_shares: 100, horizon_steps: 2, step_s: 1}", "")
    listed = listed + "order: {<<: [{step_s: 1}, {step_s: 9, horizon_steps: 2}], quantity_shares: 5}\n"
    assert load_market(write(tmp_path, listed)).order.step_s == 1.0
    assert "'base' is unknown" in refusal(write(tmp_path, twice + GOOD))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: B", "name: B, name: C", "'name' is given twice"),
        ("<<: *lit", "<<: *lit, <<: *lit", "'<<' is given twice"),
        ("<<: *lit", "<<: 3", "merging"),
        ("*lit", "*dark", "undefined alias"),
    ],
)
def test_mistakes_beside_merge_keys_are_named(old, new, said, tmp_path):
    assert old in MERGED
    assert said in refusal(write(tmp_path, MERGED.replace(old, new)))


@pytest.mark.parametrize("text", ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), "---\n" + GOOD + "...\n"])
def test_marks_line_ends_and_document_marks_do_not_matter(text, tmp_path):
    (tmp_path / "my.yaml").write_bytes(text.encode())
    assert load_market(tmp_path / "my.yaml").venue_names == ("A", "B")


def test_exponents_are_numbers_without_a_point(tmp_path):
    text = GOOD.replace("take_fee_bps: 0.3", "take_fee_bps: -1e-3").replace("horizon_steps: 2", "horizon_steps: 2e1")
    market = load_market(write(tmp_path, text))
    assert market.venues[0].take_fee_bps == -0.001 and market.order.horizon_steps == 20


def bomb(kind: str) -> str:
    """Nine aliases of nine aliases of ..., as lists or as merged mappings."""
    first = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]" if kind == "lists" else "a: &a {x: 1}"
    lines = [first]
    for before, now in zip("abcdefgh", "bcdefghi", strict=True):
        aliases = ", ".join([f"*{before}"] * 9)
        lines.append(f"{now}: &{now} " + (f"[{aliases}]" if kind == "lists" else f"{{<<: [{aliases}]}}"))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (bomb("lists"), "more than 100,000 values"),
        (bomb("merges"), "more than 100,000 values"),
        ("a: &a [*a]", "more than 100,000 values"),
        ("a: &a {<<: *a}", "more than 100,000 values"),
        ("[" * 5000, "too deep"),
        ("a: 2024-99-99", "month must be"),
        ("a: !!int x", "cannot be read"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("!!timestamp x", "cannot be read"),
        ("a: \x00", "not valid YAML"),
        ("{[1]: 2}", "unhashable key"),
        (GOOD + "---\n" + GOOD, "another document"),
        ("# nothing but words\n" * 60_000, "larger than 1 MB"),
        (
            GOOD.replace("quantity_shares: 100", "quantity_shares: {a: " + "x" * 5000 + "}"),
            "quantity_shares' is {'a': 'xxx",
        ),
    ],
)
def test_yaml_that_no_market_needs_is_refused_at_once(text, said, tmp_path):
    path = write(tmp_path, text)
    start = time.perf_counter()
    message = refusal(path)
    assert time.perf_counter() - start < 10.0
    assert message.startswith(str(path)) and said in message and len(message) < 1000


@pytest.mark.parametrize("name", ["x" * 5000 + ".yaml", "a\0b.yaml", "a\nb.yaml"])
def test_names_that_no_file_has_are_refused(name):
    assert "does not exist" in refusal(name)


# ------------------------------------------------------------------------------------- fields of the first market

OF_THE_FIRST = {
    "walk": ("latency_ms: 2", "latency_ms: 2, walk_bps: 1", ("'venues.1.walk_bps'", "quotes.level_profile")),
    "continuation": ("name: tiny", "name: tiny\ncontinuation_bps: 2", ("'continuation_bps'", "take it out")),
    "mid": ("name: tiny", "name: tiny\nmid: {jumps_per_hour: 1}", ("field 'mid' is of", "'price'; rename it")),
    "news by decision": (
        "name: tiny",
        "name: tiny\ninformed: {probability: 0.5, jump_bps: 1}",
        ("'informed.probability'", "set informed.news_per_s"),
    ),
    "news window": (
        "name: tiny",
        "name: tiny\ninformed: {window_ms: 0.5, news_per_s: 0.1}",
        ("'informed.window_ms'", "informed.news_per_s; take it out"),
    ),
    "no grid": ("name: tiny", "name: tiny\nquotes: {tick_bps: 0}", ("'quotes.tick_bps' is 0", "0.01 is as good as")),
    "limit": (
        "step_s: 1",
        "step_s: 1, limit_offset_bps: 5",
        ("order: limit_offset_bps is 5", "set limit to sweep, or take limit_offset_bps out"),
    ),
    "a range of news": (
        "name: tiny",
        "name: tiny\nrandomise: {informed.probability: [0.1, 0.5]}",
        ("randomise.informed.probability is of", "set informed.news_per_s"),
    ),
    "a range of the mid": (
        "name: tiny",
        "name: tiny\nrandomise: {mid.volatility_bps_per_sqrt_s: [0.1, 0.5]}",
        ("randomise.mid.volatility_bps_per_sqrt_s is of", "'price'; rename it"),
    ),
    "a range of walks": (
        "name: tiny",
        "name: tiny\nrandomise: {'venues.*.walk_bps': [0.1, 0.5]}",
        ("randomise.venues.A.walk_bps is of", "quotes.level_profile"),
    ),
}


@pytest.mark.parametrize("case", OF_THE_FIRST, ids=lambda case: case.replace(" ", "_"))
def test_a_field_of_the_first_market_is_refused_with_what_replaced_it(case, tmp_path):
    old, new, parts = OF_THE_FIRST[case]
    assert old in GOOD
    said = refusal(write(tmp_path, GOOD.replace(old, new, 1)))
    for part in parts:
        assert part in said


def test_a_walk_of_a_recorded_venue_is_refused_with_what_replaced_it(tmp_path):
    path = write_recording(tmp_path / "quotes.parquet", duration_s=900)
    text = f"model: replay\nquotes_file: {path}\norder: {{quantity_shares: 100, horizon_steps: 2, step_s: 1}}\n"
    said = refusal(write(tmp_path, text + "venues: [{name: NYSE, walk_bps: 1}]\n"))
    assert "'venues.0.walk_bps' is of the first market: a fill pays the levels that it takes" in said


# ------------------------------------------------------------------------------------------------ the path's clock


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: tiny", "path_dt_s: 0.3", ("order.step_s is 1 and path_dt_s is 0.3", "a whole number of path_dt_s")),
        ("step_s: 1", "step_s: 0.5", ("order.step_s is 0.5 and path_dt_s is 1", "a whole number of path_dt_s")),
        ("step_s: 1", "step_s: 2.5", ("order.step_s is 2.5 and path_dt_s is 1",)),
        ("step_s: 1", "step_s: 100000", ("order.step_s is 100000", "at most 30,000 ticks", "shorten the step")),
        ("name: tiny", "path_dt_s: 2", ("'path_dt_s' is 2", "above 0 to 1")),
        ("name: tiny", "path_dt_s: 0", ("'path_dt_s' is 0", "above 0 to 1")),
        ("step_s: 1", "step_s: 1, waves: 5", ("'order.waves' is 5", "from 1 to 4")),
        (
            "step_s: 1",
            "step_s: 1, waves: 2, wave_timeout_ms: 1000",
            ("order.wave_timeout_ms is 1000, with 2 waves", "less than 1000"),
        ),
    ],
)
def test_a_step_is_whole_ticks_and_a_wave_ends_within_one(old, new, said, tmp_path):
    message = refusal(write(tmp_path, GOOD.replace(old, new, 1)))
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("step_s", "path_dt_s", "ticks"),
    [(1, 1, 1), (5, 1, 5), (1, 0.1, 10), (0.3, 0.1, 3), (0.07, 0.01, 7), (60, 0.5, 120)],
)
def test_ticks_are_counted_in_decimals(step_s, path_dt_s, ticks, tmp_path):
    text = GOOD.replace("step_s: 1", f"step_s: {step_s}") + f"path_dt_s: {path_dt_s}\n"
    assert load_market(write(tmp_path, text)).ticks_per_step == ticks


def test_one_wave_may_have_any_time_out_and_a_recordings_waves_end_within_its_step(tmp_path):
    assert load_market(write(tmp_path, GOOD.replace("step_s: 1", "step_s: 1, wave_timeout_ms: 5000"))).order.waves == 1
    path = write_recording(tmp_path / "quotes.parquet", duration_s=900)
    order = "{quantity_shares: 100, horizon_steps: 2, step_s: 2, waves: 2, wave_timeout_ms: %d}"
    text = "model: replay\nquotes_file: quotes.parquet\norder: " + order + "\n"
    assert load_market(write(tmp_path, text % 1999)).order.waves == 2
    assert "expected less than 2000" in refusal(write(tmp_path, text % 2000)), path


# ---------------------------------------------------------------------------------------------- bounds of numbers


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("take_fee_bps: 0.3", "take_fee_bps: 1e300", ("'venues.0.take_fee_bps' is 1e+300", "from -100000 to 100000")),
        ("offset_bps: 1", "offset_bps: 1e300", ("'venues.0.offset_bps' is 1e+300", "above 0 to 100000")),
        ("offset_bps: 1", "offset_bps: 1e-300", ("venues.0.offset_bps: 1e-300", "at least 1e-09")),
        ("size_shares: 100", "size_shares: 1e300", ("'venues.0.size_shares' is 1e+300", "above 0 to 1e+12")),
        ("latency_ms: 1", "latency_ms: 1e12", ("'venues.0.latency_ms'", "from 0 to 1e+08")),
        ("latency_ms: 1}", "latency_ms: 1, latency_sigma: 9}", ("latency_sigma' is 9", "from 0 to 3")),
        ("horizon_steps: 2", "horizon_steps: 1e12", ("'order.horizon_steps'", "from 1 to 100000")),
        ("step_s: 1", "step_s: 1e-300", ("order.step_s: 1e-300", "at least 1e-09")),
        ("quantity_shares: 100", "quantity_shares: 1e300", ("'order.quantity_shares'", "above 0 to 1e+12")),
        ("step_s: 1", "step_s: 1, lot_shares: 1e-8", ("lot_shares is 1e-08", "at most 1e+09")),
        ("name: tiny", "quotes: {tick_bps: 1e-5}", ("'quotes.tick_bps' is 1e-05", "from 0.0001 to 100000")),
        ("name: tiny", "quotes: {level_profile: []}", ("'quotes.level_profile' is []", "at least 1")),
        ("name: tiny", "quotes: {level_profile: [1, 1, 1, 1, 1, 1, 1, 1, 1]}", ("quotes.level_profile", "at most 8")),
        ("name: tiny", "quotes: {level_profile: [1, 0]}", ("'quotes.level_profile.1' is 0",)),
        ("name: tiny", "quotes: {size_tail: 4}", ("'quotes.size_tail' is 4", "from 0 to 3")),
        ("name: tiny", "price: {volatility_log_sd: 3}", ("'price.volatility_log_sd' is 3", "from 0 to 2")),
        ("name: tiny", "informed: {news_per_s: 1e4}", ("'informed.news_per_s' is 10000", "from 0 to 1000")),
        ("latency_ms: 1}", "latency_ms: 1, quote_delay_s: -1}", ("quote_delay_s' is -1", "from 0 to 1e+08")),
        ("latency_ms: 1}", "latency_ms: 1, mid_probability: 2}", ("mid_probability' is 2", "from 0 to 1")),
    ],
)
def test_numbers_beyond_any_market_are_refused_with_the_range(old, new, said, tmp_path):
    assert old in GOOD
    message = refusal(write(tmp_path, GOOD.replace(old, new, 1)))
    for part in said:
        assert part in message


# ------------------------------------------------------------------------------------------ what others may ask


def test_traits_say_what_only_the_notebook_market_is():
    for name in preset_names():
        market = load_market(name)
        assert market.charges_bps == market.has_partial_fills == (market.cost_unit == "bps")
        assert market.scales == scales_by_hand(market)


def scales_by_hand(market):
    shares = market.order.quantity_shares / market.order.horizon_steps
    if isinstance(market, NotebookMarket):
        return sum(market.spread) / 2, shares, sum(market.latency) / 2
    latency = float(np.median([venue.latency_ms + venue.speed_bump_ms for venue in market.venues])) or 1.0
    lit = [venue for venue in market.venues if venue.offset_bps is not None]
    all_in = [venue.offset_bps + market.quotes.tick_bps / 2 + abs(venue.take_fee_bps) for venue in lit]
    return float(np.median(all_in)), shares, latency


def test_prose_is_no_part_of_what_is_hashed():
    market = load_market("us_equity")
    other = market.model_copy(update={"description": "x", "sources": {}, "fees_as_of": "today"})
    assert market.without_prose() == other.without_prose()
    assert market.without_prose() != market.model_copy(update={"order_protection": False}).without_prose()
    assert {"description", "sources", "fees_as_of"}.isdisjoint(market.without_prose())
