#!/usr/bin/env python3
"""Checks an export of Coffer's audit journal, with nothing of Coffer's own: python3 verify.py EXPORT [--head FILE]... [--key HEX]

EXPORT is made by `coffer audit export`, FILE is an export or head that was kept from before, HEX the installation's key.
Ends with 0 when everything holds, else with 8, and says what: also without FILE and HEX, since it may be anybody's then. Needs Python 3.9."""
import argparse, functools, hashlib, json, sys, time

P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493  # Ed25519: RFC 8032, section 5.1
D = -121665 * pow(121666, P - 2, P) % P

def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    return (b - a) * (d - c) % P, (d + c) * (b + a) % P, (d - c) * (d + c) % P, (b - a) * (b + a) % P

def times(n, p):
    rest = times(n >> 1, add(p, p)) if n else (0, 1, 1, 0)
    return add(rest, p) if n & 1 else rest

def point(raw):
    y = int.from_bytes(raw, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    x = x * pow(2, (P - 1) // 4, P) % P if (x * x - x2) % P else x
    if y >= P or (x * x - x2) % P or (x == 0 and sign):
        raise ValueError("not a point")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P

BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
def signed(key, message, signature):
    if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little")
    a, b = times(int.from_bytes(signature[32:], "little"), BASE), add(point(signature[:32]), times(h, point(key)))
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0

def varint(raw, at):
    end = next(i for i in range(at, len(raw)) if raw[i] < 128) + 1
    return sum((byte & 127) << 7 * i for i, byte in enumerate(raw[at:end])), end

def attested(root, role, domain, text, moment, by):
    """Whether `role`, whose certificate the installation's key signed, signed `text` while that certificate was in force."""
    certificate, signature = bytes.fromhex(by["certificate"]), bytes.fromhex(by["signature"])
    body = certificate[2:2 + certificate[1]]
    of, key = body[2:2 + body[1]], body[4 + body[1]:36 + body[1]]
    since, at = varint(body, 37 + body[1])
    until, _ = varint(body, at + 1)
    name = b"coffer/v1/signing-certificate"
    whole = signed(root, bytes([len(name)]) + name + bytes(32) + body, certificate[4 + certificate[1]:])
    message = bytes([len(domain)]) + domain + hashlib.sha256(certificate).digest() + text.encode()
    return whole and of == role and since <= moment < until and signed(key, message, signature)

def check_head(root, line, say):
    h = line["head"]
    text = "coffer audit head 1\n%s\n%d\n%s\n%d\n" % (h["journal"], h["size"], h["root"], h["at"])
    for role in (b"vault", b"accounts"):
        if not attested(root, role, b"coffer/v1/audit-head", text, h["at"], line[role.decode()]):
            say("the signature of %s under the head over %d records does not hold" % (role.decode(), h["size"]))

def levels_of(row):
    """The hashes of all perfect subtrees (RFC 6962, section 2.1), level by level, from those of the leaves."""
    levels, sha, one = [row], hashlib.sha256, b"\x01"
    while len(levels[-1]) > 1:
        pairs = iter(levels[-1])
        levels.append([sha(one + left + right).digest() for left, right in zip(pairs, pairs)])
    return levels

def root_of_parts(parts):
    """The root over (level, hash) from left to right; of what does not fit together it is none that was signed."""
    stack, size, join = [], 0, lambda left, right: hashlib.sha256(b"\x01" + left + right).digest()
    for level, part in parts:
        if size % (1 << level):
            return None
        size += 1 << level
        stack.append((level, part))
        while len(stack) > 1 and stack[-1][0] == stack[-2][0]:
            level, right = stack.pop()
            stack.append((level + 1, join(stack.pop()[1], right)))
    return functools.reduce(lambda right, left: join(left, right), [part for _, part in reversed(stack)])

def check_parts(items, first, last, root, say):
    """An export of one product: records, and parts of the tree that are others'. Its size, and the root over a beginning of it."""
    parts, size, ends, count, product = [], 0, {}, 0, first["product"]
    for line in items:
        item = json.loads(line)
        gap = "level" in item
        count += not gap
        if item["at"] != size if gap else (item["n"], item["product"], item["pn"]) != (size + 1, product, count):
            say("record %d: what stands here does not belong here" % (size + 1))
        parts.append((item["level"], bytes.fromhex(item["hash"])) if gap else (0, hashlib.sha256(b"\x00" + line).digest()))
        if not 0 <= parts[-1][0] < 62:
            raise ValueError("no tree is as large")
        size += 1 << parts[-1][0]
        ends[size] = len(parts)
    line, o = next((line, line["of"]) for line in last if "of" in line)
    text = "coffer audit product 1\n%s\n%d\n%d\n%d\n%d\n" % (o["journal"], o["product"], o["count"], o["size"], o["at"])
    if not attested(root, b"vault", b"coffer/v1/audit-product", text, o["at"], line["vault"]):
        say("the signature under the number of the product's records does not hold")
    if (o["journal"], o["product"], o["count"], o["size"]) != (first["journal"], product, count, size):
        say("%d records of the product were signed for, %d are here" % (o["count"], count))
    return size, lambda upto: root_of_parts(parts[:ends[upto]]) if upto in ends else None

def check(lines, kept, key, say):
    first, last = json.loads(lines[0]), [json.loads(line) for line in lines[1:][-2:] if not line.startswith(b'{"v"')]
    last = [line for line in last if "head" in line or "of" in line]
    items, root = lines[1:len(lines) - len(last)], bytes.fromhex(first["key"])
    head = next(line for line in last if "head" in line)
    if key and root != key or first["coffer-audit"] != 1 or first["journal"] != first["key"][:16] + "/audit":
        say("it is of another installation or journal than it should be, or of a newer form")
    if first["product"]:
        size, tree = check_parts(items, first, last, root, say)
    else:  # every line is a leaf
        sha, zero = hashlib.sha256, b"\x00"
        levels = levels_of([sha(zero + line).digest() for line in items])
        size, tree = len(items), lambda upto: root_of_parts(
            [(level, levels[level][upto >> level & ~1]) for level in reversed(range(len(levels))) if upto >> level & 1])
    now = head["head"]
    check_head(root, head, say)
    if not now["size"] == first["size"] == size or now["journal"] != first["journal"]:
        say("%d records were signed for, %d are here" % (now["size"], size))
    if tree(size) != bytes.fromhex(now["root"]):
        say("these %d records are not those that the head was signed over" % size)
        for at, line in enumerate(items if not first["product"] else []):  # where: each record names the one before
            if line[:79] != b'{"v":1,"prev":"' + (levels[0][at - 1].hex().encode() if at else b"0" * 64):
                say("record %d was not written after record %d as that one stands here" % (at + 1, at))
                break
    for line in kept:
        then = line["head"]
        check_head(root, line, say)
        if then["size"] > size:
            say("rolled back: %d records were signed for before, %d are here" % (then["size"], size))
        elif tree(then["size"]) != bytes.fromhex(then["root"]):
            say("forked: the first %d records are not those of the head that was kept, or cannot be told apart here" % then["size"])

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export"), parser.add_argument("--head", action="append", default=[]), parser.add_argument("--key", default="")
    args = parser.parse_args()
    loaded = open(args.export, "rb").read().rstrip(b"\n").split(b"\n")
    heads = [json.loads(open(path, "rb").read().rstrip(b"\n").split(b"\n")[-1]) for path in args.head]
    began, wrong = time.perf_counter(), []
    try:
        check(loaded, heads, bytes.fromhex(args.key), wrong.append)
    except (ValueError, LookupError, TypeError, StopIteration) as error:
        wrong.append("it is not whole, or cannot be read: %r" % error)
    args.key or heads or wrong or wrong.append("it holds in itself, and may be anybody's: give --head or --key")
    print("\n".join(wrong) or "everything holds", "(%d lines, %.2f s)" % (len(loaded), time.perf_counter() - began))
    sys.exit(8 if wrong else 0)
