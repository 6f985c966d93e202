"""What TensorBoard shows beside scalars: hyperparameters, grouped charts, histograms and a figure at each evaluation.

Not the scalars themselves, which :mod:`sor_sb3.callbacks.evaluation` logs, nor the server, which is
:mod:`sor_sb3.callbacks.tensorboard_server`'s.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HParam,
    HumanOutputFormat,
    JSONOutputFormat,
    Logger,
    TensorBoardOutputFormat,
)
from stable_baselines3.common.logger import Figure as LoggedFigure

from sor_sb3.evaluation.evaluator import Scores
from sor_sb3.evaluation.formats import number
from sor_sb3.market.spec import MarketSpec
from sor_sb3.reports.theme import INK, SERIES


def tensorboard_writer(logger: Logger) -> Any | None:
    """The TensorBoard writer of an SB3 logger; None where the logger has none."""
    return next((o.writer for o in logger.output_formats if isinstance(o, TensorBoardOutputFormat)), None)


def layout(market: MarketSpec, cost_tag: str) -> dict[str, dict[str, list[Any]]]:
    """Custom scalar charts by group: cost, slippage and fees, fills, latency, venue shares; in the plugin's form."""

    def lines(*tags: str) -> list[Any]:
        return ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]]

    gaps = ("eval/gap_closed", "eval/gap_closed_from_best_rule")
    groups = {
        "1 cost": {f"cost, {market.cost_unit}": lines(cost_tag), "gap closed": lines(*gaps)},
        "2 slippage": {"slippage, bps": lines("eval/slippage_bps"), "fees, bps": lines("eval/fee_bps")},
        "3 fills": {"fill rate": lines("eval/fill_rate"), "completion": lines("eval/completion")},
        "4 latency": {"acknowledgement p50, p95, p99, ms": lines(*(f"eval/latency_p{q}_ms" for q in (50, 95, 99)))},
        "5 venue shares": {"venue shares": lines(*(f"venue_share/{name}" for name in market.venue_names))},
    }
    if not market.charges_bps:  # a market without prices has none of these
        del groups["2 slippage"], groups["3 fills"]
    return groups


_TEXT_FORMATS = (HumanOutputFormat, CSVOutputFormat, JSONOutputFormat)
_NOT_TEXT = ("stdout", "log", "json", "csv")  # for `exclude`: what only TensorBoard and trackers can show


def log_pictures(logger: Logger, market: MarketSpec, scores: Scores, figure: bool = True) -> None:
    """Histograms of cost and latency, and a `figure` of costs and venue shares, at the logger's next dump.

    Nothing where nobody shows them: neither TensorBoard nor a tracker.
    """
    if all(isinstance(output, _TEXT_FORMATS) for output in logger.output_formats):
        return
    logger.record("eval_distribution/cost", scores.cost.ravel(), exclude=_NOT_TEXT)
    if scores.latency_ms.size:
        logger.record("eval_distribution/latency_ms", scores.latency_ms, exclude=_NOT_TEXT)
    if figure:
        drawn = LoggedFigure(_figure(market, scores), close=True)
        logger.record("eval_figure/cost_and_flow", drawn, exclude=_NOT_TEXT)


def _figure(market: MarketSpec, scores: Scores) -> Figure:
    """Costs of the evaluation's scenarios, and the share of each venue."""
    figure = Figure(figsize=(8.0, 3.2))
    costs, flow = figure.subplots(1, 2)
    costs.stairs(*np.histogram(scores.cost, bins=40), fill=True, color=SERIES[0], alpha=0.8)
    mean = float(scores.cost.mean())
    costs.axvline(mean, color=INK, linestyle="--", label=f"mean {number(mean)}")
    costs.set_xlabel(f"cost of a parent order, {market.cost_unit}")
    costs.set_ylabel("scenarios")
    costs.legend(frameon=False)
    shares = 100.0 * scores.venue_shares.mean(axis=0)
    rows = range(len(shares))
    flow.barh(rows, shares, color=SERIES[0], alpha=0.8)
    if len(shares) <= 40:
        flow.set_yticks(rows, market.venue_names)
    flow.invert_yaxis()
    flow.set_xlabel("share of filled shares, %")
    for axes in (costs, flow):
        axes.spines[["top", "right"]].set_visible(False)
    longest = max(map(len, market.venue_names))
    figure.subplots_adjust(0.08, 0.17, 0.98, 0.96, wspace=0.2 + 0.02 * longest)
    return figure


class HParamCallback(BaseCallback):
    """Records hyperparameters once, when training starts: for TensorBoard's HPARAMS tab, where runs are compared.

    Hyperparameters that are no number, boolean or string are shown as ``str`` has them; `metrics` are tags of scalars
    that the run logs, whose last values stand beside the hyperparameters.
    """

    def __init__(self, hyperparameters: Mapping[str, Any], metrics: Sequence[str]) -> None:
        super().__init__()
        simple = {key: v if isinstance(v, (int, float, str)) else str(v) for key, v in hyperparameters.items()}
        self.values = HParam(simple, dict.fromkeys(metrics, 0.0))

    def _on_training_start(self) -> None:
        self.logger.record("hparams", self.values, exclude=_NOT_TEXT)

    def _on_step(self) -> bool:
        return True
