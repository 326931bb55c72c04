#!/usr/bin/env python3
"""Verifies the output of `hub export`, in another language than the hub's.

    hub export --config hub.yaml | python3 verify.py VKEY...

VKEY are verifier keys: the hub's (witness.vkey) and each edge's; of an edge that got new keys, the old ones too.
Written from docs/FORMATS.md alone, with nothing but the standard library. Prints a count and exits 0 when everything
that the page says can be proven is proven; else names the first difference, with its line, and exits 1.
"""
import base64
import hashlib
import json
import re
import sys

MAX_LEAF = MAX_PRIVATE = MAX_NOTE = 4096
MAX_DEPTH = 8
HOUR_MS = 3_600_000
ID = r"[a-z0-9][a-z0-9-]{0,47}"
NUMBER = r"0|[1-9][0-9]{0,18}"


class Difference(Exception):
    pass


def need(holds, why):
    if not holds:
        raise Difference(why)


# --- Ed25519, RFC 8032 section 5.1: verification only ------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def point_add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_mul(n, p):
    q = (0, 1, 1, 0)
    while n:
        if n & 1:
            q = point_add(q, p)
        p = point_add(p, p)
        n >>= 1
    return q


def recover_x(y, sign):
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * SQRT_M1 % P
    if (x * x - x2) % P:
        return None
    return P - x if x & 1 != sign else x


