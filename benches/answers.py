"""Whether two systems gave the same answer, and what a row of times says.

Pure: knows no system, no clock and no file. Tested by test_answers.py, which `./test` runs.
"""

import math
from decimal import Decimal


class Wrong(Exception):
    """Two answers differ; the text says where."""


def plain(value):
    """A value as all systems could have said it: whole numbers as int, others as float."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value


def _order(row):
    """Exact values first, so that floats, which may differ a little, decide only between rows that are otherwise the same."""
    exact = [(value is None, type(value).__name__, value if value is not None else 0) for value in row if not isinstance(value, float)]
    return (exact, [value for value in row if isinstance(value, float)])


def _floats(columns, *answers):
    """The columns in which any answer has a float: compared as floats everywhere, even where a sum happens to be whole."""
    return [any(isinstance(row[at], float) for answer in answers for row in answer) for at in range(columns)]


def compare(expected, got, tolerance=1e-6, ids=()):
    """Raises Wrong unless both answers hold the same rows, in any order. Columns in `ids` hold each system's own numbers of people and are left out."""
    expected, got = ([tuple(plain(v) for at, v in enumerate(row) if at not in ids) for row in rows] for rows in (expected, got))
    if len(expected) != len(got):
        raise Wrong(f"{len(got)} rows instead of {len(expected)}")
    if not expected:
        return
    widths = {len(row) for row in expected + got}
    if len(widths) != 1:
        raise Wrong(f"rows of {sorted(widths)} columns")
    floats = _floats(widths.pop(), expected, got)

    def typed(rows):
        return sorted((tuple(float(v) if f and v is not None else v for v, f in zip(row, floats)) for row in rows), key=_order)

    for number, (one, two) in enumerate(zip(typed(expected), typed(got))):
        for a, b in zip(one, two):
            same = math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-9) if isinstance(a, float) and isinstance(b, float) else a == b
            if not same:
                raise Wrong(f"row {number + 1} in order: {two!r} instead of {one!r}")


def median(times):
    ordered = sorted(times)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(times):
    """Half of the distance between the largest and the smallest, as a part of the median: 0.1 reads as plus or minus 10 %."""
    return (max(times) - min(times)) / 2 / median(times)


def geometric_mean(ratios):
    return math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
