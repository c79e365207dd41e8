"""A whole Coffer installation by the real binary, spoken to like any client does: HTTP over TLS."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import machine
import metrics

DATABASE = "bench"
ROLES = ("gateway", "identity", "warehouse", "vault", "accounts")
# A connection that was idle for longer may have been closed by the gateway.
IDLE = 3
# How long a question may take until it counts as not answered.
PATIENCE = 60


class Refused(Exception):
    """Coffer did not do it; the text says why."""


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Coffer:
    def __init__(self, binary, place, query_memory=None):
        self.binary, self.place = binary, machine.fresh(place)
        self.data = os.path.join(place, "data")
        os.mkdir(self.data, mode=0o700)
        self.port = _free_port()
        # Rows go into files after 5 seconds instead of 60, so that what a way in costs can be told within the time of a bench.
        lines = ["[listen]", f'public = "127.0.0.1:{self.port}"', f'plain = "127.0.0.1:{_free_port()}"', "[warehouse.flush]", 'after = "5s"']
        if query_memory:
            lines += ["[warehouse.query]", f"memory_limit_bytes = {query_memory << 20}"]
        self.config = os.path.join(place, "coffer.toml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        self.supervisor = self.key = self.client = None

    def start(self):
        with open(os.path.join(self.place, "serve.log"), "ab") as log:
            self.supervisor = subprocess.Popen(
                [self.binary, "serve", "--data", self.data, "--config", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        ends = time.monotonic() + 120
        while True:
            asked = subprocess.run([self.binary, "doctor", "-o", "json", "--data", self.data], capture_output=True, text=True, check=False)
            good = {line["about"] for line in json.loads(asked.stdout or "[]") if line["state"] == "ok"}
            if good.issuperset(ROLES):
                break
            if time.monotonic() > ends or self.supervisor.poll() is not None:
                raise Refused(f"it did not start; see {self.place}/serve.log")
            time.sleep(0.2)
        self.pids = {words[-1]: pid for pid, words in machine.children(self.supervisor.pid).items() if "role" in words}
        self.tls = ssl.create_default_context(cafile=os.path.join(self.data, "ca.pem"))
        self.client = Client(self)

    def stop(self):
        if self.supervisor and self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
            try:
                self.supervisor.wait(120)
            except subprocess.TimeoutExpired:
                self.supervisor.kill()
        self.supervisor = None

    def operator(self, *words):
        return subprocess.run([self.binary, *words, "--data", self.data], capture_output=True, text=True, check=True).stdout

    def make_product(self):
        self.operator("products", "create", "bench")
        said = self.operator("keys", "create", "--product", "bench", "--kind", "admin")
        self.key = next(word for word in said.split() if "/" in word and word.partition("/")[0].isdigit())
        self.client.json("POST", f"/v3/database/create/{DATABASE}")

    def make_table(self, table):
        self.client.json("POST", f"/v3/table/create/{DATABASE}/{table}/log")

    def metrics(self):
        return metrics.parse(self.operator("metrics"))

    def cpu(self):
        return {role: machine.cpu(pid) for role, pid in self.pids.items()}

    def peaks(self):
        return {role: machine.peak(pid) for role, pid in self.pids.items()}

    def settle(self):
        """Waits until rows in memory are in files and nothing is being done any more."""
        flushed = lambda: self.metrics().get(("coffer_rows_in_memory_bytes", "warehouse", ""), 0) == 0
        if not machine.settle(lambda: sum(machine.cpu(pid) for pid in self.pids.values()), flushed):
            machine.say("Coffer is still at work after three minutes; going on all the same")

    def at_rest(self):
        """Bytes in one zone by kind, and in all of `zones` and `roles`."""
        zone = os.path.join(self.data, "zones", "warehouse", "a")
        return {
            "journal": machine.size(os.path.join(zone, "raw")),
            "files": machine.size(os.path.join(zone, "tables")),
            "identities": machine.size(os.path.join(self.data, "zones", "identity", "a")),
            "views": machine.size(os.path.join(self.data, "roles")),
            "everything": machine.size(self.data),
        }

    def files(self, table):
        """Bytes of the files that queries read; replaced ones stay for some minutes."""
        tables = self.client.json("GET", f"/v3/table/list/{DATABASE}")["tables"]
        return next(t["estimated_storage_size"] for t in tables if t["name"] == table)


class Client:
    """One connection that is kept."""

    def __init__(self, coffer):
        self.coffer = coffer
        self.connection = None
        self.used = 0

    def _connect(self):
        raw = socket.create_connection(("127.0.0.1", self.coffer.port), timeout=PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPConnection("localhost", self.coffer.port)
        connection.sock = self.coffer.tls.wrap_socket(raw, server_hostname="localhost")
        return connection

    def ready(self):
        if self.connection is None or time.monotonic() - self.used > IDLE:
            self.connection = self._connect()
            self.used = time.monotonic()

    def send(self, method, path, body=None, headers=None):
        self.ready()
        self.connection.request(method, path, body, {"Authorization": f"TD1 {self.coffer.key}", **(headers or {})})
        answer = self.connection.getresponse()
        text = answer.read()
        self.used = time.monotonic()
        return answer.status, answer.headers, text

    def json(self, method, path, body=None, headers=None):
        status, _, text = self.send(method, path, body, headers)
        if status != 200:
            raise Refused(f"{path}: status {status}: {text[:300].decode(errors='replace')}")
        return json.loads(text)

    def query(self, sql):
        """Seconds until the whole answer is here, and its rows. A connection is there already, as with any client that asks twice."""
        self.ready()
        began = time.perf_counter()
        form = urllib.parse.urlencode({"query": sql})
        job = self.json(
            "POST", f"/v3/job/issue/trino/{DATABASE}", form, {"Content-Type": "application/x-www-form-urlencoded"}
        )["job_id"]
        pause = 0.002
        while (status := self.json("GET", f"/v3/job/status/{job}")["status"]) in ("queued", "running"):
            if time.perf_counter() - began > PATIENCE:
                self.json("POST", f"/v3/job/kill/{job}")
                raise Refused(f"no answer within {PATIENCE} s")
            time.sleep(pause)
            pause = min(pause * 1.25, 0.02)
        if status != "success":
            shown = self.json("GET", f"/v3/job/show/{job}")
            raise Refused(shown["debug"]["stderr"].strip() or status)
        status, _, text = self.send("GET", f"/v3/job/result/{job}?format=json")
        took = time.perf_counter() - began
        if status != 200:
            raise Refused(f"the result: status {status}")
        return took, [json.loads(line) for line in text.splitlines()]


def load(coffer, table, files, connections):
    """Sends bodies as they lie there, over so many connections. Seconds, and how often a sender was told to wait."""
    waiting, lock, waits, failures = iter(files), threading.Lock(), [0], []

    def work():
        client = Client(coffer)
        try:
            while not failures:
                with lock:
                    path = next(waiting, None)
                if path is None:
                    return
                with open(path, "rb") as file:
                    body = file.read()
                form = os.path.basename(path).split(".", 1)[1]
                while True:
                    status, headers, text = client.send("PUT", f"/v3/table/import/{DATABASE}/{table}/{form}", body)
                    if status == 200:
                        break
                    if status not in (429, 503):
                        raise Refused(f"an import: status {status}: {text[:300].decode(errors='replace')}")
                    with lock:
                        waits[0] += 1
                    time.sleep(float(headers.get("Retry-After", "0.2")))
        except Exception as failure:  # whatever it is, the bench must hear of it
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if failures:
        raise failures[0]
    return took, waits[0]
