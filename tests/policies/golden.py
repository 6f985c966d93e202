"""What the literature prints, or a paper's own setting gives, of each rule: tests check it, the rule's page shows it.

The numbers are here and nowhere else. `test_golden.py` sees to it that the test which is named checks every one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Value = float | tuple[float, ...]


@dataclass(frozen=True)
class Number:
    """A number, or several, in words, and how near a result has to be: `within` it, or on one side of a bound."""

    what: str
    value: Value
    within: float = 0.0
    bound: str = ""  # "at least" or "at most"

    def holds(self, found: Value) -> bool:
        """Whether a result is that number, or keeps to the bound."""
        pairs = list(zip(_listed(found), _listed(self.value), strict=True))
        if self.bound:
            return all(a >= b if self.bound == "at least" else a <= b for a, b in pairs)
        return all(abs(a - b) <= self.within for a, b in pairs)

    def text(self) -> str:
        """The number for a reader."""
        shown = ", ".join(f"{value:,.10g}" for value in _listed(self.value))
        return f"{self.bound} {shown}".strip() + (f" ± {self.within:,.2g}" if self.within else "")


@dataclass(frozen=True)
class Golden:
    """Numbers of one `setting`, by a short name, and the test that checks them: its file below tests/, and its name."""

    setting: str
    test: str
    numbers: dict[str, Number] = field(default_factory=dict)

    def check(self, **found: Value) -> None:
        """Raises AssertionError: a result is not the number of its name."""
        for name, value in found.items():
            number = self.numbers[name]
            assert number.holds(value), f"{number.what}: {value}, expected {number.text()}"

    def markdown(self) -> str:
        """A table for the rule's page."""
        rows = "".join(f"| {number.what} | {number.text()} |\n" for number in self.numbers.values())
        return (
            f"## Its number\n\n{self.setting}\n\n| what | expected |\n|---|---|\n{rows}\n"
            f"```console\n$ python -m pytest tests/{self.test} -m ''\n```\n"
        )


def _listed(value: Value) -> list[float]:
    try:
        return [float(each) for each in value]
    except TypeError:
        return [float(value)]


_SPLITS = "policies/learning_rules/test_stochastic_split.py"
_BANDITS = "policies/learning_rules/test_bandits.py"
_SHORTAGE = (
    "The paper's setting of shortage: three pools, discounts .01, .03, .05, log-normal sizes of means 1, 2, 3, a "
    "volume of mean 9, all of variance 1; shares of what an oracle saves that knows the sizes."
)
_POOLS = (
    "The paper's four pools: zero bins .67, .80, .90, .96, exponents 1.3, 1.0, .6, .25, at most 2,000 shares; 1,000 "
    "shares to allocate, 5,000 rounds, six seeds."
)
_ARMS = "Bernoulli arms of .5, .45, .4, .3; 10,000 rounds, 60 runs."
_REGRET = "The exponent of T in the regret, of 1,000 rounds and 10,000 (`-m slow`: 100,000) against an adversary."

