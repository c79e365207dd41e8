"""One peer in a process of its own, so that its CPU and memory can be told: reads commands as lines of JSON, answers in lines of JSON."""

import json
import re
import sys
import time

COLUMNS = [
    ("time", "BIGINT", "Int64"),
    ("event", "VARCHAR", "LowCardinality(String)"),
    ("user_id", "VARCHAR", "String"),
    ("session", "VARCHAR", "String"),
    ("url", "VARCHAR", "String"),
    ("referrer", "VARCHAR", "Nullable(String)"),
    ("country", "VARCHAR", "LowCardinality(String)"),
    ("device", "VARCHAR", "LowCardinality(String)"),
    ("app_version", "VARCHAR", "LowCardinality(String)"),
    ("price", "DOUBLE", "Nullable(Float64)"),
    ("quantity", "BIGINT", "Nullable(Int64)"),
    ("properties", "VARCHAR", "String"),
]


class DuckDB:
    """A database in a file; every statement commits, and a commit is flushed to the disk."""

    def __init__(self, path, threads):
        import duckdb

        self.connection = duckdb.connect(f"{path}/duckdb.db")
        self.connection.execute(f"SET threads = {threads}")
        self.version = f"DuckDB {duckdb.__version__}"

    def create(self, table):
        columns = ", ".join(f'"{name}" {kind}' for name, kind, _ in COLUMNS)
        self.connection.execute(f"CREATE OR REPLACE TABLE {table} ({columns})")

    def insert(self, table, files):
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind, _ in COLUMNS)
        self.connection.execute(
            f"INSERT INTO {table} SELECT * FROM read_json({files!r}, format = 'newline_delimited', columns = {{{columns}}})"
        )

    def rest(self):
        self.connection.execute("CHECKPOINT")

    def query(self, sql):
        began = time.perf_counter()
        answer = self.connection.execute(sql).to_arrow_table()
        took = time.perf_counter() - began
        columns = [column.to_pylist() for column in answer.columns]
        return took, [list(row) for row in zip(*columns)]


class Chdb:
    """ClickHouse inside a process, a MergeTree table ordered by time. It does not flush inserts to the disk."""

    def __init__(self, path, threads):
        import chdb
        from chdb import session

        self.session = session.Session(f"{path}/chdb")
        self.settings = f" SETTINGS max_threads = {threads}, output_format_json_quote_64bit_integers = 0"
        self.run("CREATE DATABASE IF NOT EXISTS bench")
        self.run("USE bench")
        version = bytes(self.run("SELECT version()", "TSV").bytes()).decode().strip()
        self.version = f"chdb {chdb.__version__} (ClickHouse {version})"

    def run(self, sql, form="CSV"):
        return self.session.query(sql, form)

    def create(self, table):
        columns = ", ".join(f"{name} {kind}" for name, _, kind in COLUMNS)
        self.run(f"DROP TABLE IF EXISTS {table} SYNC")
        self.run(f"CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY time")

    def insert(self, table, files):
        columns = ", ".join(f"{name} {kind}" for name, _, kind in COLUMNS)
        where = files[0]
        if len(files) > 1:
            folder, first = files[0].rsplit("/", 1)
            last = re.match(r"\d+", files[-1].rsplit("/", 1)[1]).group()
            number = re.match(r"\d+", first).group()
            where = f"{folder}/{{{number}..{last}}}{first[len(number):]}"
        self.run(f"INSERT INTO {table} SELECT * FROM file('{where}', 'JSONEachRow', '{columns}')")

    def rest(self):
        pass

    def query(self, sql):
        began = time.perf_counter()
        answer = self.run(sql + self.settings, "JSONCompactEachRow").bytes()
        took = time.perf_counter() - began
        return took, [json.loads(line) for line in bytes(answer).splitlines()]


def _number(value):
    """What JSON has no form for: sums of whole numbers that may be wider than 64 bits."""
    return int(value) if value == int(value) else float(value)


def main():
    which, path, threads = sys.argv[1:]
    # What a library prints must not stand between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    peer = {"duckdb": DuckDB, "chdb": Chdb}[which](path, int(threads))
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            match asked["do"]:
                case "version":
                    said = {"version": peer.version}
                case "load":
                    peer.create(asked["table"])
                    began = time.perf_counter()
                    for files in [[file] for file in asked["files"]] if asked["each"] else [asked["files"]]:
                        peer.insert(asked["table"], files)
                    said = {"seconds": time.perf_counter() - began}
                    peer.rest()
                case "query":
                    seconds, rows = peer.query(asked["sql"])
                    said = {"seconds": seconds, "rows": rows}
        except Exception as failure:  # the bench says what a peer could not do
            said = {"error": f"{type(failure).__name__}: {failure}"[:500]}
        answers.write(json.dumps(said, default=_number) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
