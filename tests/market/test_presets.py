"""Presets' numbers are fixed by realism alone: their digests stand in ``market/presets/hashes.txt``."""

from __future__ import annotations

import hashlib
import json
from importlib import resources

import pytest
from pydantic import BaseModel

from sor_sb3.market import spec
from sor_sb3.market.loading import load_market, preset_names

HASHES = resources.files("sor_sb3.market") / "presets" / "hashes.txt"
FROZEN = {
    name: digest
    for line in HASHES.read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
    for digest, name in [line.split()]
}


def digest_of_defaults() -> str:
    """Of the default of every field that a market may leave out."""
    models = [m for m in vars(spec).values() if isinstance(m, type) and issubclass(m, BaseModel)]
    found = {
        f"{model.__name__}.{name}": repr(field.get_default(call_default_factory=True))
        for model in models
        for name, field in model.model_fields.items()
        if not field.is_required()
    }
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def test_every_preset_has_a_hash():
    assert set(FROZEN) == {*preset_names(), "defaults"}


@pytest.mark.parametrize("name", preset_names())
def test_a_presets_numbers_are_those_that_were_frozen(name):
    found = load_market(name).digest()
    assert found == FROZEN[name], (
        f"the numbers of preset '{name}' have changed ({found}). They are fixed by realism alone, never by how "
        "policies fare: undo the change. If a source is wrong, say so in CHANGELOG.md, measure every table of README.md"
        " and docs/ again, and write the new hash into sor_sb3/market/presets/hashes.txt."
    )


def test_the_defaults_are_those_that_were_frozen():
    found = digest_of_defaults()
    assert found == FROZEN["defaults"], (
        f"defaults of market fields have changed ({found}). A new field must be off by default, so that evaluate gives "
        "the same costs as before on every preset, bit for bit; then write the new hash into "
        "sor_sb3/market/presets/hashes.txt. A default that existed stays as it was: presets rely on it."
    )


def test_prose_is_no_part_of_a_digest_and_a_number_is():
    market = load_market("us_equity")
    assert market.model_copy(update={"description": "x", "sources": {"all": "y"}}).digest() == market.digest()
    assert load_market("us_equity", {"venues.NYSE.take_fee_bps": 0.123}).digest() != market.digest()
    assert load_market("us_equity", {"order.waves": 1}).digest() != market.digest()
