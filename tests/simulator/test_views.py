"""What is public and what is hidden are two types; kernels stop whatever they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sor_sb3
from sor_sb3.envs.core import RoutingCore
from sor_sb3.simulator.state import ALL_FIELDS, MOST_LEVELS, PUBLIC_FIELDS, RESTS, SLOTS
from sor_sb3.simulator.views import Observed, Truth

PACKAGE = Path(sor_sb3.__file__).parent


def core(n: int = 30) -> RoutingCore:
    core = RoutingCore("OrderSplit-v1", "us_equity", n)
    core.seed(list(range(n)))
    core.reset()
    return core


def test_every_field_reads_in_its_shape_and_cannot_be_written_to():
    simulator = core().simulator
    truth = Truth(simulator)
    for name in ALL_FIELDS:
        values = getattr(truth, name)
        assert values.shape in ((30,), (30, 10), (30, 10 * SLOTS), (30, 10 * RESTS), (30, MOST_LEVELS)), name
        with pytest.raises(ValueError, match="read-only"):
            values[...] = 0
    assert dir(truth) == sorted(ALL_FIELDS)


@pytest.mark.parametrize("name", sorted(set(ALL_FIELDS) - set(PUBLIC_FIELDS)))
def test_what_is_hidden_is_no_field_of_what_is_observed(name):
    with pytest.raises(AttributeError, match=name):
        getattr(Observed(core(1).simulator), name)


def test_members_read_as_in_the_whole_batch():
    simulator, which = core().simulator, np.array([29, 3, 17])
    for name in ("slice_shares", "latency_ms", "open", "take_fee_bps", "quantity_shares"):
        assert np.array_equal(simulator.read(name, which), getattr(Truth(simulator), name)[which]), name


def test_only_oracles_and_evaluation_ask_for_the_truth():
    oracles = {f"policies/oracles/{name}.py" for name in ("clairvoyant", "placement", "snapshot")}
    allowed = {"simulator/views.py", "live/recorder.py"} | oracles  # the recorder plays a desk in the simulator
    rooms = ("evaluation/", "reports/")  # reports draw a market's path
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).as_posix()
        if name not in allowed and not name.startswith(rooms):
            assert "import Truth" not in file.read_text(encoding="utf-8").replace("Observed, ", ""), name
    for file in (PACKAGE / "policies").rglob("*.py"):
        if "oracles" not in file.parts:
            text = file.read_text(encoding="utf-8")
            assert "Truth" not in text and "kernel_state" not in text and ".read(" not in text, file


@pytest.mark.parametrize("market", ["us_equity", "crypto", "notebook", "heldout/us_equity_varied"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300])
@pytest.mark.parametrize("paced", [False, True])
def test_no_weight_and_no_pace_keeps_a_step_from_ending(market, value, paced):
    """The envs refuse such actions; a kernel that met one all the same would still end."""
    simulator = RoutingCore("OrderExecute-v1", market, 3).simulator
    simulator.reset(np.arange(3, dtype=np.uint64), np.zeros(3, dtype=np.int64))
    weights = np.full((3, simulator.market.n_venues), value)
    for _ in range(3):
        simulator.step(weights, np.full(3, value) if paced else None)
