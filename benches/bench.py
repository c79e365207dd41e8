"""The bench: Coffer and its peers over the same rows on the same machine, in turns. Started by `cargo xtask bench`.

Ends with 1 when an answer is wrong. What Coffer cannot answer is listed in the report and does not end it.
Start at main; how rows go in is in ingest.py, how questions are asked in asking.py.
"""

import argparse
import json
import os
import signal
import sys

import asking
import ingest
import machine
import rebuild
import report
from coffer import Coffer
from peers import Peer


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("ingest", "query", "rebuild", "all"))
    for name in ("--binary", "--data", "--place", "--report"):
        parser.add_argument(name, required=True)
    for name in ("--rows", "--seed", "--repeats", "--ingest-repeats"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--query-memory", type=int)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--debug", action="store_true")
    return parser.parse_args()


def main():
    asked = arguments()
    # So that what was started is stopped as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # What the last run of each kind found, so that a run of one kind does not lose the other from the report.
    kept = os.path.join(os.path.dirname(asked.place), "debug-results.json" if asked.debug or asked.no_peers else "results.json")
    results = {}
    if os.path.exists(kept):
        with open(kept, encoding="utf-8") as file:
            results = json.load(file)
    running = []

    def peers():
        names = [] if asked.no_peers else ["duckdb", "chdb"]
        made = [Peer(name, os.path.join(asked.place, name)) for name in names]
        running.extend(made)
        return made

    coffer = Coffer(asked.binary, os.path.join(asked.place, "coffer"), asked.query_memory)
    running.append(coffer)
    try:
        about = machine.describe(asked.binary)
        coffer.start()
        coffer.make_product()
        systems = peers()
        about += [("peers", ", ".join(peer.version for peer in systems) or "none")]
        about += [("rows", f"{asked.rows:,}, seed {asked.seed}")]
        if asked.debug:
            about += [("build", "debug: these times say nothing about speed")]
        found = {"about": about, "rows": asked.rows, "memory": asked.query_memory}
        if asked.what in ("ingest", "all"):
            found["ways"] = ingest.ways(coffer, systems, asked)
            for peer in systems:
                peer.stop()
            # Empty ones, so that what is at rest afterwards is that of one table.
            systems = peers()
        found["full"] = ingest.full(coffer, systems, asked)
        ingest.check(coffer, found, asked)
        if asked.what in ("ingest", "all"):
            results["ingest"] = found
        if asked.what in ("query", "all"):
            results.setdefault("ingest", None)
            results["query"] = {**found, "asked": asking.run(coffer, systems, asked)}
        if asked.what in ("rebuild", "all"):
            # Last: it ends with a stopped installation.
            results["rebuild"] = {**found, "rebuilt": rebuild.run(coffer, asked)}
    finally:
        for system in running:
            system.stop()
    with open(kept, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    os.makedirs(os.path.dirname(os.path.abspath(asked.report)), exist_ok=True)
    with open(asked.report, "w", encoding="utf-8") as file:
        file.write(report.text(results))
    machine.say(f"the report is in {asked.report}")
    wrong = [] if asked.what in ("ingest", "rebuild") else asking.wrong(results["query"]["asked"])
    for line in wrong:
        machine.say(f"WRONG ANSWER: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
