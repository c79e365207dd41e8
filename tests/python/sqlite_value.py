"""Prints one BLOB of a SQLite database in hex. Reads a copy, so that the process that owns the database notices nothing."""

import os
import shutil
import sqlite3
import tempfile

database, query = os.environ["DATABASE"], os.environ["QUERY"]
with tempfile.TemporaryDirectory() as place:
    copy = os.path.join(place, "copy.db")
    for suffix in ("", "-wal"):
        if os.path.exists(database + suffix):
            shutil.copyfile(database + suffix, copy + suffix)
    [[value]] = sqlite3.connect(copy).execute(query).fetchall()
    print(value.hex())
