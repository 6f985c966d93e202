"""What the package is meant to reach, beside what was measured: read off the saved results of the topics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench_grid import TWO_WORKERS
from bench_growth import SERIES
from bench_notebook import PLAIN_NETWORK, SHIPPED
from bench_simulator import TWO_LOOPS, by_batch
from measuring import Column, Results, Sheet, digits_of, number

Measured = tuple[float, str]  # the number that is judged, and what else is to be said


@dataclass(frozen=True)
class Target:
    """`read` finds the measured number in a topic's results; it raises LookupError where it was not measured."""

    what: str
    topic: str
    goal: float
    unit: str
    read: Callable[[Results], Measured]
    at_most: bool = False


def _case(results: Results, start: str) -> dict[str, Any]:
    """The row of the case whose name starts so."""
    found = [row for row in results["rows"] if row["case"].startswith(start)]
    if not found:
        raise LookupError(start)
    return found[0]


def _batch(key: str, n_envs: int = 1024) -> Callable[[Results], Measured]:
    def read(results: Results) -> Measured:
        line = next((line for line in by_batch(results["rows"]) if line["n_envs"] == n_envs), None)
        if line is None:
            raise LookupError(n_envs)
        return line[key][0], ""

    return read


def _decisions(case: str) -> Callable[[Results], Measured]:
    def read(results: Results) -> Measured:
        row = next(row for row in results["decisions"] if row["case"] == case)
        return row["decisions_per_s"][0], f"{number(row['ticks_per_s'])} path ticks"

    return read


def _two_threads(results: Results) -> Measured:
    value, _ = _batch("two to one", 4096)(results)
    loop, at_1024 = _case(results, TWO_LOOPS)["to_one_thread"][0], _batch("two to one")(results)[0]
    return value, f"{at_1024:.2f} at 1,024 envs; a loop that shares nothing gets {loop:.2f} here"


def _ratio(start: str, key: str) -> Callable[[Results], Measured]:
    return lambda results: (_case(results, start)[key][0], "")


def _time(gap: str, arm: str) -> Callable[[Results], Measured]:
    def read(results: Results) -> Measured:
        line = next(line for line in results["gaps"][gap]["lines"] if line["arm"] == arm)
        bound = " or more: it did not get there in its time" if line["ratio"].startswith(">=") else ""
        return line["ratio_value"], f"{line['ratio']}{bound}, {line['seeds']} seeds"

    def or_missing(results: Results) -> Measured:
        try:
            return read(results)
        except StopIteration:
            raise LookupError(arm) from None

    return or_missing


def _notebook(results: Results) -> Measured:
    shipped = _case(results, SHIPPED)["to_theirs"][0]
    return _case(results, PLAIN_NETWORK)["to_theirs"][0], f"with the notebook's network; as shipped {shipped:.1f}"


def _decision(key: str, of: str = "") -> Callable[[Results], Measured]:
    """The worst of the policies with `of` in their names, one row at a time: the longest time, the least ratio."""

    def read(results: Results) -> Measured:
        rows = [row for row in results["rows"] if row["path"] == "OnnxPolicy" and row["batch"] == 1]
        if not (named := [row for row in rows if of in row["policy"]]):
            raise LookupError(of)
        worst = (max if key.endswith("_us") else min)(named, key=lambda row: float(row[key]))
        return worst[key], worst["policy"]

    return read


def _evaluation(results: Results) -> Measured:
    found = [row for row in results["rows"] if row["case"].endswith("with cost analysis")]
    return found[0]["s_per_1000"][0], "with cost analysis"


def _seconds(case: str) -> Callable[[Results], Measured]:
    return lambda results: (_case(results, case)["s"][0], "")


def _growth(series: str) -> Callable[[Results], Measured]:
    def read(results: Results) -> Measured:
        fit = next(fit for fit in results["fits"] if (fit["series"], fit["part"]) == (series, "step"))
        return fit[
            "deviation_percent"
        ], f"time per unit at {fit['to']:,} to that at {fit['from']:,}: {fit['per_unit']:.2f}"

    return read


