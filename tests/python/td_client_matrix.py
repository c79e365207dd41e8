"""Every way in which td-client 1.7.0 sends rows, against every error: which of the client's exceptions is raised, and what it says."""

import contextlib
import csv
import gzip
import io
import json
import os
import tempfile
import time
import warnings

import msgpack
import tdclient
from tdclient import errors

ENDPOINT = os.environ["COFFER_ENDPOINT"] + "/"
CA = os.environ["COFFER_CA"]
ADMIN, WRITE, READ = (os.environ[f"COFFER_{kind}_KEY"] for kind in ("ADMIN", "WRITE", "READ"))
MAX_BODY = int(os.environ["COFFER_MAX_BODY"])
BASE_TIME = 1_700_000_000
NOBODY = "1/" + "0" * 64
warnings.simplefilter("ignore", RuntimeWarning)  # the client warns of rows without a time


def client(key):
    return tdclient.Client(apikey=key, endpoint=ENDPOINT, ca_certs=CA, max_cumul_retry_delay=-1)


@contextlib.contextmanager
def raises(what, kind, *words):
    try:
        yield
    except kind as error:
        assert type(error) is kind, f"{what}: {type(error)} instead of {kind}: {error}"
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{what}: {missing} not in {error}"
        return
    raise AssertionError(f"{what}: {kind.__name__} was not raised")


# Files of rows, as the client reads them.


def as_msgpack(rows):
    return b"".join(msgpack.packb(row) for row in rows)


def as_json(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def delimited(dialect):
    def write(rows):
        text = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        if rows:
            writer = csv.DictWriter(text, names, dialect=dialect)
            writer.writeheader()
            writer.writerows(rows)
        return text.getvalue().encode()

    return write


FILES = {"msgpack": as_msgpack, "json": as_json, "csv": delimited("excel"), "tsv": delimited("excel-tab")}


def content(form, rows):
    plain = FILES[form.removesuffix(".gz")](rows)
    return gzip.compress(plain) if form.endswith(".gz") else plain


# Ways to send them: each takes the client, a database, a table, rows and an id.


def a_stream(td, database, table, rows, unique_id=None):
    body = gzip.compress(as_msgpack(rows))
    return td.import_data(database, table, "msgpack.gz", io.BytesIO(body), len(body), unique_id=unique_id)


def bytes_at_once(td, database, table, rows, unique_id=None):
    body = gzip.compress(as_msgpack(rows))
    return td.import_data(database, table, "msgpack.gz", body, len(body), unique_id=unique_id)


def an_open_file(form):
    def send(td, database, table, rows, unique_id=None):
        return td.import_file(database, table, form, io.BytesIO(content(form, rows)), unique_id=unique_id)

    return send


def a_path(form):
    def send(td, database, table, rows, unique_id=None):
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "rows." + form)
            with open(path, "wb") as file:
                file.write(content(form, rows))
            return td.import_file(database, table, form, path, unique_id=unique_id)

    return send


def by_the_table(td, database, table, rows, unique_id=None):
    [found] = [one for one in td.tables(database) if one.name == table]
    return found.import_file("json", io.BytesIO(as_json(rows)), unique_id=unique_id)


WAYS = {"bytes": bytes_at_once, "a stream": a_stream}
for form in [name + end for name in FILES for end in ("", ".gz")]:
    WAYS[f"an open file of {form}"] = an_open_file(form)
    WAYS[f"a path to {form}"] = a_path(form)


def rows_for(way):
    return [{"time": BASE_TIME + n, "way": way, "n": n, "price": n + 0.5, "name": f"Größe {n}, \"✓\""} for n in range(20)]


def answered(td, sql):
    job = td.query("matrix", sql, type="trino")
    job.wait(timeout=60, wait_interval=0.1)
    assert job.success(), job.debug
    return list(job.result())


