"""The peers, each in a process of its own (peer.py)."""

import json
import os
import subprocess
import sys

import machine


class Failed(Exception):
    """A peer did not do it; the text says why."""


class Peer:
    def __init__(self, which, place):
        self.which, self.place = which, machine.fresh(place)
        self.process = None
        self.start()
        self.version = self.ask(do="version")["version"]

    def start(self):
        here = os.path.dirname(os.path.abspath(__file__))
        threads = str(len(os.sched_getaffinity(0)))
        with open(os.path.join(self.place, "said.log"), "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-B", os.path.join(here, "peer.py"), self.which, self.place, threads],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ask(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{self.which} ended with {self.process.wait()}; see {self.place}/said.log")
        said = json.loads(line)
        if "error" in said:
            raise Failed(said["error"])
        return said

    def load(self, table, files, each):
        """Seconds until the last commit."""
        return self.ask(do="load", table=table, files=files, each=each)["seconds"]

    def query(self, sql):
        said = self.ask(do="query", sql=sql)
        return said["seconds"], [tuple(row) for row in said["rows"]]

    def cpu(self):
        return machine.cpu(self.process.pid)

    def peak(self):
        return machine.peak(self.process.pid)

    def settle(self):
        machine.settle(self.cpu)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process = None
