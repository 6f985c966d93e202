"""How numbers are written for people: console, HTML, Markdown and figures all ask here. Not for files of data."""

import math
from collections.abc import Iterable, Sequence

MISSING = "–"
Bounds = Sequence[float | None] | None  # an interval, low and high; None where it is not known


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` after the point, thousands apart, a real minus sign; a dash for None and NaN.

    Negative `digits` round to tens, hundreds and so on.

    >>> number(-1234.5, 1), number(-1234.5, -2), number(-0.0001), number(None)
    ('−1,234.5', '−1,200', '0.000', '–')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{round(value, digits) if digits < 0 else value:,.{max(digits, 0)}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) != 0.0 else text.replace("-", "")


def signed(value: float | None, digits: int = 3) -> str:
    """As `number`, with a plus sign where the number is positive and does not round to 0.

    >>> signed(0.5, 1), signed(0.0001), signed(-0.5, 1)
    ('+0.5', '0.000', '−0.5')
    """
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text.replace(",", "")) != 0.0 else text


def has_no_width(bounds: Bounds) -> bool:
    """Whether an interval's ends are the same but for rounding.

    >>> has_no_width([0.1, 0.1 + 1e-16]), has_no_width([0.1, 0.2]), has_no_width([None, None])
    (True, False, False)
    """
    low, high = bounds or (None, None)
    return low is not None and high is not None and abs(high - low) <= max(1e-12 * max(abs(low), abs(high)), 1e-15)


def digits_of(bounds: Bounds, scale: float = 1.0) -> int:
    """Digits after the point that `scale` times a number with this 95 % interval has; negative: tens, hundreds.

    Half the interval keeps two figures if these are 10 to 35, else one, the Particle Data Group's rule (Review of
    Particle Physics, introduction, section 5.3). Three digits, of per cent one, where there is no interval, or where it
    has no width.

    >>> digits_of([0.063, 0.219]), digits_of([0.10, 0.14]), digits_of([-90.0, 110.0]), digits_of(None)
    (2, 3, -1, 3)
    """
    low, high = bounds or (None, None)
    if low is None or high is None or not math.isfinite(high - low) or has_no_width(bounds):
        return 3 if scale == 1.0 else 1
    half = abs(scale) * (high - low) / 2.0
    exponent = math.floor(math.log10(half))
    return (1 if half < 3.55 * 10.0**exponent else 0) - exponent


def measured(value: float | None, bounds: Bounds, scale: float = 1.0, sign: bool = False) -> str:
    """A number with the digits that its 95 % interval leaves it; `scale` is 100 for per cent, `sign` shows a plus.

    >>> measured(0.14123, [0.063, 0.219]), measured(0.14123, [0.063, 0.219], 100.0, sign=True)
    ('0.14', '+14')
    """
    write = signed if sign else number
    return write(None if value is None else scale * value, digits_of(bounds, scale))


def significant(value: float | None, figures: int = 2) -> str:
    """A number with so many figures that count.

    >>> significant(0.000123), significant(1234.5), significant(0.0), significant(None)
    ('0.00012', '1,200', '0', '–')
    """
    if not value or not math.isfinite(value):
        return number(value, 0)
    return number(value, figures - 1 - math.floor(math.log10(abs(value))))


def times_fewer(ratio: float | None) -> str:
    """How many times fewer scenarios pairing needs; None, and what is far beyond need, is not spelled out.

    >>> times_fewer(5.123), times_fewer(292436724375.0), times_fewer(None)
    ('5.1 ×', 'over 1,000 ×', '–')
    """
    if ratio is not None and ratio > 1000.0:
        return "over 1,000 ×"
    return MISSING if ratio is None else f"{significant(ratio)} ×"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as a number of per cent; the sign "%" stands in the table's head or after it.

    >>> percent(0.1234), percent(None)
    ('12.3', '–')
    """
    return number(None if share is None else 100.0 * share, digits)


def interval(bounds: Bounds, scale: float = 1.0) -> str:
    """``[low, high]`` with the digits that it has; an end that is not 0 shows its first figure rather than read as 0.

    >>> interval([-0.2, -0.00012]), interval([0.1, 0.2], scale=100), interval([None, None]), interval(None)
    ('[−0.20, −0.0001]', '[10, 20]', '[–, –]', '')
    """
    if bounds is None:
        return ""
    digits = digits_of(bounds, scale)
    ends = [None if b is None else scale * b for b in bounds]
    shown = [significant(e, 1) if e and 5e-7 <= abs(e) < 0.5 * 10.0**-digits else number(e, digits) for e in ends]
    return f"[{shown[0]}, {shown[1]}]"


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
