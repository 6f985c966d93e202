"""Loading a market: what is right loads, and a mistake is one sentence: file, field, value, expectation."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import sor_sb3
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market, parse_market, preset_names
from sor_sb3.market.spec import NotebookMarket, SyntheticMarket

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
        ("name: tiny", "name: tiny\nmid: {jump_per_hour: 1}"),
        ("field 'mid.jump_per_hour' is unknown (did you mean 'jumps_per_hour'?)",),
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
        ("name: tiny", "name: tiny\ninformed: {probability: 1.5}"),
        ("field 'informed.probability' is 1.5", "less than or equal to 1"),
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
