"""From a recording to a market: closed forms, simulated moments, the file, and a comparison with the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sor_sb3.calibration.closed_forms import closed_form_estimates
from sor_sb3.calibration.comparison import ComparedRow, compare, counts
from sor_sb3.calibration.intervals import Estimate
from sor_sb3.calibration.market_file import drafted, market_text, notes_of, rounded, settled
from sor_sb3.calibration.observed import Observed, cut_segments, fit_for_use, observe
from sor_sb3.calibration.simulated import Data, Fit, fit_moments, value_of
from sor_sb3.errors import UserError
from sor_sb3.market.recordings import quotes_of
from sor_sb3.market.settings import OPTION, parse_settings, with_fields
from sor_sb3.market.spec import ReplayMarket, SyntheticMarket
from sor_sb3.market.validation import validate

FIT_SHARE, BLOCK_S = 0.6, 900.0
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Calibration:
    """A calibrated market, and what is known of it.

    Attributes:
        text: the market's YAML.
        estimates: by dotted path, those of the file.
        rows: statistics of the part that the market was not fitted to; empty where nothing was kept for it.
        left_out: a line for each venue that quotes too little.
    """

    market: SyntheticMarket
    text: str
    estimates: dict[str, Estimate]
    notes: dict[str, str]
    fit: Fit
    rows: tuple[ComparedRow, ...]
    left_out: tuple[str, ...]
    blocks: tuple[int, int]
    block_s: float
    hours: tuple[float, float]

    def summary(self) -> str:
        """How the market compares, in one sentence; which statistics are apart, by name."""
        if not self.rows:
            return "nothing of the recording was kept apart, so nothing says how real the market is"
        n = counts(self.rows)
        judged = n["meet"] + n["apart"] + n["too wide"]
        apart = [row.statistic.label.removeprefix("· ") for row in self.rows if row.verdict in ("apart", "too wide")]
        said = (
            f"{n['meet']} of {judged} informative statistics meet the recording's ({n['uninformative']} uninformative)"
        )
        first = sum(row.first_verdict == "meet" for row in self.rows)
        said += f"; those of the part fitted to meet in {first}, as the market has moved on"
        return f"{said}; apart or too wide: {'; '.join(apart)}" if apart else said

    def data(self) -> dict[str, Any]:
        """Plain data for a report."""
        interval = lambda x: [_json(x.value), _json(x.low), _json(x.high)]  # noqa: E731
        return {
            "market": self.market.name,
            "description": self.market.description,
            "venues": list(self.market.venue_names),
            "summary": self.summary(),
            "counts": counts(self.rows),
            "left_out": list(self.left_out),
            "blocks": list(self.blocks),
            "block_s": self.block_s,
            "hours": list(self.hours),
            "estimates": [
                {key: _json(value) for key, value in asdict(estimate).items()} for estimate in self.estimates.values()
            ],
            "assumed": [path for path, note in self.notes.items() if note == "assumed"],
            "given": [path for path, note in self.notes.items() if note == "given"],
            "moments": [
                {
                    "moment": name,
                    "recorded": _json(self.fit.recorded[name]),
                    "sd": _json(self.fit.sd[name]),
                    "simulated": _json(self.fit.simulated[name]),
                }
                for name in self.fit.recorded
            ],
            "tries": self.fit.tries,
            "rows": [
                {
                    "key": row.key,
                    "label": row.statistic.label,
                    "unit": row.statistic.unit,
                    "digits": row.statistic.digits,
                    "recorded": interval(row.recorded),
                    "calibrated": interval(row.calibrated),
                    "fitted": interval(row.fitted),
                    "verdict": row.verdict,
                }
                for row in self.rows
            ],
        }


def _json(value: Any) -> Any:
    """JSON has no numbers that are none."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def calibrate(
    replay: ReplayMarket,
    name: str,
    given: list[str] | None = None,
    fit_share: float = FIT_SHARE,
    block_s: float = BLOCK_S,
    seed: int = 0,
    progress: Progress | None = None,
) -> Calibration:
    """Fit a synthetic market to the first part of a recording, and compare it with the rest.

    Args:
        replay: the recording as a market; its order, fees and latencies are taken over.
        name: of the market.
        given: ``field=value``, dotted, of what the user knows: fees, latencies, hidden size.
        fit_share: share of the recording's time that the market is fitted to; 1 keeps nothing for a comparison.
        block_s: length of the blocks that intervals rest on; at least ten times the longest memory that matters.
        seed: of the bootstrap.

    Raises:
        UserError: the recording is too short, or fewer than two venues quote enough.
    """
    if not 0.0 < fit_share <= 1.0:
        raise UserError(f"--fit-share is {fit_share:g}; expected a share above 0, at most 1")
    settings = parse_settings(given or [])
    recording = quotes_of(replay)
    first, rest = cut_segments(recording.segments, fit_share)
    venues, left_out = fit_for_use(recording, first, block_s)
    observed = observe(recording, first, venues, block_s, replay.session_utc)
    kept = observe(recording, rest, venues, block_s, replay.session_utc) if len(rest) and fit_share < 1.0 else None
    closed = closed_form_estimates(observed, seed)
    data = drafted(name, replay, observed, closed)
    _with_given(data, settings)  # a mistake shows before the search, not after it
    fit = fit_moments(data, observed.paths, progress)
    estimates = _rounded(closed | fit.estimates(observed.n))
    rows = () if kept is None else compare(data, fit, observed.paths, kept.paths, progress)
    data = settled(data, replay)
    estimates = {path: replace(found, value=value_of(data, path)) for path, found in estimates.items()}
    return _written(data, replay, estimates, settings, fit, rows, left_out, (observed, kept), block_s)


