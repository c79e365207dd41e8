"""Questions: each is put to every system before the next one, in another order each time, and the answers are compared."""

import machine
import metrics
import queries
from answers import Wrong, compare
from coffer import Refused
from peers import Failed

_ENGINE = ("coffer_stage_nanoseconds_total", "warehouse", "answer a query")


def _engine(coffer):
    return coffer.metrics().get(_ENGINE, 0)


class _Coffer:
    which = "coffer"

    def __init__(self, coffer):
        self.coffer = coffer
        self.engine = _engine(coffer)

    def ask(self, query, into):
        took, rows = self.coffer.client.query(query.sql("coffer"))
        engine = _engine(self.coffer)
        into.setdefault("engine", []).append((engine - self.engine) / 1e9)
        self.engine = engine
        return took, rows


class _Peer:
    def __init__(self, peer):
        self.peer, self.which = peer, peer.which

    def ask(self, query, _into):
        return self.peer.query(query.sql(self.which))


def run(coffer, peers, asked):
    """{"queries": {name: {system: times, "wrong": [...]}}, "at rest": ..., "peaks": ..., "merge": ...}"""
    machine.say("letting Coffer merge its files, which it does while somebody reads")
    counted, used = coffer.metrics(), coffer.cpu()["warehouse"]
    coffer.client.query("SELECT 1")
    coffer.settle()
    merge = {
        "cpu": (coffer.cpu()["warehouse"] - used) / asked.rows * 1e6,
        "stages": metrics.stages(metrics.between(counted, coffer.metrics())),
        "files": coffer.files("events") / asked.rows,
    }
    machine.say("starting everything anew, with nothing of the files in memory")
    for system in (coffer, *peers):
        system.stop()
    machine.forget(asked.place)
    coffer.start()
    for peer in peers:
        peer.start()
    coffer.client.query("SELECT 1")
    coffer.settle()
    systems = [_Coffer(coffer), *map(_Peer, peers)]
    found = {query.name: {system.which: {"times": []} for system in systems} | {"wrong": []} for query in queries.ALL}
    for turn in range(asked.repeats + 1):
        for number, query in enumerate(queries.ALL):
            first = (turn + number) % len(systems)
            _in_turn(query, systems[first:] + systems[:first], found[query.name])
        machine.say(f"{turn}/{asked.repeats} of all {len(queries.ALL)} questions" + (" for the first time" if turn == 0 else ""))
    peaks = {**coffer.peaks(), **{peer.which: peer.peak() for peer in peers}}
    return {"queries": found, "peaks": peaks, "merge": merge}


def _in_turn(query, systems, found):
    """Asks one question of all; compares what they say with DuckDB's answer."""
    answers = {}
    for system in systems:
        mine = found[system.which]
        if "failed" in mine:
            continue
        try:
            seconds, answers[system.which] = system.ask(query, mine)
            mine["times"].append(seconds)
        except (Refused, Failed) as failure:
            mine["failed"] = " ".join(str(failure).split())
            machine.say(f"{system.which} does not answer {query.name!r}: {mine['failed'][:200]}")
    judge = next((which for which in ("duckdb", "chdb") if which in answers), None)
    for which, rows in answers.items():
        try:
            compare(answers[judge or which], rows, query.tolerance, query.ids)
        except Wrong as wrong:
            said = f"{query.name}: {which} against {judge}: {wrong}"
            if said not in found["wrong"]:
                found["wrong"].append(said)


def wrong(asked):
    return [line for query in asked["queries"].values() for line in query["wrong"]]
