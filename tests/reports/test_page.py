"""Words and numbers of a report."""

from __future__ import annotations

from typing import Any

import pytest

from sor_sb3.reports.inline_svg import SERIES, STYLE, new_axes, to_svg
from sor_sb3.reports.page import headline, interval, num, signed


def results(verdict: str, low: float, high: float, p_holm: float = 0.001) -> dict[str, Any]:
    policies = [{"name": "ppo", "kind": "learned"}, {"name": "pro_rata", "kind": "rule"}]
    found = {
        "policy": "ppo",
        "against": "pro_rata",
        "difference": (low + high) / 2,
        "ci95": [low, high],
        "p_value_holm": p_holm,
        "verdict": verdict,
    }
    return {
        "policies": policies,
        "comparisons": [found],
        "best_rule": "pro_rata",
        "cost_unit": "bps",
        "scenarios": 1000,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            results("better", -0.3, -0.1),
            "ppo beats the best rule, pro_rata, by 0.200 bps on 1,000 unseen market days "
            "(paired 95 % interval [−0.300, −0.100] bps).",
        ),
        (
            results("better", -0.3, -0.1, p_holm=0.2),
            "ppo beats the best rule, pro_rata, by 0.200 bps on 1,000 unseen market days, though not after correction "
            "for the number of comparisons (paired 95 % interval [−0.300, −0.100] bps).",
        ),
        (
            results("worse", 0.1, 0.3),
            "The best rule, pro_rata, beats every learned policy: the nearest, ppo, costs 0.200 bps more on 1,000 "
            "unseen market days (paired 95 % interval [0.100, 0.300] bps).",
        ),
        (
            results("no significant difference", -0.1, 0.3),
            "No significant difference between ppo, the cheapest learned policy, and the best rule, pro_rata, on 1,000 "
            "unseen market days (paired 95 % interval [−0.100, 0.300] bps).",
        ),
    ],
)
def test_the_verdict_is_one_sentence(given, expected):
    assert headline(given) == expected


def test_without_a_learned_policy_the_cheapest_rule_is_named():
    given = results("better", -1, 1) | {
        "policies": [{"name": "snapshot_oracle", "kind": "oracle"}, {"name": "pro_rata", "kind": "rule"}]
    }
    assert (
        headline(given) == "No learned policy was compared: the cheapest rule on 1,000 unseen market days is pro_rata."
    )


def test_numbers():
    assert (num(None), num(-0.0001, 3), num(-1234.5, 1), num(2)) == ("–", "0.000", "−1,234.5", "2.000")
    assert (signed(0.5, 1), signed(-0.5, 1), signed(0.0), signed(None)) == ("+0.5", "−0.5", "0.000", "–")
    assert interval([-0.2, 0.1]) == "[−0.200, 0.100]"
    assert interval([-0.2, -0.00012]) == "[−0.2000, −0.0001]"  # an end that is not 0 does not read as 0
    assert interval([0.0, 0.0]) == "[0.000, 0.000]"
    assert interval([None, None]) == "[–, –]"
    assert interval(None) == ""


def test_an_inline_figure_takes_the_pages_colours_and_says_what_it_shows():
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure, axes = new_axes(2.0)
        axes.plot([0, 1], [0, 1], color=SERIES[3])
        axes.fill_between([0, 1], [0, 1], alpha=0.3)
        axes.set_xlabel("a label that is far longer than a figure of this width has room for, bps of the whole order")
        svg = to_svg(figure, "key", 'quotes "and" <tags>')
    assert svg.startswith("<svg viewBox=") and svg.endswith("</svg>")
    assert 'role="img" aria-label="quotes &quot;and&quot; &lt;tags&gt;"' in svg
    assert "var(--s3)" in svg and "var(--ink)" in svg and "#0a0" not in svg
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
