"""Rows in: the same files, one way after the other, in turns."""

import glob
import os
import time

import machine
import metrics
from coffer import load

# Rows of one way; all rows go in once more in `full`.
MOST_LARGE, MOST_SMALL, MOST_SINGLE = 1_000_000, 200_000, 200_000
LARGE, SMALL = 10_000, 500

# (name, form, rows of a body, connections)
COFFER_WAYS = [
    ("Coffer, msgpack.gz, 10,000 rows a body", "msgpack", LARGE, 4),
    ("Coffer, JSON lines gz, 10,000 rows a body", "jsonl", LARGE, 4),
    ("Coffer, msgpack.gz, 500 rows a body", "msgpack", SMALL, 16),
    # One body after the other: no stage waits for another body's, so these tell best what a stage costs.
    ("Coffer, msgpack.gz, one connection", "msgpack", LARGE, 1),
    ("Coffer, JSON lines gz, one connection", "jsonl", LARGE, 1),
]
# (name, peer, rows of a commit, one file after the other)
PEER_WAYS = [
    ("DuckDB, one statement", "duckdb", LARGE, False),
    ("DuckDB, commit per 10,000 rows", "duckdb", LARGE, True),
    ("DuckDB, commit per 500 rows", "duckdb", SMALL, True),
    ("chdb, one insert", "chdb", LARGE, False),
    ("chdb, insert per 10,000 rows", "chdb", LARGE, True),
    ("chdb, insert per 500 rows", "chdb", SMALL, True),
]


def _files(asked, form, size, connections=0):
    folder, most = ("large", MOST_LARGE) if size == LARGE else ("small", MOST_SMALL)
    most = min(most, MOST_SINGLE) if connections == 1 else most
    rows = min(asked.rows, most)
    files = sorted(glob.glob(os.path.join(asked.data, folder, f"*.{form}.gz")))
    return files[: -(-rows // size)], rows


def _into_coffer(coffer, table, files, rows, connections):
    coffer.make_table(table)
    counted, rest, used, own = coffer.metrics(), coffer.at_rest(), coffer.cpu(), time.process_time()
    seconds, waits = load(coffer, table, files, connections)
    own = time.process_time() - own
    coffer.settle()
    used = {role: (seconds_now - used[role]) / rows * 1e6 for role, seconds_now in coffer.cpu().items()}
    rest = {kind: (bytes_now - rest[kind]) / rows for kind, bytes_now in coffer.at_rest().items()}
    return {
        "rows": rows,
        "rate": rows / seconds,
        "cpu": {**used, "client": own / rows * 1e6},
        "rest": rest,
        "waits": waits,
        "stages": metrics.stages(metrics.between(counted, coffer.metrics())),
    }


def _into_peer(peer, table, files, rows, each):
    used = peer.cpu()
    seconds = peer.load(table, files, each)
    peer.settle()
    return {"rows": rows, "rate": rows / seconds, "cpu": {peer.which: (peer.cpu() - used) / rows * 1e6}}


def ways(coffer, peers, asked):
    """{way: [what was measured, repeat by repeat]}"""
    found = {}
    by_name = {peer.which: peer for peer in peers}
    for repeat in range(asked.ingest_repeats):
        for number, (name, form, size, connections) in enumerate(COFFER_WAYS):
            files, rows = _files(asked, form, size, connections)
            one = _into_coffer(coffer, f"way_{number}_{repeat}", files, rows, connections)
            one["table"] = f"way_{number}_{repeat}"
            found.setdefault(name, []).append(one)
            machine.say(f"{repeat + 1}/{asked.ingest_repeats} {name}: {one['rate']:,.0f} rows/s")
        for name, which, size, each in PEER_WAYS:
            if which in by_name:
                files, rows = _files(asked, "jsonl", size)
                one = _into_peer(by_name[which], "way", files, rows, each)
                found.setdefault(name, []).append(one)
                machine.say(f"{repeat + 1}/{asked.ingest_repeats} {name}: {one['rate']:,.0f} rows/s")
    return found


def full(coffer, peers, asked):
    """All rows once into the table `events` that is asked about afterwards; what they take at rest."""
    packed = sorted(glob.glob(os.path.join(asked.data, "large", "*.msgpack.gz")))
    lines = sorted(glob.glob(os.path.join(asked.data, "large", "*.jsonl.gz")))
    machine.say(f"all {asked.rows:,} rows into Coffer")
    found = {"coffer": _into_coffer(coffer, "events", packed, asked.rows, 4)}
    found["coffer"]["peaks"] = coffer.peaks()
    machine.say(f"{found['coffer']['rate']:,.0f} rows/s")
    for peer in peers:
        machine.say(f"all {asked.rows:,} rows into {peer.which}")
        found[peer.which] = _into_peer(peer, "events", lines, asked.rows, False)
        found[peer.which]["rest"] = {"everything": machine.size(peer.place) / asked.rows}
        found[peer.which]["peaks"] = {peer.which: peer.peak()}
        machine.say(f"{found[peer.which]['rate']:,.0f} rows/s")
    found["gzip"] = {form: sum(map(os.path.getsize, files)) / asked.rows for form, files in (("msgpack", packed), ("jsonl", lines))}
    with open(os.path.join(asked.data, "done"), encoding="utf-8") as file:
        json, msgpack = (int(number) / asked.rows for number in file.read().split())
    found["plain"] = {"msgpack": msgpack, "jsonl": json}
    return found


def check(coffer, found, asked):
    """Every row that was acknowledged is there, once. Only now does anybody read, so the ways in were measured without."""
    tables = {"events": asked.rows}
    for repeats in found.get("ways", {}).values():
        tables.update((one["table"], one["rows"]) for one in repeats if "table" in one)
    for table, rows in tables.items():
        _, [[there]] = coffer.client.query(f"SELECT count(*) FROM {table}")
        if there != rows:
            raise SystemExit(f"bench: {table} holds {there} rows, {rows} were acknowledged")
        if table != "events":
            coffer.client.json("POST", f"/v3/table/delete/bench/{table}")
