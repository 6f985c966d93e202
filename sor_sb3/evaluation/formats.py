"""How numbers are written for people: console, HTML, Markdown and figures all ask here. Not for files of data."""

import math
from collections.abc import Iterable, Sequence

MISSING = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` after the point, thousands apart, a real minus sign; a dash for None and NaN.

    >>> number(-1234.5, 1), number(-0.0001), number(None)
    ('−1,234.5', '0.000', '–')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) != 0.0 else text.replace("-", "")


def signed(value: float | None, digits: int = 3) -> str:
    """As `number`, with a plus sign where the number is positive and does not round to 0.

    >>> signed(0.5, 1), signed(0.0001), signed(-0.5, 1)
    ('+0.5', '0.000', '−0.5')
    """
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text.replace(",", "")) != 0.0 else text


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a number of per cent; the sign "%" stands in the table's head or after it.

    >>> percent(0.1234), percent(None)
    ('12.3', '–')
    """
    return number(None if share is None else 100.0 * share, digits)


def interval(bounds: Sequence[float | None] | None, digits: int = 3, scale: float = 1.0) -> str:
    """``[low, high]``; more digits where an end that is not 0 would read as 0; nothing where there is no interval.

    >>> interval([-0.2, -0.00012]), interval([0.1, 0.2], 1, scale=100), interval([None, None]), interval(None)
    ('[−0.2000, −0.0001]', '[10.0, 20.0]', '[–, –]', '')
    """
    if bounds is None:
        return ""
    ends = [None if b is None else scale * b for b in bounds]
    small = [abs(b) for b in ends if b]
    while small and digits < 6 and min(small) < 0.5 * 10.0**-digits:
        digits += 1
    return f"[{number(ends[0], digits)}, {number(ends[1], digits)}]"


def p_value(p: float) -> str:
    """Two digits that count.

    >>> p_value(0.04321), p_value(1.23e-7)
    ('0.043', '1.2e-07')
    """
    return f"{p:.2g}"


def listed(pairs: Iterable[tuple[str, float | None]], digits: int = 2) -> str:
    """Names with their numbers, as a figure's description says them.

    >>> listed([("ppo", 1.234), ("random", None)])
    'ppo 1.23, random unknown'
    """
    return ", ".join(f"{name} {'unknown' if value is None else number(value, digits)}" for name, value in pairs)
