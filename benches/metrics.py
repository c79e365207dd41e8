"""Counters of the roles, as `coffer metrics` prints them."""

import re

_SAMPLE = re.compile(r'^(\w+)\{role="(\w+)"(?:,stage="([^"]*)")?\} (\d+(?:\.\d+)?)$')


def parse(text):
    """{(name, role, stage): value}, of samples that have no other label."""
    found = {}
    for line in text.splitlines():
        if match := _SAMPLE.match(line):
            name, role, stage, value = match.groups()
            found[(name, role, stage or "")] = float(value)
    return found


def between(before, after):
    return {key: value - before.get(key, 0) for key, value in after.items()}


def stages(difference):
    """[(role, stage, nanoseconds, rows)] of what happened."""
    all_of_them = []
    for (name, role, stage), nanoseconds in difference.items():
        if name == "coffer_stage_nanoseconds_total" and nanoseconds:
            all_of_them.append((role, stage, nanoseconds, difference.get(("coffer_stage_rows_total", role, stage), 0)))
    return all_of_them