TARGETS = (
    *(
        Target(f"decisions / s of a core, 1,024 envs, {case}", "bench_simulator", goal, "", _decisions(case))
        for case, goal in (("OrderSplit-v1, net_price_sweep", 400_000), ("OrderPlace-v1, post_and_sweep", 250_000))
    ),
    Target(
        "OrderSplit, random actions, to a plain DummyVecEnv x 8",
        "bench_simulator",
        40,
        "x",
        _batch("ours, VecEnv to_plain"),
    ),
    Target("two threads to one, 4,096 envs, wall", "bench_simulator", 1.6, "x", _two_threads),
    Target("gym.Env.step to the plain env's", "bench_simulator", 3, "x", _ratio("ours, gym.Env.step", "to_env")),
    Target(
        "PPO, 10 epochs and the same rollout, to SB3's defaults",
        "bench_training",
        11,
        "x",
        _ratio("PPO, MlpPolicy, ours", "to_defaults"),
    ),
    *(
        Target(f"{name} {what}", "bench_training", goal, "x", _ratio(f"{name}, MlpPolicy, ours", key))
        for name in ("A2C", "REINFORCE")
        for what, goal, key in (("at the same rollout", 12, "to_same"), ("to its defaults", 25, "to_defaults"))
    ),
    Target(
        "the env's share of PPO's CPU time as shipped",
        "bench_training",
        30,
        "%",
        lambda results: (_case(results, "PPO, as shipped, ours")["env_percent"], ""),
        at_most=True,
    ),
    Target("time to 95 %, to SB3's defaults", "time_to_result", 8, "x", _time("mlp_ours", "sb3_defaults")),
    Target("time to 95 %, to the same settings on plain x 8", "time_to_result", 3, "x", _time("mlp_ours", "mlp_plain")),
    Target("the same with VenuePolicy", "time_to_result", 3, "x", _time("venue_ours", "venue_plain")),
    Target("REINFORCE to the notebook's loop, steps / s", "bench_notebook", 50, "x", _notebook),
    Target("a decision of any policy, p50", "bench_decision", 15, "us", _decision("p50_us"), at_most=True),
    Target("a decision of any policy, p99", "bench_decision", 50, "us", _decision("p99_us"), at_most=True),
    Target("a decision of MlpPolicy, p50", "bench_decision", 15, "us", _decision("p50_us", "MlpPolicy"), at_most=True),
    Target("the same to model.predict, p50", "bench_decision", 25, "x", _decision("ratio_p50", "MlpPolicy")),
    Target("the same to model.predict, p99", "bench_decision", 15, "x", _decision("ratio_p99", "MlpPolicy")),
    Target("evaluation of 10 policies x 1,000 scenarios", "bench_evaluation", 30, "s", _evaluation, at_most=True),
    Target(
        "every rule x 1,000 scenarios of us_equity",
        "bench_routers",
        60,
        "s",
        lambda results: (results["together_s"], "warm-up apart"),
        at_most=True,
    ),
    Target(
        "the longest warm-up of a router",
        "bench_routers",
        300,
        "s",
        lambda results: max((row["warm_up_s"], row["router"]) for row in results["rows"]),
        at_most=True,
    ),
    Target(
        "`import sor_sb3` beyond gymnasium",
        "bench_startup",
        0.3,
        "s",
        _seconds("import sor_sb3, beyond gymnasium"),
        at_most=True,
    ),
    Target(
        "of torch and numba it loads",
        "bench_startup",
        0,
        "",
        lambda results: (len({"torch", "numba"} & set(results["loaded"])), ""),
        at_most=True,
    ),
    Target("`sor-sb3 --help`", "bench_startup", 0.6, "s", _seconds("sor-sb3 --help"), at_most=True),
    Target("a grid's two workers to one, wall", "bench_grid", 1.8, "x", _ratio(TWO_WORKERS, "to_one")),
    *(
        Target(f"growth with {what}: deviation from a line", "bench_growth", 20, "%", _growth(series), at_most=True)
        for series, what in SERIES.items()
    ),
)


def judge(target: Target, topics: dict[str, Results]) -> dict[str, str]:
    """A row of the table."""

    def shown(value: float) -> str:
        unit = target.unit and (target.unit if target.unit == "x" else f" {target.unit}")
        return f"{number(value, 0 if value == int(value) else digits_of(value))}{unit}"

    row = {"what": target.what, "goal": f"{'at most' if target.at_most else 'at least'} {shown(target.goal)}"}
    try:
        value, said = target.read(topics[target.topic])
    except LookupError:
        return row | {"measured": "not measured", "met": "-"}
    met = value <= target.goal if target.at_most else value >= target.goal
    return row | {"measured": shown(value) + (f" ({said})" if said else ""), "met": "yes" if met else "no"}


def sheet(topics: dict[str, Results]) -> Sheet:
    """The table of targets."""
    columns = (
        Column("what", "what"),
        Column("goal", "target"),
        Column("measured", "measured"),
        Column("met", "met"),
    )
    return Sheet(
        "What is meant to be reached, and what was measured", columns, [judge(target, topics) for target in TARGETS]
    )
