"""What pyarrow makes of one of our files: it opens with its key and prefix, with nothing else, and no flipped bit changes a row."""

import hashlib
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

with open(os.environ["FILE"], "rb") as file:
    FILE = file.read()
with open(os.environ["ROWS"]) as file:
    ROWS = json.load(file)
KEY, PREFIX = bytes.fromhex(os.environ["KEY"]), bytes.fromhex(os.environ["PREFIX"])
FLIPS = int(os.environ["FLIPS"])


def read(content, key=KEY, prefix=PREFIX):
    opened = pe.create_decryption_properties(footer_key=key, aad_prefix=prefix) if key else None
    return pq.read_table(pa.BufferReader(content), decryption_properties=opened, use_threads=False)


def refused(content, **kwargs):
    try:
        read(content, **kwargs)
    except (OSError, ValueError, pa.ArrowException):
        return True
    return False


def digest(table):
    """Of the rows themselves: a count may be answered out of the footer."""
    return hashlib.sha256(json.dumps(table.to_pylist()).encode()).digest()


table = read(FILE)
found = table.to_pylist()
assert len(found) == len(ROWS), len(found)
for row, sent in zip(found, ROWS):
    sent = {**sent, "tags": json.dumps(sent["tags"], separators=(",", ":"))}
    assert row == sent, (row, sent)

assert refused(FILE, key=bytes(len(KEY))), "a wrong key opens it"
assert refused(FILE, key=KEY[:16]), "half a key opens it"
assert refused(FILE, key=None), "no key opens it"
for prefix in (b"", PREFIX + b"x", PREFIX[:-1], PREFIX.replace(b"/1/", b"/2/", 1)):
    assert prefix != PREFIX and refused(FILE, prefix=prefix), f"the prefix {prefix} opens it"

right, bits = digest(table), len(FILE) * 8
noticed = 0
for flip in range(FLIPS):
    bit = flip * bits // FLIPS
    content = bytearray(FILE)
    content[bit // 8] ^= 1 << bit % 8
    try:
        flipped = read(bytes(content))
    except (OSError, ValueError, MemoryError, pa.ArrowException):
        noticed += 1
        continue
    assert flipped.num_rows == len(ROWS) and digest(flipped) == right, f"bit {bit} changes rows"
# It does not look at page indexes, which are ours.
assert noticed > FLIPS * 3 // 4, noticed
print(f"{len(FILE)} bytes, {noticed} of {FLIPS} flips refused, the others without effect")
