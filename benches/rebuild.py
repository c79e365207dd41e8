"""All tables made anew from the raw logs, with every view, catalog and table gone before: how long it takes, and whether all is the same."""

import json
import os
import shutil
import time

import machine


def _lose_views(coffer):
    """What is left is the root key and the journals in the zones."""
    roles = os.path.join(coffer.data, "roles")
    for role in os.listdir(roles):
        for name in os.listdir(os.path.join(roles, role)):
            path = os.path.join(roles, role, name)
            if name == "root.key":
                continue
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.remove(path)
    for zone in ("a", "b", "c"):
        shutil.rmtree(os.path.join(coffer.data, "zones", "warehouse", zone, "tables"), ignore_errors=True)


def _command(coffer, *words):
    """What the command found, with the seconds it took and the CPU and memory of its processes."""
    began = time.monotonic()
    with open(os.path.join(coffer.place, "rebuild.json"), "wb+") as out, open(os.path.join(coffer.place, "rebuild.log"), "ab") as log:
        words = [coffer.binary, "rebuild", *words, "-o", "json", "--data", coffer.data, "--config", coffer.config]
        pid = os.posix_spawn(
            coffer.binary,
            words,
            dict(os.environ),
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
        )
        # Of the roles as well: the command waits for them.
        _, status, used = os.wait4(pid, 0)
        seconds = time.monotonic() - began
        out.seek(0)
        found = out.read()
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"bench: coffer rebuild ended with {os.waitstatus_to_exitcode(status)}; see {coffer.place}/rebuild.log")
    tables = {line["about"]: (line["rows"], line["hash"]) for line in json.loads(found) if line["hash"]}
    return tables, {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss << 10}


def run(coffer, asked):
    coffer.settle()
    coffer.stop()
    before, compared = _command(coffer, "--compare-only")
    found = {"--compare-only": compared}
    for words in (["--verify"], []):
        _lose_views(coffer)
        machine.forget(coffer.data)
        tables, found[" ".join(words) or "neither"] = _command(coffer, *words)
        if words and tables != before:
            raise SystemExit(f"bench: WRONG: rebuilt tables are not what they were: {tables} and {before}")
    for way, times in found.items():
        machine.say(
            f"rebuild, {way}: {asked.rows / times['seconds']:,.0f} rows/s, {times['cpu'] / asked.rows * 1e6:.2f} µs CPU a row, "
            f"{times['peak'] >> 20} MiB in the largest process"
        )
    return found