def rows_arrive(admin, writer):
    for way, send in WAYS.items():
        assert send(writer, "matrix", "events", rows_for(way)) >= 0, way
        expected = [[row[name] for name in ("time", "n", "price", "name")] for row in rows_for(way)]
        assert answered(admin, f"SELECT time, n, price, name FROM events WHERE way = '{way}' ORDER BY n") == expected, way
    # The client's tables send as its owner does, who may read their list.
    assert by_the_table(admin, "matrix", "events", rows_for("the table")) >= 0
    assert answered(admin, "SELECT count(*) FROM events WHERE way = 'the table'") == [[20]]


def count(admin):
    [[rows]] = answered(admin, "SELECT count(*) FROM events")
    return rows


def errors_of_every_way(admin, writer, reader):
    before = count(admin)
    for way, send in WAYS.items():
        rows = rows_for(way)
        with raises(f"{way}: no such database", errors.NotFoundError, "Import failed", 'database \\"nowhere\\" does not exist'):
            send(writer, "nowhere", "events", rows)
        with raises(f"{way}: no such table", errors.NotFoundError, "Import failed", 'table', 'does not exist'):
            send(writer, "matrix", "nothing", rows)
        with raises(f"{way}: a wrong key", errors.AuthError, "Import failed"):
            send(client(NOBODY), "matrix", "events", rows)
        with raises(f"{way}: a read key", errors.ForbiddenError, "Import failed"):
            send(reader, "matrix", "events", rows)
        large = [{"time": BASE_TIME, "text": os.urandom(1000).hex()} for _ in range(MAX_BODY // 1000 + 10)]
        with raises(f"{way}: too large", errors.APIError, "413", f"larger than {MAX_BODY} bytes", "smaller parts"):
            send(writer, "matrix", "events", large)
    assert count(admin) == before, "something refused was stored"


def times_out_of_range(admin, writer):
    """One row that cannot be one: the body is refused with the reason, or taken without the row."""
    before = count(admin)
    for way, send in WAYS.items():
        for time_of_row in (10**18, -(10**18), "yesterday"):
            try:
                send(writer, "matrix", "events", [{"time": time_of_row, "way": way}])
            except errors.APIError as error:
                assert type(error) is errors.APIError, error
                assert "400" in str(error) and "time" in str(error), f"{way}: {error}"
    assert count(admin) == before, "a row without a time that is one was stored"


def empty_files(admin, writer):
    before = count(admin)
    for way, send in WAYS.items():
        assert send(writer, "matrix", "events", []) >= 0, way
        with raises(f"{way}: nothing, to no table", errors.NotFoundError):
            send(writer, "matrix", "nothing", [])
    assert count(admin) == before


def the_same_id(admin, writer):
    for number, (way, send) in enumerate(WAYS.items()):
        before = count(admin)
        for _ in range(3):
            assert send(writer, "matrix", "events", rows_for(way), unique_id=f"id-{number}") >= 0, way
        assert count(admin) == before + 20, way
    # An id that was used for other rows is the same id.
    before = count(admin)
    assert a_stream(writer, "matrix", "events", rows_for("another"), unique_id="id-0") >= 0
    assert count(admin) == before
    with raises("an id without end", errors.APIError, "400", "at most 1024 bytes"):
        a_stream(writer, "matrix", "events", rows_for("x"), unique_id="x" * 1025)


def damaged_bodies(admin, writer):
    before = count(admin)
    whole = gzip.compress(as_msgpack(rows_for("damaged")))
    wrong_sum = bytearray(whole)
    wrong_sum[-6] ^= 1
    for what, body, words in [
        ("no gzip", b"this is no gzip", ["not valid gzip"]),
        ("half a gzip", whole[: len(whole) // 2], ["not valid gzip"]),
        ("a wrong checksum", bytes(wrong_sum), ["not valid gzip"]),
        ("something behind it", whole + b"tail", ["not valid gzip"]),
        ("no bytes at all", b"", ["not valid gzip"]),
        ("no msgpack", gzip.compress(b"\x81\xa1a\xc1"), ["msgpack"]),
        ("half a row", gzip.compress(msgpack.packb({"time": 1, "a": "text"})[:-2]), ["ends inside row 1"]),
        ("a gzip of a gzip", gzip.compress(whole), []),
    ]:
        for stream in (body, io.BytesIO(body)):
            with raises(what, errors.APIError, "400", "Import failed", *words):
                writer.import_data("matrix", "events", "msgpack.gz", stream, len(body))
    for unknown in ("csv.gz", "parquet", "msgpack.br"):
        with raises(unknown, errors.APIError, "415", "msgpack, json or jsonl"):
            writer.import_data("matrix", "events", unknown, io.BytesIO(whole), len(whole))
    # What the client cannot read itself never leaves it.
    for form, body, kind in [
        ("msgpack.gz", b"this is no gzip", gzip.BadGzipFile),
        ("csv.gz", content("csv.gz", rows_for("half"))[:-12], EOFError),
        ("json", b'{"time":1}\n{"a":\n', json.JSONDecodeError),
        ("csv", b"time,a\n1,\xff\n", UnicodeDecodeError),
        ("yaml", b"time: 1", TypeError),
    ]:
        with raises(form, kind):
            writer.import_file("matrix", "events", form, io.BytesIO(body))
    assert count(admin) == before, "something damaged was stored"


def a_write_key_reads_nothing(writer):
    for what, act in [
        ("a query", lambda: writer.query("matrix", "SELECT 1", type="trino")),
        ("the end of a table", lambda: writer.tail("matrix", "events", 3)),
        ("a job", lambda: writer.job("1")),
        ("a result", lambda: list(writer.api.job_result_each("1"))),
        ("jobs", lambda: writer.jobs()),
        ("to kill", lambda: writer.kill("1")),
        ("to delete", lambda: writer.delete_table("matrix", "events")),
        ("to make", lambda: writer.create_log_table("matrix", "more")),
    ]:
        with raises(f"with a write key {what}", errors.ForbiddenError):
            act()


def bulk_imports(admin):
    """They are not there, and say so: nothing of them pretends to have worked."""
    rows = io.BytesIO(as_json(rows_for("bulk")))
    for what, act in [
        ("create", lambda: admin.create_bulk_import("b", "matrix", "events")),
        ("show", lambda: admin.bulk_import("b")),
        ("list", lambda: admin.bulk_imports()),
        ("upload a file", lambda: admin.bulk_import_upload_file("b", "part", "json", rows)),
        ("upload a part", lambda: admin.bulk_import_upload_part("b", "part", io.BytesIO(b"x"), 1)),
        ("list parts", lambda: admin.list_bulk_import_parts("b")),
        ("delete a part", lambda: admin.bulk_import_delete_part("b", "part")),
        ("freeze", lambda: admin.freeze_bulk_import("b")),
        ("unfreeze", lambda: admin.unfreeze_bulk_import("b")),
        ("perform", lambda: admin.perform_bulk_import("b")),
        ("commit", lambda: admin.commit_bulk_import("b")),
        ("delete", lambda: admin.delete_bulk_import("b")),
    ]:
        with raises(f"bulk import: {what}", errors.NotFoundError, "there is nothing at this path"):
            act()


admin, writer, reader = client(ADMIN), client(WRITE), client(READ)
assert admin.create_database("matrix") and admin.create_log_table("matrix", "events")
for step, act in [
    ("rows arrive", lambda: rows_arrive(admin, writer)),
    ("errors of every way", lambda: errors_of_every_way(admin, writer, reader)),
    ("times out of range", lambda: times_out_of_range(admin, writer)),
    ("empty files", lambda: empty_files(admin, writer)),
    ("the same id", lambda: the_same_id(admin, writer)),
    ("damaged bodies", lambda: damaged_bodies(admin, writer)),
    ("a write key reads nothing", lambda: a_write_key_reads_nothing(writer)),
    ("bulk imports", lambda: bulk_imports(admin)),
]:
    started = time.monotonic()
    act()
    print(f"{step}: {time.monotonic() - started:.1f} s", flush=True)