GOLDEN = {
    "almgren_chriss": Golden(
        "Almgren and Chriss (2001), section 4: a million shares at $50 in 5 days, risk aversion 1e-6.",
        "policies/test_schedules.py::test_the_numbers_of_the_paper",
        {
            "even_cost": Number("expected cost without risk aversion, $", 662_500.0, 0.5),
            "kappa": Number("kappa, 1 / day", 0.6071, 5e-5),
            "cost": Number("expected cost, $", 911_227.0, 0.5),
            "deviation": Number("standard deviation of the cost, $", 603_431.0, 0.5),
            "holdings": Number("holdings after each of 4 days", (541_956.0, 289_854.0, 147_897.0, 62_142.0), 0.5),
        },
    ),
    "cont_kukanov": Golden(
        "1,000 shares behind a queue of 2,000 where Poisson(2200) are sold; half spread .02, fee .003, rebate .002, "
        "penalties .026 and .024 a share; by enumeration of whole shares.",
        "policies/test_cont_kukanov.py::test_the_numbers_of_one_venue",
        {
            "market": Number("shares that take", 728.0),
            "limit": Number("shares that rest", 272.0),
            "cost": Number("cost, $", 14.2784, 0.0286),
        },
    ),
    "ganchev_power_law": Golden(
        _POOLS,
        "policies/learning_rules/test_censored.py::test_the_four_pools_of_the_paper",
        {
            "ideal": Number("fraction that the ideal allocation fills, exactly", 0.06406, 1e-5),
            "of_ideal": Number("what the learner fills of that, on the same draws", 0.97, bound="at least"),
        },
    ),
    "ganchev_kaplan_meier": Golden(
        _POOLS,
        "policies/learning_rules/test_censored.py::test_the_four_pools_of_the_paper",
        {
            "of_even": Number("what it fills of what an even split does", 1.0, bound="at least"),
            "trapped": Number("the same without exploration: trapped", 0.95, bound="at most"),
        },
    ),
    "agarwal_continuous": Golden(
        _REGRET,
        "policies/learning_rules/test_exponentiated.py::test_regret_grows_no_faster_than_the_square_root_of_the_rounds",
        {"slope": Number("exponent of the regret; the proof has 1/2", 0.55, bound="at most")},
    ),
    "agarwal_integer": Golden(
        _REGRET,
        "policies/learning_rules/test_exponentiated.py::test_whole_units_lose_more_but_still_learn",
        {"slope": Number("exponent of the regret; the paper has 2/3", 0.767, bound="at most")},
    ),
    "laruelle_optimisation": Golden(
        _SHORTAGE,
        f"{_SPLITS}::test_optimisation_reaches_the_optimum_from_an_even_split",
        {
            "share": Number("share of the oracle's, after 1e5 rounds from an even split", 0.9654, 0.005),
            "split": Number("the split", (0.1136, 0.3590, 0.5274), 0.02),
        },
    ),
    "laruelle_reinforcement": Golden(
        _SHORTAGE,
        f"{_SPLITS}::test_reinforcement_converges_to_the_wrong_point_as_published",
        {
            "share": Number("share of the oracle's, after 1e5 rounds: the wrong point, as published", 0.9217, 0.01),
            "first": Number("part of the first pool, which the optimum uses", 0.05, bound="at most"),
        },
    ),
    "almgren_harts": Golden(
        "By construction, the paper's constants are not published: 120 shares hidden behind 100 that are displayed.",
        "policies/learning_rules/test_hidden_size.py::test_the_estimate_follows_a_reserve_that_is_refilled",
        {
            "found": Number("estimate after sweeps of 300", 120.0, 1e-6),
            "halved": Number("after another half-life", 60.0, 1e-6),
            "zeroed": Number("after a sweep that finds no more than the display", 0.0),
        },
    ),
    "epsilon_greedy": Golden(
        _ARMS,
        f"{_BANDITS}::test_regrets_order_as_theory_says",
        {"epsilon_rate": Number("regret a round in the second half, over epsilon times the mean gap", 1.0, 0.35)},
    ),
    "ucb1": Golden(
        _ARMS,
        f"{_BANDITS}::test_regrets_order_as_theory_says",
        {
            "ucb_bound": Number("regret over the bound of Auer et al.", 1.0, bound="at most"),
            "ucb_second": Number("part of the regret in the second half; linear growth has .5", 0.35, bound="at most"),
        },
    ),
    "thompson": Golden(
        _ARMS,
        f"{_BANDITS}::test_regrets_order_as_theory_says",
        {
            "thompson_bound": Number("regret over the bound of Lai and Robbins", 0.9, 0.6),
            "to_ucb": Number("regret over that of UCB1", 1.0, bound="at most"),
        },
    ),
    "linucb": Golden(
        "Rewards linear in four observed features of three venues; 2,000 rounds, 20 runs.",
        f"{_BANDITS}::test_a_linear_bandit_uses_what_it_sees",
        {
            "flat": Number(
                "regret a round in the second half, over that of the first 20 rounds", 0.05, bound="at most"
            ),
            "to_ucb": Number("regret over that of UCB1, which sees no features", 0.1, bound="at most"),
        },
    ),
    "rise": Golden(
        "Four venues of which the best on average has the fattest tail; 4,000 rounds, 20 runs; regret of mean less "
        "variance.",
        f"{_BANDITS}::test_rise_finds_mean_and_variance_and_loses_less_than_who_does_not_mind_risk",
        {"to_others": Number("regret over the less of LinUCB's and UCB1's", 0.7, bound="at most")},
    ),
    "queue_value": Golden(
        "Trades on the order's side at a rate of .5, of 200 shares on average; jumps at .3, of which .4 go through.",
        "policies/test_queue_value.py::test_the_chances_of_execution",
        {"chances": Number("chance of execution behind 0, 200 and 1,000 shares", (0.7750, 0.6577, 0.4575), 5e-5)},
    ),
}
