"""What a user of td-client 1.7.0 does, unmodified: databases, imports, queries, results, kill, and errors in the client's own exceptions."""

import contextlib
import gzip
import io
import json
import os
import tempfile
import time

import msgpack
import tdclient
from tdclient import errors

ENDPOINT = os.environ["COFFER_ENDPOINT"] + "/"
CA = os.environ["COFFER_CA"]
ADMIN, WRITE, READ = (os.environ[f"COFFER_{kind}_KEY"] for kind in ("ADMIN", "WRITE", "READ"))
BASE_TIME = 1_700_000_000


def client(key):
    # No retries of GET on 5xx: a test shall see what happened.
    return tdclient.Client(apikey=key, endpoint=ENDPOINT, ca_certs=CA, max_cumul_retry_delay=-1)


@contextlib.contextmanager
def raises(kind, word=""):
    try:
        yield
    except kind as error:
        assert type(error) is kind, f"{type(error)} instead of {kind}: {error}"
        assert word in str(error), f"{word!r} not in {error}"
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def packed(rows):
    return gzip.compress(b"".join(msgpack.packb(row) for row in rows))


def imported(td, rows, unique_id=None):
    body = packed(rows)
    return td.import_data("journey", "events", "msgpack.gz", io.BytesIO(body), len(body), unique_id=unique_id)


def answered(td, sql, **kwargs):
    job = td.query("journey", sql, type="trino", **kwargs)
    job.wait(timeout=60, wait_interval=0.1)
    assert job.success(), job.debug
    return job


def rows_of(td, sql):
    return list(answered(td, sql).result())


def databases_and_tables(td):
    assert td.server_status() == "ok"
    assert td.create_database("journey")
    with raises(errors.AlreadyExistsError):
        td.create_database("journey")
    assert [d.name for d in td.databases()] == ["journey"]
    assert td.create_log_table("journey", "events")
    with raises(errors.AlreadyExistsError):
        td.create_log_table("journey", "events")
    with raises(errors.NotFoundError):
        td.create_log_table("nowhere", "events")
    with raises(errors.NotFoundError):
        td.tables("nowhere")
    assert [t.name for t in td.tables("journey")] == ["events"]
    assert td.database("journey").permission is not None


def imports(td, writer):
    rows = [
        {
            "time": BASE_TIME + i,
            "event": "buy" if i % 4 == 0 else "look",
            "n": i,
            "price": i / 4,
            "ok": i % 2 == 0,
            "name": "Größe ✓",
            "tags": {"a": [1, None]},
            "email": f"p{i % 10}@example.com",
        }
        for i in range(1000)
    ]
    # A write key is enough to write, and sees nothing.
    assert imported(writer, rows, unique_id="batch-1") >= 0
    assert imported(writer, rows, unique_id="batch-1") >= 0
    [[count, people, price]] = rows_of(td, "SELECT count(*), count(DISTINCT email), sum(price) FROM events")
    assert (count, people, price) == (1000, 10, sum(i / 4 for i in range(1000))), (count, people, price)

    # An empty gzip is how fluentd asks whether a table is there.
    assert imported(writer, []) >= 0
    with raises(errors.NotFoundError):
        writer.import_data("journey", "nothing", "msgpack.gz", io.BytesIO(packed([])), len(packed([])))

    # From a file, as the client converts it; time is added where there is none.
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "more.csv")
        with open(path, "w") as file:
            file.write("time,event,n\n" + "".join(f"{BASE_TIME + i},csv,{i}\n" for i in range(50)))
        assert writer.import_file("journey", "events", "csv", path) >= 0
    before = int(time.time())
    assert imported(writer, [{"event": "untimed", "n": 1}]) >= 0
    [[received]] = rows_of(td, "SELECT time FROM events WHERE event = 'untimed'")
    assert before - 5 <= received <= time.time() + 5, received
    assert rows_of(td, "SELECT count(*) FROM events WHERE event = 'csv'") == [[50]]

    broken = b"this is no gzip"
    with raises(errors.APIError, "400"):
        writer.import_data("journey", "events", "msgpack.gz", io.BytesIO(broken), len(broken))

    [table] = td.tables("journey")
    assert table.count == 1051, table.count
    assert table.estimated_storage_size >= 0
    columns = {name: kind for name, kind, *_ in table.schema}
    assert "time" not in columns, columns
    assert (columns["n"], columns["price"], columns["event"]) == ("long", "double", "string"), columns
    assert columns["email"] == "long", columns
    newest = td.tail("journey", "events", 3)
    assert len(newest) == 3 and newest[0]["event"] == "untimed", newest


def results(td):
    sql = "SELECT n, price, ok, name, tags FROM events WHERE n < 3 AND event <> 'csv' AND event <> 'untimed' ORDER BY n"
    expected = [[i, i / 4, i % 2 == 0, "Größe ✓", '{"a":[1,null]}'] for i in range(3)]
    job = answered(td, sql)
    assert list(job.result()) == expected, list(job.result())
    assert job.result_schema == [["n", "bigint"], ["price", "double"], ["ok", "boolean"], ["name", "varchar"], ["tags", "varchar"]]
    assert list(job.result_format("json")) == expected
    assert next(td.api.job_result_format_each(job.id, "json", header=True)) == ["n", "price", "ok", "name", "tags"]
    # This client asks for json when it is told csv, tsv or jsonl, and expects lines of arrays.
    for name in ("csv", "tsv", "jsonl"):
        assert list(td.job_result_format(job.id, name)) == expected, name
    # By ranges into a file: the client asks for exactly `result_size` bytes and wants 206.
    stored = td.api.job_result_format_each(job.id, "msgpack", store_tmpfile=True)
    assert list(stored) == expected
    many = answered(td, "SELECT a.n FROM events a CROSS JOIN (SELECT n FROM events LIMIT 100) b")
    assert sum(1 for _ in td.api.job_result_format_each(many.id, "msgpack", store_tmpfile=True)) == 1051 * 100
    assert many.num_records == 1051 * 100, many.num_records
    assert answered(td, "SELECT 1 WHERE false").num_records == 0


