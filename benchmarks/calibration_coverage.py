"""How often calibration's intervals hold the truth, on simulated markets of known parameters.

python benchmarks/calibration_coverage.py --repeats 100            # closed forms
python benchmarks/calibration_coverage.py --repeats 10 --moments   # and simulated moments

Every repeat simulates so many days of quotes of a market and calibrates them. A line a parameter: the truth, in how
many repeats the 95 % interval holds it, the median half-width and the median estimate over the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from sor_sb3.calibration.calibrate import BLOCK_S
from sor_sb3.calibration.closed_forms import closed_form_estimates, size_forms
from sor_sb3.calibration.intervals import Estimate
from sor_sb3.calibration.market_file import SIDES
from sor_sb3.calibration.observed import GRID_S, Observed
from sor_sb3.calibration.simulated import fit_moments, value_of, with_value
from sor_sb3.evaluation.true_quotes import simulated_quotes
from sor_sb3.market.spec import SyntheticMarket

DAY_S = 23_400.0

TRUTH = {
    "name": "known",
    "order": {"quantity_shares": 1000.0, "horizon_steps": 20, "step_s": 5.0},
    "venues": [
        {
            "name": "A",
            "take_fee_bps": 0.3,
            "latency_ms": 0.2,
            "offset_bps": 1.2,
            "size_shares": 300.0,
            "quote_delay_s": 1.0,
        },
        {
            "name": "B",
            "take_fee_bps": 0.3,
            "latency_ms": 0.2,
            "offset_bps": 1.8,
            "size_shares": 200.0,
            "quote_delay_s": 3.0,
        },
        {
            "name": "C",
            "take_fee_bps": 0.3,
            "latency_ms": 0.2,
            "offset_bps": 2.5,
            "size_shares": 250.0,
            "quote_delay_s": 6.0,
        },
        {
            "name": "D",
            "take_fee_bps": 0.3,
            "latency_ms": 0.2,
            "offset_bps": 1.5,
            "size_shares": 400.0,
            "quote_delay_s": 2.0,
        },
    ],
    "quotes": {
        "tick_bps": 0.5,
        "round_lot_shares": 100.0,
        "fast_half_life_s": 2.0,
        "slow_half_life_s": 90.0,
        "size_fast_half_life_s": 3.0,
        "size_slow_half_life_s": 60.0,
        "offset_fast_sd": 0.5,
        "offset_slow_sd": 0.35,
        "sides_correlation": 0.0,
        "join_probability": 0.25,
        "size_fast_sd": 0.6,
        "size_slow_sd": 0.45,
        "size_tail": 0.6,
    },
    "price": {
        "volatility_bps_per_sqrt_s": 0.7,
        "volatility_log_sd": 0.5,
        "volatility_half_life_s": 120.0,
        "drift_sd_bps_per_s": 0.05,
    },
    "stress": {
        "entries_per_hour": 5.0,
        "duration_s": 240.0,
        "offset_factor": 1.6,
        "size_factor": 1.0,
        "volatility_factor": 1.6,
    },
}


def observed_of(market: SyntheticMarket, days: float, seed: int) -> Observed:
    """Quotes of a market as a recording would have them."""
    blocks = round(days * DAY_S / BLOCK_S)
    paths = simulated_quotes(market, blocks, seed, BLOCK_S, GRID_S, "validation")
    lot = market.quotes.round_lot_shares or 0.0
    return Observed(paths, market.quotes.tick_bps, lot, None, None, np.full(blocks, 0.5), DAY_S)


def estimates(market: SyntheticMarket, days: float, seed: int, moments: bool) -> dict[str, Estimate]:
    """What calibration finds."""
    observed = observed_of(market, days, seed)
    if not moments:  # of closed forms those that hold in the model as they are; with the others the search only begins
        return closed_form_estimates(observed, seed, size_forms)
    closed = closed_form_estimates(observed, seed)
    data = market.model_dump(mode="json", exclude_unset=True)
    for path, found in closed.items():
        with_value(data, path, found.value)
    data["quotes"] |= SIDES
    data["stress"] |= {"offset_factor": 1.5, "volatility_factor": 1.5}
    return fit_moments(data, observed.paths).estimates(observed.n)


def table(repeats: int, days: float, moments: bool) -> Iterator[str]:
    """The lines."""
    market = SyntheticMarket.model_validate(TRUTH)
    truth = market.model_dump(mode="json")
    found: dict[str, list[Estimate]] = {}
    for repeat in range(repeats):
        for path, estimate in estimates(market, days, 1000 * (repeat + 1), moments).items():
            found.setdefault(path, []).append(estimate)
    yield f"{repeats} repeats of {days:g} days"
    yield f"{'parameter':32s} {'truth':>8s} {'covered':>8s} {'half-width':>10s} {'estimate/truth':>14s}"
    for path, of in found.items():
        if (true := value_of(truth, path)) == 0.0:  # of jumps, which that market has not
            continue
        held = sum(e.low <= true <= e.high for e in of)
        half = np.median([0.5 * (e.high - e.low) / true for e in of])
        ratio = np.median([e.value / true for e in of])
        yield f"{path:32s} {true:8.3g} {held:4d}/{len(of):<3d} {half:10.1%} {ratio:14.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--days", type=float, default=3.0)
    parser.add_argument("--moments", action="store_true", help="fit by simulated moments too, which takes far longer")
    arguments = parser.parse_args()
    for line in table(arguments.repeats, arguments.days, arguments.moments):
        print(line, flush=True)


if __name__ == "__main__":
    main()
