"""Words and numbers of a report."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor_sb3.evaluation.formats import (
    digits_of,
    interval,
    listed,
    measured,
    number,
    p_value,
    percent,
    signed,
    times_fewer,
)
from sor_sb3.evaluation.statistics import Estimate
from sor_sb3.evaluation.verdicts import REMARK, Stakes, against_best_rule, compared, headline, stakes_sentence
from sor_sb3.reports.theme import DARK, LIGHT, SERIES, STYLE, new_axes, to_svg


def results(
    low: float,
    high: float,
    p_holm: float = 0.001,
    margin: float = 0.01,
    won: float | None = 0.8,
    risk: dict[str, Estimate] | None = None,
) -> dict[str, Any]:
    policies = [{"name": "ppo", "kind": "learned"}, {"name": "pro_rata", "kind": "rule"}]
    difference = Estimate((low + high) / 2, low, high, 1.0, 9.0, 0.01)
    return {
        "policies": policies,
        "comparisons": [compared("ppo", "pro_rata", difference, p_holm, Stakes("bps", margin, won), risk)],
        "best_rule": "pro_rata",
        "reference_rule": "random",
        "gap_end": "snapshot_oracle",
        "could_be_won": won,
        "could_be_won_ci95": None if won is None else [won - 0.1, won + 0.1],
        "margin": margin,
        "cost_unit": "bps",
        "scenarios": 1000,
    }


def risks(sd: float, cvar95: float) -> dict[str, Estimate]:
    """Differences of risk, each known to a tenth."""
    return {key: Estimate(x, x - 0.1, x + 0.1, 0.05, 9.0, 0.01) for key, x in (("sd", sd), ("cvar95", cvar95))}


@pytest.mark.parametrize(
    ("given", "tone", "expected"),
    [
        (
            results(-0.3, -0.1),
            "better",
            "ppo beats the best rule, pro_rata, by 0.20 bps, 25 % of what could be won, on 1,000 unseen scenarios "
            "(paired 95 % interval [−0.30, −0.10] bps).",
        ),
        (
            results(-0.3, -0.1, won=None),
            "better",
            "ppo beats the best rule, pro_rata, by 0.20 bps on 1,000 unseen scenarios (paired 95 % interval "
            "[−0.30, −0.10] bps).",
        ),
        (
            results(-0.3, -0.1, p_holm=0.2),
            "even",
            "ppo beats the best rule, pro_rata, by 0.20 bps, 25 % of what could be won, on 1,000 unseen scenarios, "
            "though not after correction for many comparisons (paired 95 % interval [−0.30, −0.10] bps).",
        ),
        (
            results(-0.3, -0.1, risk=risks(0.05, 1.4)),
            "even",
            "ppo beats the best rule, pro_rata, by 0.20 bps, 25 % of what could be won, on 1,000 unseen scenarios "
            "(paired 95 % interval [−0.30, −0.10] bps). It takes more risk: the mean of its dearest 5 % of orders "
            "(CVaR) is 1.40 bps above that of pro_rata [1.30, 1.50].",
        ),
        (
            results(-0.3, -0.1, risk=risks(-0.5, -1.4)),
            "better",
            "ppo beats the best rule, pro_rata, by 0.20 bps, 25 % of what could be won, on 1,000 unseen scenarios "
            "(paired 95 % interval [−0.30, −0.10] bps).",
        ),
        (
            results(0.1, 0.3),
            "worse",
            "No learned policy beats the best rule, pro_rata: the nearest, ppo, is worse by 0.20 bps, 25 % of what "
            "could be won, on 1,000 unseen scenarios (paired 95 % interval [0.10, 0.30] bps).",
        ),
        (
            results(1.9, 2.1),
            "worse",
            "No learned policy beats the best rule, pro_rata: the nearest, ppo, is worse by 2.00 bps, 2.50 times what "
            "could be won, on 1,000 unseen scenarios (paired 95 % interval [1.90, 2.10] bps).",
        ),
        (
            results(-0.004, -0.002),
            "even",
            "ppo, the cheapest learned policy, and the best rule, pro_rata, are equivalent on 1,000 unseen scenarios: "
            "they differ by less than 0.010 bps (paired 95 % interval [−0.0040, −0.0020] bps).",
        ),
        (
            results(-0.1, 0.3),
            "even",
            "No significant difference between ppo, the cheapest learned policy, and the best rule, pro_rata, on 1,000 "
            "unseen scenarios (paired 95 % interval [−0.10, 0.30] bps).",
        ),
    ],
)
def test_the_headline_says_what_a_person_would_say(given, tone, expected):
    assert headline(given) == {"headline": expected, "tone": tone}


def test_the_headline_says_how_the_other_learners_stand():
    given, other = results(-0.3, -0.1), results(0.1, 0.3)["comparisons"][0]
    given["policies"][1:1] = [{"name": "a2c", "kind": "learned"}, {"name": "sac", "kind": "learned"}]
    given["comparisons"] += [other | {"policy": "a2c"}, other | {"policy": "sac", "verdict": "equivalent"}]
    assert headline(given)["headline"].endswith(" Against the same rule a2c is worse and sac is equivalent.")


def test_without_a_learned_policy_the_cheapest_rule_is_named():
    given = results(-1, 1) | {
        "policies": [{"name": "snapshot_oracle", "kind": "oracle"}, {"name": "pro_rata", "kind": "rule"}]
    }
    expected = "No learned policy was compared: the cheapest rule on 1,000 unseen scenarios is pro_rata."
    assert headline(given) == {"headline": expected, "tone": "even"}


def test_what_is_at_stake_is_said_once():
    expected = (
        "The best rule, named on validation scenarios, is pro_rata. Gap closed goes from random, and from the best "
        "rule, to snapshot_oracle. What could be won, from pro_rata to snapshot_oracle, is {}; differences within "
        "±0.010 bps do not matter."
    )
    assert stakes_sentence(results(-1, 1)) == expected.format("0.80 bps [0.70, 0.90]")
    assert stakes_sentence(results(-1, 1, won=None)) == expected.format("nothing significant")


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "verdict", "holds", "tone", "share"),
    [
        (-0.3, -0.1, 0.001, "better", True, "better", ", 25 % of what could be won"),
        (-0.3, -0.1, 0.05, "better", False, "even", ", 25 % of what could be won"),
        (0.1, 0.3, 0.049, "worse", True, "worse", ", 25 % of what could be won"),
        (0.1, 0.3, 0.2, "worse", False, "even", ", 25 % of what could be won"),
        (-0.1, 0.3, 1.0, "no significant difference", True, "even", ""),
        (-0.009, -0.001, 0.001, "equivalent", True, "even", ""),
        (-0.001, 0.009, 0.9, "equivalent", True, "even", ""),
    ],
)
def test_a_verdict_is_data_with_its_words(low, high, p_holm, verdict, holds, tone, share):
    found = results(low, high, p_holm)["comparisons"][0]
    assert (found["verdict"], found["holds_after_correction"], found["tone"]) == (verdict, holds, tone)
    assert found["share"] == pytest.approx(-(low + high) / 2 / 0.8)
    assert found["share_ci95"] == pytest.approx([-high / 0.8, -low / 0.8])
    assert found["wording"] == f"{verdict}{share}" + ("" if holds else f" ({REMARK})")
    within = ", within ±0.010" if verdict == "equivalent" else ""
    numbers = f"{measured((low + high) / 2, [low, high], sign=True)} bps, 95 % interval {interval([low, high])}{within}"
    assert found["sentence"] == f"ppo against pro_rata: {found['wording']} ({numbers})"


def test_risk_is_part_of_the_verdict():
    given = results(-0.3, -0.1, risk=risks(0.05, 1.4))
    found = given["comparisons"][0]
    assert {key: r["verdict"] for key, r in found["risk"].items()} == {
        "sd": "no significant difference",
        "cvar95": "worse",
    }
    told = "standard deviation +0.05 [−0.05, 0.15]; CVaR +1.40 [1.30, 1.50]: worse"
    assert found["sentence"].endswith(f"interval [−0.30, −0.10]); {told}")
    shown = "−0.20 [−0.30, −0.10]: better, 25 % of what could be won; CVaR +1.40 [1.30, 1.50]: worse"
    assert against_best_rule(given, given["policies"][0]) == shown


def test_numbers():
    assert (number(None), number(-0.0001, 3), number(-1234.5, 1), number(2)) == ("–", "0.000", "−1,234.5", "2.000")
    assert (signed(0.5, 1), signed(-0.5, 1), signed(0.0), signed(None)) == ("+0.5", "−0.5", "0.000", "–")
    assert interval([-0.2, 0.1]) == "[−0.20, 0.10]"
    assert interval([-0.2, -0.00012]) == "[−0.20, −0.0001]"  # an end that is not 0 does not read as 0
    assert interval([0.0, 0.0]) == "[0.000, 0.000]"
    assert interval([1e-16, 1e-16]) == "[0.000, 0.000]"  # rounding
    assert interval([None, None]) == "[–, –]"
    assert interval(None) == ""
    assert interval([-120.0, 210.0]) == "[−120, 210]"
    assert (number(float("nan")), signed(0.0001), percent(0.5), percent(None)) == ("–", "0.000", "50.0", "–")
    assert (p_value(0.04321), listed([("a", -1.0), ("b", None)], 1)) == ("0.043", "a −1.0, b unknown")
    assert [times_fewer(r) for r in (1.0, 52.3, 292_436_724_375.0, None)] == ["1.0 ×", "52 ×", "over 1,000 ×", "–"]


@pytest.mark.parametrize(
    ("half", "digits"), [(0.00035, 5), (0.00036, 4), (0.0949, 2), (0.3, 2), (0.4, 1), (3.0, 1), (4.0, 0), (50.0, -1)]
)
def test_an_interval_leaves_one_figure_that_counts_or_two(half, digits):
    assert digits_of([1.0 - half, 1.0 + half]) == digits
    assert digits_of([1.0 - half, 1.0 + half], 100.0) == digits - 2


@given(st.floats(-1e9, 1e9), st.integers(-3, 6))
def test_a_number_reads_as_what_it_is(value, digits):
    plain = signed(value, digits).replace(",", "").replace("−", "-")
    assert float(plain) == pytest.approx(value, rel=1e-15, abs=0.5000001 * 10.0**-digits)
    assert plain.removeprefix("+") == number(value, digits).replace(",", "").replace("−", "-")
    assert plain.startswith("+") == (float(plain) > 0) and plain.startswith("-") == (float(plain) < 0)


@given(st.floats(-10, 10), st.floats(1e-9, 10), st.floats(0, 1), st.floats(1e-4, 1))
def test_the_sentence_says_what_the_data_say(low, width, p_holm, margin):
    high = low + width
    found = results(low, high, p_holm, margin)["comparisons"][0]
    signs = "better" if high < 0 else "worse" if low > 0 else "no significant difference"
    assert found["verdict"] == ("equivalent" if -margin < low and high < margin else signs)
    even = found["verdict"] in ("equivalent", "no significant difference")
    assert (REMARK in found["sentence"]) == (not found["holds_after_correction"])
    assert found["holds_after_correction"] == (even or p_holm < 0.05)
    assert found["tone"] == ("even" if even or REMARK in found["sentence"] else found["verdict"])
    if not even:  # never "worse by 0.0000"
        amount = found["sentence"].partition(" (+" if low > 0 else " (−")[2].partition(" bps")[0]
        assert float(amount.replace(",", "")) > 0.0


def test_light_and_dark_are_one_palette():
    assert LIGHT.keys() == DARK.keys()
    for colour in set(LIGHT.values()):  # colours that are one in light are one in dark: a figure is drawn only once
        assert len({DARK[name] for name in LIGHT if LIGHT[name] == colour}) == 1


def test_an_inline_figure_takes_the_pages_colours_and_says_what_it_shows():
    import matplotlib.pyplot

    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(2.0)
        axes.plot([0, 1], [0, 1], color=SERIES[3])
        axes.fill_between([0, 1], [0, 1], alpha=0.3)
        axes.set_xlabel("a label that is far longer than a figure of this width has room for, bps of the whole order")
        svg = to_svg(figure, "key", 'quotes "and" <tags>')
    assert svg.startswith("<svg viewBox=") and svg.endswith("</svg>")
    assert 'role="img" aria-label="quotes &quot;and&quot; &lt;tags&gt;"' in svg
    assert "var(--s3)" in svg and "var(--ink)" in svg
    assert not [colour for colour in LIGHT.values() if colour in svg]
    assert "http" not in svg and "xlink" not in svg
    assert svg.count("<text") >= 3
    assert not matplotlib.pyplot.get_fignums()


def test_figures_of_one_page_share_no_names():
    import re

    import matplotlib

    names = []
    for key in ("one", "two"):
        with matplotlib.rc_context(STYLE):
            figure, axes = new_axes(2.0)
            axes.plot([0, 1], [0, 1])
            svg = to_svg(figure, key, "x")
        ids = set(re.findall(r'\bid="([^"]+)"', svg))
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
        assert used <= ids
        names.append(ids)
    assert not names[0] & names[1]