def decompress(b):
    y = int.from_bytes(b, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def compress(p):
    inverse = pow(p[2], P - 2, P)
    x, y = p[0] * inverse % P, p[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (recover_x(BASE_Y, 0), BASE_Y, 1, recover_x(BASE_Y, 0) * BASE_Y % P)


def ed25519_verifies(public, message, signature):
    if len(public) != 32 or len(signature) != 64:
        return False
    a, s = decompress(public), int.from_bytes(signature[32:], "little")
    if a is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    minus_a = (P - a[0], a[1], 1, P - a[3])
    return compress(point_add(point_mul(s, BASE), point_mul(k, minus_a))) == signature[:32]


# --- text ---------------------------------------------------------------------------------------------------------------


def decode_base64(text, what):
    need(isinstance(text, str), f"{what}: not a string")
    try:
        b = base64.b64decode(text, validate=True)
    except ValueError as e:
        raise Difference(f"{what}: not base64 ({e})")
    need(base64.b64encode(b).decode() == text, f"{what}: base64 in another spelling")
    return b


def decode_hex(text, size, what):
    need(isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{2 * size}}}", text), f"{what}: not {size} bytes of hex")
    return bytes.fromhex(text)


class Compact:
    """Reads compact JSON: one value of it, as its bytes."""

    def __init__(self, b):
        self.b, self.at = b, 0

    def fail(self, why):
        raise Difference(f"at byte {self.at}: {why}")

    def peek(self):
        return self.b[self.at:self.at + 1]

    def expect(self, text):
        if not self.b.startswith(text, self.at):
            self.fail(f"want {text.decode()}")
        self.at += len(text)

    def value(self, depth=0):
        start = self.at
        if depth > MAX_DEPTH:
            self.fail("nested too deep")
        c = self.peek()
        if c == b"{":
            self.container(b"}", depth, keys=set())
        elif c == b"[":
            self.container(b"]", depth, keys=None)
        elif c == b'"':
            self.string()
        elif c and c in b"-0123456789":
            self.integer()
        else:
            m = re.compile(rb"true|false|null").match(self.b, self.at)
            if not m:
                self.fail("not a compact JSON value")
            self.at = m.end()
        return self.b[start:self.at]

    def container(self, end, depth, keys):
        self.at += 1
        if self.peek() == end:
            self.at += 1
            return
        while True:
            if keys is not None:
                key = self.string()
                if key in keys:
                    self.fail("a key stands twice")
                keys.add(key)
                self.expect(b":")
            self.value(depth + 1)
            if self.peek() == end:
                self.at += 1
                return
            self.expect(b",")

    def string(self):
        m = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"').match(self.b, self.at)
        if not m:
            self.fail("not a string")
        try:
            m.group().decode("utf-8")
        except UnicodeDecodeError:
            self.fail("not UTF-8")
        self.at = m.end()
        return m.group()

    def integer(self):
        m = re.compile(rb"-?(?:0|[1-9][0-9]*)").match(self.b, self.at)
        if not m or m.group() == b"-0" or self.b[m.end():m.end() + 1] in (b".", b"e", b"E") and m.end() < len(self.b):
            self.fail("not an integer in shortest form")
        if not -2**63 <= int(m.group()) < 2**63:
            self.fail("an integer past 64 bits")
        self.at = m.end()


def check_compact(b):
    c = Compact(b)
    c.value()
    if c.at != len(b):
        c.fail("more bytes after the value")


# --- leaf ---------------------------------------------------------------------------------------------------------------

LEAF = re.compile(
    f'{{"v":1,"net":"({ID})","node":"({ID})","edge":"({ID})","epoch":"([0-9a-f]{{32}})","i":({NUMBER}),"kind":"({ID})"'
    f',"at":({NUMBER}),"clock":"(synced|unsure)","boot":"([0-9a-f]{{16}})","mono":({NUMBER}),"body":'.encode())
COMMITMENT = re.compile(rb'(?:,"c":"([0-9a-f]{64})")?}')


def parse_leaf(line):
    """The place a leaf calls its own, and its commitment or None."""
    need(len(line) <= MAX_LEAF, f"a leaf of {len(line)} bytes")
    m = LEAF.match(line)
    need(m, "not a leaf: the keys before the body are not as they must be")
    net, node, edge, epoch, index, _, at, _, _, mono = (g.decode() for g in m.groups())
    index, at, mono = int(index), int(at), int(mono)
    need(index <= 2**62 and at < 2**63 and mono < 2**63, "not a leaf: a number is too large")
    c = Compact(line)
    c.at = m.end()
    need(c.value()[:1] == b"{", "not a leaf: the body is not an object")
    end = COMMITMENT.fullmatch(line, c.at)
    need(end, "not a leaf: what follows the body")
    commitment = bytes.fromhex(end.group(1).decode()) if end.group(1) else None
    need(commitment is None or mono == 0 and at % HOUR_MS == 0, "not a leaf: a commitment and an exact time")
    return (net, node, edge, epoch, index), commitment


# --- tree, RFC 6962 section 2.1 -----------------------------------------------------------------------------------------


def leaf_hash(line):
    return hashlib.sha256(b"\x00" + line).digest()


def inner_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The right edge of a tree: roots of its perfect subtrees, largest first."""

    def __init__(self):
        self.size, self.nodes = 0, []

    def append(self, h):
        n = self.size
        while n & 1:
            h, n = inner_hash(self.nodes.pop(), h), n >> 1
        self.nodes.append(h)
        self.size += 1

    def root(self):
        if not self.nodes:
            return hashlib.sha256(b"").digest()
        h = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            h = inner_hash(node, h)
        return h


def consistent(old, old_root, new, new_root, proof):
    """Whether a consistency proof, RFC 6962 section 2.1.2, leads from one tree to a larger one."""
    if not 0 < old < new or not proof:
        return False
    at, last, path = old - 1, new - 1, list(proof)
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path.pop(0) if at else old_root  # a whole tree is not said again
    for h in path:
        if not last:
            return False
        if at & 1 or at == last:
            first, second = inner_hash(h, first), inner_hash(h, second)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            second = inner_hash(second, h)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


# --- notes --------------------------------------------------------------------------------------------------------------


class Key:
    def __init__(self, vkey):
        m = re.fullmatch(r"([^+\s]+)\+([0-9a-f]{8})\+(\S+)", vkey.strip())
        need(m, f"not a verifier key: {vkey!r}")
        self.name, raw = m.group(1), decode_base64(m.group(3), "verifier key")
        need(len(raw) == 33 and raw[0] in (1, 4), f"verifier key of {self.name}: of a kind that is not known here")
        self.kind, self.public = raw[0], raw[1:]
        self.id = hashlib.sha256(self.name.encode() + b"\n" + raw).digest()[:4]
        need(self.id.hex() == m.group(2), f"verifier key of {self.name}: its id is not that of its bytes")

    def verifies(self, text, signature):
        if self.kind == 1:
            return ed25519_verifies(self.public, text, signature)
        if len(signature) != 72:
            return False
        when = int.from_bytes(signature[:8], "big")
        return ed25519_verifies(self.public, b"cosignature/v1\ntime %d\n" % when + text, signature[8:])


def open_receipt(note, origin, names, keys):
    """Size and root of a checkpoint that one known key of each name has signed."""
    raw = exact(note, "receipt")
    need(len(raw) <= MAX_NOTE, f"receipt of {len(raw)} bytes")
    text, gap, lines = raw.partition(b"\n\n")
    need(gap and lines.endswith(b"\n"), "receipt: not a note")
    text += b"\n"
    m = re.fullmatch(rb"([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/=]+)\n", text)
    need(m, "receipt: not a checkpoint of three lines")
    need(m.group(1).decode() == origin, f"receipt: its origin is {m.group(1).decode()}, want {origin}")
    size, root = int(m.group(2)), decode_base64(m.group(3).decode(), "root of the receipt")
    need(size < 2**62 and len(root) == 32, "receipt: size or root")
    signed = set()
    for line in lines[:-1].decode().split("\n"):
        m = re.fullmatch("\u2014 (\\S+) (\\S+)", line)
        need(m, f"receipt: not a signature line: {line!r}")
        name, b = m.group(1), decode_base64(m.group(2), f"signature of {m.group(1)}")
        for key in keys:
            if key.name == name and key.id == b[:4]:
                need(key.verifies(text, b[4:]), f"receipt: the signature of {name} does not verify")
                signed.add(name)
    for name in names:
        need(name in signed, f"receipt: no signature of a known key of {name}")
    return size, root


# --- export -------------------------------------------------------------------------------------------------------------

STATUS = re.compile(f"(open|(sealed|fork) limit=({NUMBER}))( held)?( duplicate)?( lost=({NUMBER})-({NUMBER})){{0,16}}")
SHAPES = {
    "format": ({"format", "network", "generation"}, set()),
    "log": ({"log", "node", "epoch", "size", "root", "status"}, {"receipt"}),
    "leaf": ({"leaf", "proof"}, {"salt", "private", "erased"}),
    "opaque": ({"opaque", "proof"}, set()),
    "lost": ({"lost", "tree", "proof"}, set()),
}


def unique(pairs):
    keys = [k for k, _ in pairs]
    need(len(set(keys)) == len(keys), "a key stands twice")
    return dict(pairs)


def parse_line(raw):
    try:
        v = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as e:
        raise Difference(f"not JSON: {e}")
    need(isinstance(v, dict), "not an object")
    for kind, (wanted, optional) in SHAPES.items():
        if kind in v:
            need(wanted <= v.keys() <= wanted | optional, f"the keys of a {kind} line are {sorted(v)}")
            return kind, v
    raise Difference(f"a line of no known kind, with the keys {sorted(v)}")


def exact(text, what):
    need(isinstance(text, str), f"{what} is not a string")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise Difference(f"{what} is not UTF-8")


class Log:
    def __init__(self, v, network, keys):
        for k in ("log", "node"):
            need(isinstance(v[k], str) and re.fullmatch(ID, v[k]), f"{k} is not an id")
        self.name = f'{network}/{v["node"]}/{v["log"]}'
        self.epoch = decode_hex(v["epoch"], 16, "epoch").hex()
        self.where = (network, v["node"], v["log"], self.epoch)
        need(type(v["size"]) is int and 0 <= v["size"] < 2**62, "size of the log")
        need(isinstance(v["status"], str) and STATUS.fullmatch(v["status"]), f'status {v["status"]!r}')
        self.size, self.root = v["size"], decode_base64(v["root"], "root of the log")
        self.tree, self.covered, self.covered_root, self.proven = Tree(), 0, None, True
        if "receipt" in v:
            self.covered, self.covered_root = open_receipt(
                v["receipt"], f"kith.{self.name}/{self.epoch}", (self.name, f"{network}/hub-witness"), keys)
            need(self.covered <= self.size, f"the receipt covers {self.covered} leaves, the log has {self.size}")
            self.proven = False
        self.at_receipt()

    def at_receipt(self):
        if not self.proven and self.tree.size == self.covered:
            need(self.tree.root() == self.covered_root,
                 f"the root of the leaves 0 to {self.covered - 1} is not the receipted one: one of them was changed")
            self.proven = True

    def place(self, kind, v):
        need(self.tree.size < self.size, f"a line past the log's size of {self.size}")
        if kind == "lost":
            return self.gap(v)
        want = "receipted" if self.tree.size < self.covered else "stored"
        need(v["proof"] == want, f'proof is {v["proof"]!r}, want {want}')
        if kind == "opaque":
            line, found = decode_base64(v["opaque"], "opaque line"), (0, 0)
            need(b"\n" not in line, "an opaque line of two lines")
        else:
            line = exact(v["leaf"], "leaf")
            found = self.leaf(line, v)
        self.tree.append(leaf_hash(line))
        self.at_receipt()
        return found

    def leaf(self, line, v):
        place, commitment = parse_leaf(line)
        need(place == self.where + (self.tree.size,), "it calls itself %s/%s/%s epoch %s leaf %d" % place)
        if "erased" in v:
            need(v["erased"] is True and commitment and not {"salt", "private"} & v.keys(), "erased, and yet not")
            return 0, 1
        need(("salt" in v) == ("private" in v), "salt and private part come together")
        if "private" not in v:
            return 0, 0
        need(commitment, "a private part beside a leaf without a commitment")
        salt, private = decode_hex(v["salt"], 32, "salt"), exact(v["private"], "private part")
        need(len(private) <= MAX_PRIVATE, f"a private part of {len(private)} bytes")
        digest = hashlib.sha256(b"kith/commitment/v1\n" + salt + private).digest()
        need(digest == commitment, "the private part is not the one the leaf commits to")
        check_compact(private)
        return 1, 0

    def gap(self, v):
        span = v["lost"]
        need(isinstance(span, list) and len(span) == 2 and all(type(n) is int for n in span), "lost is not from and to")
        first, to = span
        need(first == self.tree.size and first < to <= self.size, f"a gap from {first} to {to}")
        need(isinstance(v["tree"], list) and all(isinstance(h, str) for h in v["tree"]), "tree is not a list of hashes")
        after = Tree()
        after.size, after.nodes = to, [decode_base64(h, "tree over a gap") for h in v["tree"]]
        need(len(after.nodes) == bin(to).count("1") and all(len(h) == 32 for h in after.nodes), "tree over a gap")
        need(isinstance(v["proof"], list) and all(isinstance(h, str) for h in v["proof"]), "proof is not a list of hashes")
        proof = [decode_base64(h, "proof over a gap") for h in v["proof"]]
        need(all(len(h) == 32 for h in proof), "proof over a gap")
        need(consistent(first, self.tree.root(), to, after.root(), proof) if first else not proof,
             "the tree over a gap does not hold the leaves before it")
        need(self.proven or not first < self.covered < to, f"the receipt for {self.covered} leaves ends within the gap")
        self.tree = after
        self.at_receipt()
        return 0, 0

    def end(self):
        need(self.tree.size == self.size, f"the log ends at {self.tree.size} leaves, its head says {self.size}")
        need(self.tree.root() == self.root, "the root of the leaves is not that of the log's line")
        need(self.proven, "the receipt was not reached")
        return self.size - self.covered


def verify(stream, keys):
    network, log, number = None, None, 0
    logs = leaves = receipts = private = erased = bare = 0
    try:
        for number, raw in enumerate(stream, 1):
            need(raw.endswith(b"\n"), "the last line is cut")
            kind, v = parse_line(raw)
            if network is None:
                need(kind == "format" and v["format"] == "kith/export/v1", "not an export of a format known here")
                network = v["network"]
                need(isinstance(network, str) and re.fullmatch(ID, network), "network is not an id")
                need(re.fullmatch("[0-9a-f]{32}", str(v["generation"])), "generation")
            elif kind == "log":
                if log:
                    bare += log.end()
                log = None
                log = Log(v, network, keys)
                logs, leaves, receipts = logs + 1, leaves + log.size, receipts + (log.covered_root is not None)
            else:
                need(log and kind != "format", f"a {kind} line where none belongs")
                found = log.place(kind, v)
                private, erased = private + found[0], erased + found[1]
        need(network is not None, "nothing to verify")
        if log:
            bare += log.end()
    except Difference as e:
        where = f" {log.name} epoch {log.epoch} leaf {log.tree.size}:" if log else ""
        return f"NOT VERIFIED: line {number}:{where} {e}", 1
    return (f"verified: {logs} logs, {leaves} leaves, {receipts} receipts, {private} private parts match, {erased} erased, "
            f"{bare} leaves that no receipt proves"), 0


def main():
    try:
        keys = [Key(k) for k in sys.argv[1:]]
    except Difference as e:
        print(f"NOT VERIFIED: {e}")
        return 1
    text, code = verify(sys.stdin.buffer, keys)
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