def jobs(td):
    slow = "SELECT count(*) FROM events a CROSS JOIN events b CROSS JOIN events c CROSS JOIN events d WHERE a.n + b.n + c.n + d.n = -1"
    job = td.query("journey", slow, type="trino", domain_key="only-once")
    with raises(errors.AlreadyExistsError, job.id):
        td.query("journey", slow, type="trino", domain_key="only-once")
    assert not job.finished()
    assert job.kill() in ("queued", "running")
    job.wait(timeout=10, wait_interval=0.1)
    assert job.killed(), job.status()
    assert td.kill(job.id) == "killed"
    with raises(errors.NotFoundError):
        list(td.api.job_result_each(job.id))

    wrong = td.query("journey", "SELECT nothing_like_this FROM events", type="trino")
    wrong.wait(timeout=30, wait_interval=0.1)
    assert wrong.error(), wrong.status()
    wrong.update()
    assert "nothing_like_this" in wrong.debug["stderr"], wrong.debug

    listed = td.jobs()
    assert job.id in [j.id for j in listed], [j.id for j in listed]
    assert all(j.status() == "killed" for j in td.jobs(status="killed"))
    with raises(errors.NotFoundError):
        td.job("999999999")


def a_cursor(key):
    with tdclient.connect(apikey=key, endpoint=ENDPOINT, ca_certs=CA, db="journey", type="presto", wait_interval=0.1) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT event, count(*) AS many FROM events GROUP BY event ORDER BY event")
        assert [column[0] for column in cursor.description] == ["event", "many"]
        assert cursor.fetchall() == [["buy", 250], ["csv", 50], ["look", 750], ["untimed", 1]]


def people(td):
    """Identities are asked for by themselves, and never come back."""
    assert rows_of(td, "SELECT count(*) FROM events WHERE email = person_id('p3@example.com')") == [[100]]
    assert rows_of(td, "SELECT count(*) FROM events WHERE email = person_id('nobody@example.com')") == [[0]]
    job = answered(td, "SELECT count(*) FROM events WHERE email = person_id('p4@example.com')")
    assert "p4@example.com" not in td.job(job.id).query


def types(td):
    """Types are declared and changed; what does not fit stays in its row, as it was sent, and nothing is lost."""
    assert td.create_log_table("journey", "typed")
    rows = [{"time": BASE_TIME + i, "n": i, "x": x} for i, x in enumerate([42, "042", 1.5, True, [1, "a"], "7"])]
    body = packed(rows)
    td.import_data("journey", "typed", "msgpack.gz", io.BytesIO(body), len(body))
    td.update_schema("journey", "typed", [["x", "long"], ["later", "array<string>"]])
    [table] = [t for t in td.tables("journey") if t.name == "typed"]
    assert [column[:2] for column in table.schema][:2] == [["x", "long"], ["later", "string"]], table.schema
    long = [[42, None], [None, {"x": "042"}], [None, {"x": 1.5}], [None, {"x": True}], [None, {"x": [1, "a"]}], [7, None]]

    def shown():
        found = rows_of(td, "SELECT x, _overflow FROM typed ORDER BY n")
        return [[x, json.loads(over) if over else None] for x, over in found]

    assert shown() == long, shown()
    td.update_schema("journey", "typed", [["x", "string"]])
    assert [x for x, _ in shown()] == ["42", "042", "1.5", "true", '[1,"a"]', "7"], shown()
    td.update_schema("journey", "typed", [["x", "int"]])
    assert shown() == long, shown()
    for wrong, word in (([["x", "decimal"]], "decimal"), ([["email", "string"]], "identities"), ([["time", "string"]], "long")):
        with raises(errors.APIError, word):
            td.update_schema("journey", "typed", wrong)
    assert shown() == long, shown()
    td.delete_table("journey", "typed")


def refusals(writer, reader):
    for wrong in ("1/" + "0" * 64, "999/" + "ab" * 32, "no key at all"):
        with raises(errors.AuthError):
            client(wrong).databases()
    with raises(errors.ForbiddenError):
        writer.query("journey", "SELECT 1", type="trino")
    with raises(errors.ForbiddenError):
        reader.create_database("other")
    with raises(errors.ForbiddenError):
        imported(reader, [{"time": 1}])
    assert rows_of(reader, "SELECT count(*) FROM events") == [[1051]]


def the_end(td):
    assert td.delete_table("journey", "events") == "log"
    with raises(errors.NotFoundError):
        td.delete_table("journey", "events")
    # A table made again under the old name is another table.
    assert td.create_log_table("journey", "events")
    assert rows_of(td, "SELECT count(*) FROM events") == [[0]]
    assert td.delete_database("journey")
    assert td.databases() == []
    with raises(errors.NotFoundError):
        td.delete_database("journey")


admin, writer, reader = client(ADMIN), client(WRITE), client(READ)
for step, act in [
    ("databases and tables", lambda: databases_and_tables(admin)),
    ("imports", lambda: imports(admin, writer)),
    ("results", lambda: results(admin)),
    ("jobs", lambda: jobs(admin)),
    ("a cursor", lambda: a_cursor(READ)),
    ("people", lambda: people(admin)),
    ("types", lambda: types(admin)),
    ("refusals", lambda: refusals(writer, reader)),
    ("the end", lambda: the_end(admin)),
]:
    started = time.monotonic()
    act()
    print(f"{step}: {time.monotonic() - started:.1f} s", flush=True)
