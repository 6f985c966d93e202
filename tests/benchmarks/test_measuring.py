"""What the benchmarks share: turns, ratios within rounds, tables, and charts that are the same bytes."""

from __future__ import annotations

import measuring
import pytest

pytestmark = pytest.mark.benchmark


def timed(name: str, cpu: list[float], wall: list[float], **more: object) -> measuring.Case:
    return measuring.Case(name, lambda: 1, per_s={"cpu": cpu, "wall": wall}, **more)


def test_ratios_are_taken_within_rounds_by_the_clock_of_the_case():
    plain = timed("plain", [1.0, 2.0, 4.0], [1.0, 1.0, 1.0])
    ours = timed("ours", [10.0, 40.0, 40.0], [5.0, 7.0, 6.0], against={"to_plain": "plain"})
    threads = timed("threads", [1.0, 1.0, 1.0], [5.0, 7.0, 6.0], against={"to_plain": "plain"}, clock="wall")
    rows = measuring.rows_of([plain, ours, threads])
    assert rows[0] == {"case": "plain", "clock": "cpu", "per_s": [2.0, 1.0, 4.0]}
    assert rows[1]["to_plain"] == [10.0, 10.0, 20.0]
    assert rows[2]["to_plain"] == [6.0, 5.0, 7.0] and rows[2]["per_s"] == [6.0, 5.0, 7.0]
    with pytest.raises(ValueError, match="one name"):
        measuring.rows_of([plain, plain])


def test_cases_take_turns_there_and_back_after_a_warm_up():
    order: list[str] = []

    def case(name: str, **more: object) -> measuring.Case:
        def run() -> int:
            order.append(name)
            return 1

        return measuring.Case(name, run, **more)

    cases = [case("a"), case("b", warm_up=False)]
    measuring.alternate(cases, 2, 0.0)
    assert order == ["a", "a", "b", "b", "a"]
    assert all(len(case.per_s[clock]) == 2 for case in cases for clock in ("cpu", "wall"))
    measuring.alternate(cases[:1], 1, 0.02)
    assert order.count("a") > 4  # repeated until the time is over


def test_numbers_are_written_with_few_digits():
    assert measuring.number(None) == "-" and measuring.number(">= 3") == ">= 3"
    assert measuring.number([1234567.8, 0, 0]) == "1,234,568"
    assert measuring.ratio([12.345, 9.876, 123.4]) == "12.3 (9.88 - 123)"
    assert measuring.ratio(None) == "-"


def test_a_table_shows_every_row_and_what_is_missing():
    columns = (measuring.Column("case", "case"), measuring.Column("x", "x", measuring.ratio))
    sheet = measuring.Sheet("Title", columns, [{"case": "a|b", "x": [2.0, 1.0, 3.0]}, {"case": "c"}], "A note.")
    assert sheet.markdown().splitlines() == [
        "**Title**",
        "",
        "| case | x |",
        "|---|---:|",
        "| a\\|b | 2.00 (1.00 - 3.00) |",
        "| c | - |",
        "",
        "A note.",
    ]


def test_the_same_numbers_are_drawn_in_the_same_bytes(tmp_path):
    def draw(name: str) -> bytes:
        figure, [axes] = measuring.new_chart()
        rows = [{"case": "plain", "s": [1.0, 0.5, 2.0]}, {"case": "ours", "s": [0.1, 0.1, 0.1]}]
        measuring.bars(axes, rows, lambda row: row["s"], ("plain",))
        return measuring.save_chart(figure, tmp_path / name).read_bytes()

    assert draw("a.svg") == draw("b.svg")


def test_the_machine_is_described():
    where = measuring.machine()
    assert where["cores"] >= 1 and where["versions"]["numpy"]
    assert where["cpu"] in measuring.machine_text(where)
