"""Words and numbers of a report."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor_sb3.evaluation.formats import interval, listed, number, p_value, percent, signed
from sor_sb3.evaluation.statistics import Estimate
from sor_sb3.evaluation.verdicts import REMARK, compared, headline
from sor_sb3.reports.theme import DARK, LIGHT, SERIES, STYLE, new_axes, to_svg


def results(low: float, high: float, p_holm: float = 0.001) -> dict[str, Any]:
    policies = [{"name": "ppo", "kind": "learned"}, {"name": "pro_rata", "kind": "rule"}]
    difference = Estimate((low + high) / 2, low, high, 1.0, 9.0, 0.01)
    return {
        "policies": policies,
        "comparisons": [compared("ppo", "pro_rata", difference, p_holm, "bps")],
        "best_rule": "pro_rata",
        "cost_unit": "bps",
        "scenarios": 1000,
    }


@pytest.mark.parametrize(
    ("given", "tone", "expected"),
    [
        (
            results(-0.3, -0.1),
            "better",
            "ppo beats the best rule, pro_rata, by 0.200 bps on 1,000 unseen scenarios "
            "(paired 95 % interval [−0.300, −0.100] bps).",
        ),
        (
            results(-0.3, -0.1, p_holm=0.2),
            "even",
            "ppo beats the best rule, pro_rata, by 0.200 bps on 1,000 unseen scenarios, though not after correction "
            "for many comparisons (paired 95 % interval [−0.300, −0.100] bps).",
        ),
        (
            results(0.1, 0.3),
            "worse",
            "The best rule, pro_rata, beats every learned policy: the nearest, ppo, costs 0.200 bps more on 1,000 "
            "unseen scenarios (paired 95 % interval [0.100, 0.300] bps).",
        ),
        (
            results(0.1, 0.3, p_holm=0.05),
            "even",
            "The best rule, pro_rata, beats every learned policy: the nearest, ppo, costs 0.200 bps more on 1,000 "
            "unseen scenarios, though not after correction for many comparisons (paired 95 % interval [0.100, 0.300] "
            "bps).",
        ),
        (
            results(-0.1, 0.3),
            "even",
            "No significant difference between ppo, the cheapest learned policy, and the best rule, pro_rata, on 1,000 "
            "unseen scenarios (paired 95 % interval [−0.100, 0.300] bps).",
        ),
    ],
)
def test_the_verdict_is_one_sentence(given, tone, expected):
    assert headline(given) == {"headline": expected, "tone": tone}


def test_without_a_learned_policy_the_cheapest_rule_is_named():
    given = results(-1, 1) | {
        "policies": [{"name": "snapshot_oracle", "kind": "oracle"}, {"name": "pro_rata", "kind": "rule"}]
    }
    expected = "No learned policy was compared: the cheapest rule on 1,000 unseen scenarios is pro_rata."
    assert headline(given) == {"headline": expected, "tone": "even"}


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "verdict", "holds", "tone"),
    [
        (-0.3, -0.1, 0.001, "better", True, "better"),
        (-0.3, -0.1, 0.05, "better", False, "even"),
        (0.1, 0.3, 0.049, "worse", True, "worse"),
        (0.1, 0.3, 0.2, "worse", False, "even"),
        (-0.1, 0.3, 1.0, "no significant difference", True, "even"),
    ],
)
def test_a_verdict_is_data_with_its_words(low, high, p_holm, verdict, holds, tone):
    found = results(low, high, p_holm)["comparisons"][0]
    assert (found["verdict"], found["holds_after_correction"], found["tone"]) == (verdict, holds, tone)
    assert found["wording"] == (verdict if holds else f"{verdict} ({REMARK})")
    assert found["sentence"].startswith(f"ppo against pro_rata: {found['wording']} (")
    assert f"{interval([low, high], 4)})" in found["sentence"]


def test_numbers():
    assert (number(None), number(-0.0001, 3), number(-1234.5, 1), number(2)) == ("–", "0.000", "−1,234.5", "2.000")
    assert (signed(0.5, 1), signed(-0.5, 1), signed(0.0), signed(None)) == ("+0.5", "−0.5", "0.000", "–")
    assert interval([-0.2, 0.1]) == "[−0.200, 0.100]"
    assert interval([-0.2, -0.00012]) == "[−0.2000, −0.0001]"  # an end that is not 0 does not read as 0
    assert interval([0.0, 0.0]) == "[0.000, 0.000]"
    assert interval([None, None]) == "[–, –]"
    assert interval(None) == ""
    assert interval([0.1, -0.2], 1, 100) == "[10.0, −20.0]"
    assert (number(float("nan")), signed(0.0001), percent(0.5), percent(None)) == ("–", "0.000", "50.0", "–")
    assert (p_value(0.04321), listed([("a", -1.0), ("b", None)], 1)) == ("0.043", "a −1.0, b unknown")


@given(st.floats(-1e9, 1e9), st.integers(0, 6))
def test_a_number_reads_as_what_it_is(value, digits):
    plain = signed(value, digits).replace(",", "").replace("−", "-")
    assert float(plain) == pytest.approx(value, rel=1e-15, abs=0.5000001 * 10.0**-digits)
    assert plain.removeprefix("+") == number(value, digits).replace(",", "").replace("−", "-")
    assert plain.startswith("+") == (float(plain) > 0) and plain.startswith("-") == (float(plain) < 0)


@given(st.floats(-10, 10), st.floats(0, 10), st.floats(0, 1))
def test_the_sentence_says_what_the_data_say(low, width, p_holm):
    found = results(low, low + width, p_holm)["comparisons"][0]
    assert found["verdict"] == ("better" if low + width < 0 else "worse" if low > 0 else "no significant difference")
    assert (REMARK in found["sentence"]) == (not found["holds_after_correction"])
    assert found["holds_after_correction"] == (found["verdict"] == "no significant difference" or p_holm < 0.05)
    even = found["verdict"] == "no significant difference" or REMARK in found["sentence"]
    assert found["tone"] == ("even" if even else found["verdict"])


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
