"""The fill that docs/market.md computes by hand is the simulator's, to the digits that the page prints."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from sor_sb3.envs.core import RoutingCore
from sor_sb3.market.loading import parse_market
from sor_sb3.simulator.book import observed_level

PAGE = (Path(__file__).parents[2] / "docs" / "market.md").read_text(encoding="utf-8")
BY_HAND = PAGE[PAGE.index("## A fill by hand") : PAGE.index("## Four envs")]


@pytest.fixture
def core() -> RoutingCore:
    text = re.findall(r"```yaml\n(.*?)```", BY_HAND, flags=re.DOTALL)[0]
    core = RoutingCore("OrderSplit-v1", parse_market(text, "by_hand.yaml", Path()), 1)
    core.seed([5])
    core.reset()
    return core


def test_the_printed_book_is_the_observed_one(core: RoutingCore) -> None:
    rows = [[float(cell) for cell in row] for row in re.findall(r"\| (\d+) \| (\d+) \| (\d+) \|", BY_HAND)]
    state = core.simulator.kernel_state()
    assert len(rows) == 3
    for level, (price_bps, *sizes) in enumerate(rows):
        for j, size in enumerate(sizes):
            found = observed_level(state.blocks[0], 0, j, state.venues[0], state.market[0], None, level)
            assert found == pytest.approx((price_bps, size), abs=1e-9)
    assert core.simulator.read("price_bps")[0] == pytest.approx(-0.259997, abs=1e-6)


def test_the_fill_by_hand_is_the_ledgers(core: RoutingCore) -> None:
    fade = 0.5 * 360 * (1 - math.exp(-0.4 / 0.2))
    touch = 300 - fade
    third = 540 - touch - 200
    impact, below = (200 * 1 + third * 2) / 900, -core.simulator.read("price_bps")[0]
    core.step(np.array([[0.4, 0.6]], dtype=np.float32))
    ledger = {part: core.simulator.read(f"{part}_cost")[0] for part in ("spread", "impact", "timing", "fee", "cleanup")}
    by_hand = {"spread": 1 + below, "impact": impact, "timing": -below, "fee": 0.4 * 0.3 + 0.6 * 0.1, "cleanup": 0.0}
    assert ledger == pytest.approx(by_hand, abs=1e-6)  # the weights are float32
    for number in (fade, touch, third):
        assert f"{number:.3f}" in BY_HAND
    for number in (impact, 1 + below, sum(by_hand.values())):
        assert f"{number:.6f}".lstrip("0") in BY_HAND