def _with_given(data: Data, settings: Mapping[str, Any]) -> tuple[Data, SyntheticMarket]:
    """A market's plain data with what the user knows, and the market."""
    where = f"market {data['name']}"
    try:
        changed = with_fields(SyntheticMarket, data, settings, where)
    except UserError as error:
        raise UserError(str(error).replace(OPTION, "--set")) from None
    return changed, validate(SyntheticMarket, changed, where)


def _rounded(estimates: dict[str, Estimate]) -> dict[str, Estimate]:
    return {
        p: replace(e, value=rounded(e.value), low=rounded(e.low), high=rounded(e.high)) for p, e in estimates.items()
    }


def _written(
    data: Data,
    replay: ReplayMarket,
    estimates: dict[str, Estimate],
    settings: Mapping[str, Any],
    fit: Fit,
    rows: tuple[ComparedRow, ...],
    left_out: list[str],
    parts: tuple[Observed, Observed | None],
    block_s: float,
) -> Calibration:
    """Put what is given into the market, check it, and write it out."""
    data, market = _with_given(data, settings)
    measured = {"quotes.tick_bps", "quotes.round_lot_shares", "volume.day_s", "response.cleanup_penalty_bps"}
    notes = notes_of(data, estimates, settings, measured)
    blocks = tuple(0 if part is None else part.n for part in parts)
    head = [
        f"Calibrated on {replay.quotes_file.name}, {blocks[0]} blocks of {block_s:g} s.",
        "A number has its 95 % interval and how it was found; 'assumed' is what quotes do not tell: replace it.",
        "Docs: docs/calibration.md.",
    ]
    return Calibration(
        market=market,
        text=market_text(data, notes, head),
        estimates={path: found for path, found in estimates.items() if notes.get(path) != "given"},
        notes=notes,
        fit=fit,
        rows=rows,
        left_out=tuple(left_out),
        blocks=(blocks[0], blocks[1]),
        block_s=block_s,
        hours=(blocks[0] * block_s / 3600.0, blocks[1] * block_s / 3600.0),
    )
