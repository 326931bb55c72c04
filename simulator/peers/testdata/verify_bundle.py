#!/usr/bin/env python3
"""Verifies the audit bundle of a closed period, in another language than the hub's.

    python3 verify_bundle.py [--operator VKEY] [--json] [--apart] FILE...

Several bundles: the oldest first; each must open with what the one before closed with. With --apart each is looked at for
itself, and the next one also when one differs. A FILE may be a proof of balance, too. Written from docs/FORMATS.md alone
("Audit bundle"), with nothing but the standard library. Prints what was proven, or with --json the objects that
`hub verify BUNDLE... --json` prints, and exits 0; else names the first file and line that differ, and exits 1.
"""
import argparse
import base64
import datetime
import fractions
import functools
import hashlib
import json
import re
import sys

from verify import (Compact, Difference, ID, Key, LEAF, NUMBER, Tree, decode_base64, inner_hash, leaf_hash, need, parse_leaf)

BLOCK = 512
MAX_ARCHIVE, MAX_FILES, MAX_ORIGIN, MAX_CHECKPOINTS = 2**30, 2**18, 256, 65_536
MAX_AMOUNT, MAX_CASE_SUM, MAX_BOOK_SUM = 2**60, 2**62, 2**61 - 1
MAX_EACH = MAX_QUANTITY = 1_000_000_000
MAX_DAY, MAX_AGE_DAYS, MAX_UNITS, MAX_PRICES, MAX_SCALE = 1_000_000, 36_500, 64, 10_000, 6
MAX_INT32 = 2**31 - 1
MAX_WAIT_S = 366 * 86_400
MAX_LEVEL, MAX_LOTS, NONCE_DAYS = 40, 8, 400
DAY_MS = 86_400_000
LAST_DATE = 2_932_896
HEX = "[0-9a-f]{64}"
SIGNED = "0|-?[1-9][0-9]{0,18}"
LONG = "0|-?[1-9][0-9]{0,38}"
ORIGIN = rf"kith\.{ID}/{ID}/{ID}/[0-9a-f]{{32}}"
ADDRESS = f"({ORIGIN}) ({NUMBER})"
VKEY = "[!-~]+"
SOURCE = f"(?:leaf|correction) {ORIGIN} (?:{NUMBER})|commons|novation"
OBLIGATION = (f"obligation ({HEX}) ({ID}) ({ID}) ({ID}) ({NUMBER}) ({NUMBER}) ({NUMBER}) ({NUMBER}) ([ABC]) ([01]) ({NUMBER}) "
              f"({SOURCE})")
ACTIONS = {"work", "deliver-service", "use", "consume"}
TRANSFERS = {"transfer", "transfer-custody"}
ECONOMIC = ACTIONS | TRANSFERS | {"raise", "lower"}
IDLE = {"no-price", "capped", "carried-twice", "corrects-nothing", "corrects-twice", "unknown-home", "nonce-used", "too-old",
        "node-left"}
README = """# Period %s of %s

This bundle proves how the period was closed. It needs no network and no database to be checked:

    hub verify BUNDLE.tar

The command recomputes every tree, signature, obligation, clearing, posting and balance from the files here and names the first
line that differs. Compare the operator's key that it prints with the one your house was given:

    %s

Books: hledger check -s -f ledger/journal.hledger
Formats: docs/FORMATS.md, "Audit bundle". A leaf that is not shown stands as a hash: what a house did beside the economy is its own.
"""


class Wrong(Difference):
    """A difference in a file of the bundle, and in which line of it; 0 is the file as a whole."""

    def __init__(self, file, line, why):
        super().__init__(f"{file}: line {line}: {why}" if line else f"{file}: {why}")
        self.file, self.line, self.why = file, line, why


def sha256(*parts):
    return hashlib.sha256(b"".join(p if isinstance(p, bytes) else p.encode() for p in parts)).digest()


@functools.lru_cache(maxsize=4096)
def key_of(vkey):
    return Key(vkey)


@functools.lru_cache(maxsize=4096)
def verifies(key, text, signature):
    return key.verifies(text, signature)  # slow in this language; bundles that follow each other share their receipts


def ascending(values, strict=True):
    return all(a < b if strict else a <= b for a, b in zip(values, values[1:]))


class Lines:
    """Reads a file of lines and tells every difference with the line it is in."""

    def __init__(self, name, b):
        self.name, self.at = name, 0
        self.lines = b.split(b"\n")
        if self.lines.pop() != b"":
            raise Wrong(name, len(self.lines) + 1, "the last line is cut")

    def __enter__(self):
        return self

    def __exit__(self, kind, e, _):
        if kind and issubclass(kind, Difference) and not issubclass(kind, Wrong):
            raise Wrong(self.name, self.at, str(e))

    def maybe(self, pattern):
        """The groups of the next line when the whole of it fits, else None."""
        if self.at == len(self.lines):
            return None
        m = re.fullmatch(pattern.encode(), self.lines[self.at])
        if m:
            self.at += 1
            return [g.decode() if g is not None else None for g in m.groups()]

    def take(self, pattern, what):
        groups = self.maybe(pattern)
        if groups is None:
            self.at += 1
            raise Difference(f"want {what}" if self.at <= len(self.lines) else f"the file ends, want {what}")
        return groups

    def end(self):
        if self.at < len(self.lines):
            self.at += 1
            raise Difference("a line too many")


def number(text, most=2**63 - 1, least=-2**63):
    n = int(text)
    need(least <= n <= most, f"{text} is not from {least} to {most}")
    return n


class Obligation:
    def __init__(self, id, debtor, creditor, unit, amount, day, evidence, source):
        need(debtor != creditor, f"obligation {id}: {debtor} owes itself")
        need(0 < amount < 2**63, f"obligation {id}: an amount of {amount}")
        self.id, self.debtor, self.creditor, self.unit, self.amount = id, debtor, creditor, unit, amount
        self.day, self.evidence, self.source = day, evidence, source
        self.discharged = self.waived = self.frozen = self.until = 0
        self.dispute = None  # [by, at, outcome]
        self.now_discharged = self.now_waived = self.now_novated = 0  # in this period, each an entry of its own
        self.unsure = False

    @property
    def open(self):
        return self.amount - self.discharged - self.waived

    def line(self):
        return (f"obligation {self.id} {self.debtor} {self.creditor} {self.unit} {self.amount} {self.discharged} {self.waived} "
                f"{self.day} {self.evidence} {self.frozen} {self.until} {self.source}\n")

    @staticmethod
    def parse(groups):
        id, debtor, creditor, unit, amount, discharged, waived, day, evidence, frozen, until, source = groups
        o = Obligation(id, debtor, creditor, unit, number(amount), number(day, MAX_INT32), evidence, source)
        o.discharged, o.waived, o.frozen, o.until = number(discharged), number(waived), int(frozen), number(until, MAX_INT32)
        need(o.open > 0, f"obligation {id} has nothing open")
        return o


# --- the archive and its manifest ---------------------------------------------------------------------------------------


def tar_header(name, size):
    def header(sum):
        return (name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"0" * 11 + b"\0" + sum +
                b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(64) + b"0000000\0" * 2 + bytes(167))
    return header(b"%06o\0 " % sum(header(b" " * 8)))


def read_archive(b):
    """The files of the archive by name, in its order. The archive is refused unless it is the one spelling of them."""
    files, at, last = {}, 0, None
    need(len(b) <= MAX_ARCHIVE, f"an archive of {len(b)} bytes")
    while True:
        header = b[at:at + BLOCK]
        if header == bytes(BLOCK):
            need(b[at:] == bytes(2 * BLOCK), "the archive does not end with two empty blocks")
            break
        name = header[:100].rstrip(b"\0").decode("latin-1")
        plain = re.fullmatch(r"[A-Za-z0-9./-]{1,100}", name) and ".." not in name and name[0] != "/" != name[-1]
        need(len(header) == BLOCK and plain, f"at byte {at} of the archive: not the name of a file")
        need(re.fullmatch(rb"[0-7]{11}\0", header[124:136]), f"{name}: its size in the archive")
        size = int(header[124:135], 8)
        if header != tar_header(name, size):
            raise Wrong(name, 0, "its header in the archive is spelt in another way")
        content, end = b[at + BLOCK:at + BLOCK + size], at + BLOCK + (size + BLOCK - 1) // BLOCK * BLOCK
        if len(content) != size or len(b) < end or any(b[at + BLOCK + size:end]):
            raise Wrong(name, 0, "it is cut, or not filled up with zeros")
        need((name == "bundle.note") == (last is None), "bundle.note is not the first file")
        need(last in (None, "bundle.note") or last < name, f"{name} stands behind {last}")
        files[name], last, at = content, name, end
        need(len(files) <= MAX_FILES, "too many files")
    need(files, "an empty archive")
    return files


def split_note(b):
    """Text of a signed note, and its signature lines as (key name, key id and signature)."""
    text, gap, lines = b.partition(b"\n\n")
    need(gap and lines.endswith(b"\n"), "not a signed note")
    signatures = []
    for line in lines[:-1].split(b"\n"):
        m = re.fullmatch("\u2014 (\\S+) (\\S+)".encode(), line)
        need(m, "not a signature line")
        signature = decode_base64(m.group(2).decode("latin-1"), "signature")
        need(len(signature) > 4, "a short signature")
        signatures.append((m.group(1).decode("latin-1"), signature))
    return text + b"\n", signatures


def open_note(b, key):
    """Text of a note of the operator."""
    text, signatures = split_note(b)
    need(len(signatures) == 1, f"{len(signatures)} signatures, want the operator's alone")
    name, signature = signatures[0]
    who = f"{name} {signature[:4].hex()}"
    need(who == f"{key.name} {key.id.hex()}", f"it is signed by {who}, not by {key.name} {key.id.hex()}")
    need(verifies(key, text, signature[4:]), "the operator's signature does not verify")
    return text


# --- rules --------------------------------------------------------------------------------------------------------------


class Rules:
    def __init__(self, r, network):
        r.take("kith-rules v1", "kith-rules v1")
        self.version, = r.take(f"version ({ID})", "version ID")
        need(r.take(f"network ({ID})", "network ID") == [network], f"the rules are not those of {network}")
        self.units, self.prices, self.dues, self.grants, self.limits, self.caps = [], {}, [], [], {}, {}
        while g := r.maybe(f"unit ({ID}) ([0-{MAX_SCALE}])"):
            self.units.append(g[0])
        need(1 <= len(self.units) <= MAX_UNITS and ascending(self.units), "units")
        while g := r.maybe(f"price ({'|'.join(ACTIONS)}) ({ID}) ({ID}) ({NUMBER})"):
            self.known(g[2])
            need(not self.prices or list(self.prices)[-1] < (g[0], g[1]), "prices are not ascending")
            self.prices[g[0], g[1]] = g[2], number(g[3], MAX_EACH, 1)
        need(1 <= len(self.prices) <= MAX_PRICES, "prices")
        self.commons, = r.take(f"commons ({ID}|-)", "commons NODE")
        while g := r.maybe(f"dues ({ID}) ({NUMBER}) ({NUMBER})"):
            self.known(g[0])
            num, den = number(g[1]), number(g[2])
            need(num <= den and den >= 1 and g[0] not in [d[0] for d in self.dues], "dues")
            self.dues.append((g[0], num, den))
        while g := r.maybe(f"grant ({ID}) ({ID}) ({NUMBER}) ({ID})"):
            self.known(g[1])
            self.grants.append((g[0], g[1], number(g[2], MAX_AMOUNT, 1), g[3]))
        while g := r.maybe(f"limit ({ID}) ({ID}) ({SIGNED}) ({SIGNED})"):
            self.known(g[1])
            need(not self.limits or list(self.limits)[-1] < (g[0], g[1]), "limits are not ascending")
            floor, ceiling = (number(n, MAX_AMOUNT, -MAX_AMOUNT) for n in g[2:])
            need(floor <= ceiling, "a floor above its ceiling")
            self.limits[g[0], g[1]] = floor, ceiling
        named = [g[0] for g in self.grants] + [node for node, _ in self.limits]
        need(self.commons not in named, "a grant or a limit of the commons itself")
        need(self.commons != "-" or not (self.dues or self.grants or self.limits), "dues, grants or limits without a commons")
        self.hold = r.take("hold ([01])", "hold")[0] == "1"
        while g := r.maybe(f"cap ({ID}) ({NUMBER})"):
            self.known(g[0])
            need(not self.caps or list(self.caps)[-1] < g[0], "caps are not ascending")
            self.caps[g[0]] = number(g[1])
        self.window, self.answer = (number(r.take(f"{word} ({NUMBER})", word)[0], MAX_WAIT_S) for word in ("window", "answer"))
        self.age_days = number(r.take(f"age-days ({NUMBER})", "age-days")[0], MAX_AGE_DAYS, 1)
        r.take("end", "end")
        r.end()

    def known(self, unit):
        need(unit in self.units, f"a unit {unit} that is not declared")


# --- policy.yaml --------------------------------------------------------------------------------------------------------


class Unread(Exception):
    """YAML beyond what is read here; it says nothing against the file."""


FLOW = re.compile(r"""\s*([\[\]{},:]|"[^"\\]*"|'[^']*'|[^\s\[\]{},:#"'&*!|>%@`][^\[\]{},:#"'\s]*)""")
KEY = re.compile(r"([a-z0-9_-]+):(?: +(.*))?")


class Yaml:
    """Reads the plain part of YAML: block and flow lists and maps of one-word scalars, and comments. Scalars stay texts."""

    def __init__(self, text):
        self.lines, self.at = [], 0
        for line in text.split("\n"):
            line = re.match(r"""((?:[^#"']|(?<=\S)#|"[^"]*"|'[^']*')*)(?:#.*)?$""", line)
            if line is None:
                raise Unread
            line = line.group(1).rstrip()
            if "\t" in line or line.startswith(("---", "...", "%")):
                raise Unread
            if line:
                self.lines.append((len(line) - len(line.lstrip(" ")), line.lstrip(" ")))

    def document(self):
        v = self.block(0)
        if self.at < len(self.lines):
            raise Unread
        return v

    def block(self, indent):
        if self.lines[self.at][1].startswith("- "):
            out = []
            while self.here(indent) and self.lines[self.at][1].startswith("- "):
                text = self.lines[self.at][1][2:]
                inner = indent + 2 + len(text) - len(text.lstrip(" "))
                self.lines[self.at] = inner, text.lstrip(" ")
                out.append(self.block(inner) if KEY.fullmatch(text.lstrip(" ")) else self.flow(text, indent))
            return out
        out = {}
        while self.here(indent) and not self.lines[self.at][1].startswith("- "):
            m = KEY.fullmatch(self.lines[self.at][1])
            if not m or m.group(1) in out:
                raise Unread
            if m.group(2):
                out[m.group(1)] = self.flow(m.group(2), indent)
                continue
            self.at += 1
            next = self.lines[self.at] if self.at < len(self.lines) else (-1, "")
            nested = next[0] > indent or next[0] == indent and next[1].startswith("- ")
            out[m.group(1)] = self.block(next[0]) if nested else None
        return out

    def here(self, indent):
        if self.at == len(self.lines) or self.lines[self.at][0] < indent:
            return False
        if self.lines[self.at][0] > indent:
            raise Unread
        return True

    def flow(self, text, indent):
        self.at += 1
        while sum(text.count(c) for c in "[{") > sum(text.count(c) for c in "]}") and self.here_deeper(indent):
            text += " " + self.lines[self.at][1]
            self.at += 1
        tokens = []
        while text.strip():
            m = FLOW.match(text)
            if not m:
                raise Unread
            tokens.append(m.group(1))
            text = text[m.end():]
        v = self.flow_value(tokens)
        if tokens:
            raise Unread
        return v

    def here_deeper(self, indent):
        return self.at < len(self.lines) and self.lines[self.at][0] > indent

    def flow_value(self, tokens):
        t = tokens.pop(0) if tokens else "}"
        if t in ("[", "{"):
            end, out = ("]", []) if t == "[" else ("}", {})
            while tokens and tokens[0] != end:
                if t == "[":
                    out.append(self.flow_value(tokens))
                else:
                    key = tokens.pop(0)
                    if not re.fullmatch("[a-z0-9_-]+", key) or key in out or tokens[:1] != [":"]:
                        raise Unread
                    tokens.pop(0)
                    out[key] = self.flow_value(tokens)
                if tokens[:1] == [","]:
                    tokens.pop(0)
                elif tokens[:1] != [end]:
                    raise Unread
            if not tokens:
                raise Unread
            tokens.pop(0)
            return out
        if t in "]},:":
            raise Unread
        return t[1:-1] if t[0] in "\"'" else t


def whole(text):
    if not isinstance(text, str) or not re.fullmatch(SIGNED, text):
        raise Unread
    return int(text)


def seconds(text):
    if text == "0":
        return 0
    part = r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)"
    if not isinstance(text, str) or not re.fullmatch(f"({part})+", text):
        raise Unread
    each = {"ns": 1, "us": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    return sum(int(fractions.Fraction(n) * each[unit]) for n, unit in re.findall(part, text)) // 10**9


def rules_of(text):
    """What rules.txt must say, from policy.yaml."""
    try:
        p = Yaml(text.decode("utf-8")).document()
        commons, weak, closing = (p.get(k) or {} for k in ("commons", "one_sided", "closing"))
        out = [f"kith-rules v1\nversion {p['version']}\nnetwork {p['network']}"]
        out += [f"unit {u['name']} {whole(u.get('scale', '0'))}" for u in sorted(p["units"], key=lambda u: u["name"])]
        for action, kinds in sorted(p["prices"].items()):
            out += [f"price {action} {kind} {v['unit']} {whole(v['each'])}" for kind, v in sorted(kinds.items())]
        out += [f"commons {commons.get('node') or '-'}"]
        out += [f"dues {d['unit']} {whole(d['num'])} {whole(d['den'])}" for d in commons.get("dues") or []]
        out += [f"grant {g['node']} {g['unit']} {whole(g['amount'])} {g['reason']}" for g in commons.get("grants") or []]
        out += [f"limit {v['node']} {v['unit']} {whole(v['floor'])} {whole(v['ceiling'])}"
                for v in sorted(p.get("limits") or [], key=lambda v: (v["node"], v["unit"]))]
        out += [f"hold {['false', 'true'].index(weak.get('hold', 'false'))}"]
        out += [f"cap {u} {whole(n)}" for u, n in sorted((weak.get("cap") or {}).items())]
        out += [f"{k} {seconds(closing.get(k, '0'))}" for k in ("window", "answer")]
        return "\n".join(out + [f"age-days {whole(closing.get('age_days', '0')) or 365}", "end", ""])
    except (Unread, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


# --- leaves -------------------------------------------------------------------------------------------------------------

BODY = re.compile(
    f'{{"resource":"({ID})","quantity":({NUMBER}),"measure":"({ID})","home":"({ID})","day":({NUMBER}),"evidence":"([ABC])"'
    f'(?:,"to":"({ID})")?(?:,"corrects":"([0-9a-f]{{32}})/({NUMBER})")?(?:,"nonce":"([0-9a-f]{{32}})")?}}'.encode())


class Leaf:
    """A leaf that was read: what stands in front of its body, and the body's bytes."""

    def __init__(self, line):
        (self.net, self.node, self.edge, self.epoch, self.index), _ = parse_leaf(line)
        m = LEAF.match(line)
        self.kind, self.clock = m.group(6).decode(), m.group(8).decode()
        c = Compact(line)
        c.at = m.end()
        self.body = c.value()
        self.origin = f"kith.{self.net}/{self.node}/{self.edge}/{self.epoch}"


def read_leaf(line):
    try:
        return Leaf(line)
    except Difference:
        return None


def carried(leaf):
    """The economic leaf that a replayed one carries, or None."""
    line = json.loads(leaf.body).get("leaf")
    try:
        inner = read_leaf(line.encode()) if isinstance(line, str) else None
    except UnicodeEncodeError:
        return None
    if inner and inner.kind in ECONOMIC and (inner.net, inner.node, inner.edge) == (leaf.net, leaf.node, leaf.edge):
        return inner
    return None


class Entry:
    def __init__(self, address, leaf, old, later):
        m = BODY.fullmatch(leaf.body)
        need(m, "its body")
        resource, quantity, _, home, day, evidence, to, epoch, index, nonce = (g and g.decode() for g in m.groups())
        self.address, self.kind, self.body, self.place, self.edge = address, leaf.kind, leaf.body, leaf.node, leaf.edge
        self.unsure = leaf.clock == "unsure"
        self.resource, self.home, self.evidence, self.nonce = resource, home, evidence, nonce
        self.quantity, self.day = number(quantity, MAX_QUANTITY), number(day, MAX_DAY)
        need((to is not None) == (leaf.kind in TRANSFERS), "to")
        need(self.quantity > 0 or epoch, "quantity")
        need(evidence != "A" or nonce, "nonce")
        self.corrects = epoch and (f"kith.{leaf.net}/{leaf.node}/{leaf.edge}/{epoch}", number(index, 2**62 - 1))
        self.old, self.later, self.aside = old, later, None


# --- the clearing of one unit -------------------------------------------------------------------------------------------


class Clearing:
    """A case, its answer and its proof. The case is derived; the other two are read and must follow from it."""

    def __init__(self, unit, day, age_cap, commons, roots, limits, debts):
        self.unit, self.day, self.age_cap, self.commons, self.roots = unit, day, age_cap, commons, roots
        self.limits = limits  # [node, balance, floor, ceiling]
        self.debts = sorted(debts, key=lambda o: (o.debtor, o.creditor, o.day, o.id))
        self.gross = sum(o.open for o in self.debts)
        self.text = "".join(
            [f"kith-clearing-case v1\nunit {unit}\ncut {day}\nage-cap {age_cap}\ncommons {commons}\n"] +
            [f"root {r}\n" for r in roots] + ["limit %s %d %d %d\n" % tuple(v) for v in limits] +
            [f"debt {o.id} {o.debtor} {o.creditor} {o.day} {o.open}\n" for o in self.debts] +
            [f"end {len(self.debts)}\n"]).encode()
        rooms = sum(max(0, b - floor) + max(0, ceiling - b) for _, b, floor, ceiling in limits)
        need(self.gross + rooms < MAX_CASE_SUM, f"amounts and rooms of {unit} are too large")
        need(all(o.day <= day for o in self.debts), f"a debt of {unit} after the cut")
        self.nodes = sorted({n for o in self.debts for n in (o.debtor, o.creditor)} | {v[0] for v in limits} |
                            ({commons} if commons != "-" else set()))

    def read_answer(self, r):
        """Feasible: what is discharged is owed, goes round, and keeps the limits."""
        r.take("kith-clearing-statement v1", "kith-clearing-statement v1")
        need(r.take(f"case ({HEX})", "case") == [sha256(self.text).hex()], "it answers another case")
        need(r.take(f"unit ({ID})", "unit") == [self.unit], f"unit is not {self.unit}")
        need(r.take(f"cut ({NUMBER})", "cut") == [str(self.day)], f"cut is not {self.day}")
        total, = r.take(f"total ({NUMBER})", "total")
        drawn, = r.take(f"drawn ({NUMBER})", "drawn")
        self.balances, self.discharged = [], {}
        arcs = {}  # (what, from, to, age) -> [capacity, flow]
        for node, balance, floor, ceiling in self.limits:
            before, after = (number(n) for n in r.take(f"balance {node} ({SIGNED}) ({SIGNED})", f"balance {node} BEFORE AFTER"))
            need(before == balance, f"{node} has {balance} before, not {before}")
            self.balances.append((node, before, after))
            arcs["draw", self.commons, node, 0] = [max(0, balance - floor), max(0, before - after)]
            arcs["pay", node, self.commons, 0] = [max(0, ceiling - balance), max(0, after - before)]
            for what in (("draw", self.commons, node, 0), ("pay", node, self.commons, 0)):
                need(arcs[what][1] <= arcs[what][0], f"{node} goes past its limit")
        last, whole = None, True  # whole: every debt before, of this debtor to this creditor
        for o in self.debts:
            n, rest = (number(n) for n in r.take(f"line {o.id} ({NUMBER}) ({NUMBER})", f"line {o.id} DISCHARGED REST"))
            need(n <= o.open and rest == o.open - n, f"of {o.open} open, {n} discharged leaves no {rest}")
            need((o.debtor, o.creditor) != last or whole or n == 0, f"{n} discharged behind a debt that is not wholly discharged")
            whole = n == o.open and (whole or (o.debtor, o.creditor) != last)
            last = o.debtor, o.creditor
            arc = arcs.setdefault(("debt", o.debtor, o.creditor, min(self.day - o.day, self.age_cap)), [0, 0])
            arc[0], arc[1], self.discharged[o.id] = arc[0] + o.open, arc[1] + n, n
        r.take(f"end {len(self.debts)}", f"end {len(self.debts)}")
        r.end()
        self.total = sum(self.discharged.values())
        r.at = 5
        need(number(total) == self.total, f"{self.total} is discharged, not {total}")
        r.at = 6
        draws = sum(flow for (what, *_), (_, flow) in arcs.items() if what == "draw")
        need(number(drawn) == draws, f"{draws} is drawn, not {drawn}")
        r.at = 0
        net = dict.fromkeys(self.nodes, 0)
        for (_, a, b, _), (_, flow) in arcs.items():
            net[a], net[b] = net[a] - flow, net[b] + flow
        for node, n in net.items():
            need(n == 0, f"what {node} gives and gets differs by {n}")
        self.arcs = arcs

    def seed(self, k):
        u8 = bytes([len(self.unit)])
        roots = bytes.fromhex("".join(self.roots))
        return sha256("kith clearing lot v1\n", u8, self.unit, len(self.roots).to_bytes(4, "big"), roots, k.to_bytes(4, "big"))

    def lot(self, seed, a, b):
        return int.from_bytes(sha256(seed, bytes([len(a)]), a, bytes([len(b)]), b)[:3], "big")

    def gain(self, stage, arc):
        what, a, b, age = arc
        if stage == 0:
            return int(what == "debt")
        if stage == 1:
            return -int(what == "draw")
        if stage == 2:
            return age if what == "debt" else 0
        return self.lot(self.seeds[stage - 3], a, b)

    def read_proof(self, r, answer):
        """Optimal and unique."""
        r.take("kith-clearing-proof v1", "kith-clearing-proof v1")
        need(r.take(f"statement ({HEX})", "statement") == [sha256(answer).hex()], "it proves another answer")
        values = []
        for name in ["total", "draw", "age"] + [f"lot-{k}" for k in range(MAX_LOTS)]:
            g = r.maybe(f"stage {name} ({LONG})")
            if g is None:
                need(name.startswith("lot-"), f"no stage {name}")
                break
            values.append(number(g[0], 2**127 - 1, -2**127))
        potentials = {}
        for node in self.nodes:
            g = r.take(f"potential {node}" + f" ({SIGNED})" * len(values), f"potential {node} and {len(values)} numbers")
            potentials[node] = [number(n, MAX_AMOUNT, -MAX_AMOUNT) for n in g]
        r.take(f"end {len(self.nodes)}", f"end {len(self.nodes)}")
        r.end()
        self.seeds = [self.seed(k) for k in range(len(values) - 3)]
        left = {arc for arc, (capacity, _) in self.arcs.items() if capacity > 0}
        for stage, value in enumerate(values):
            r.at = 3 + stage
            among = left if stage >= 3 else self.arcs
            gains = {arc: self.gain(stage, arc) for arc in among}
            got = sum(gains[arc] * self.arcs[arc][1] for arc in among)
            need(got == value, f"the value of this stage is {got}")
            r.at, stays = 0, set()
            for arc in left:
                capacity, flow = self.arcs[arc]
                rest = gains[arc] - potentials[arc[1]][stage] + potentials[arc[2]][stage]
                need(rest <= 0 or flow == capacity, f"not optimal: in stage {stage} more could go from {arc[1]} to {arc[2]}")
                need(rest >= 0 or flow == 0, f"not optimal: in stage {stage} less should go from {arc[1]} to {arc[2]}")
                if rest == 0:
                    stays.add(arc)
            left = pruned(stays) if stage >= 2 else stays
        r.at = 0
        self.check_unique(left)

    def check_unique(self, left):
        tree = {}

        def find(n):
            while tree.get(n, n) != n:
                n = tree[n]
            return n

        rest = []
        for arc in left:
            capacity, flow = self.arcs[arc]
            if 0 < flow < capacity:
                a, b = find(arc[1]), find(arc[2])
                need(a != b, f"not the only answer: a circle through {arc[1]} and {arc[2]}")
                tree[a] = b
            else:
                rest.append((arc[1], arc[2]) if flow == 0 else (arc[2], arc[1]))
        leads, waits = {}, dict.fromkeys(map(find, self.nodes), 0)
        for a, b in rest:
            leads.setdefault(find(a), []).append(find(b))
            waits[find(b)] += 1
        free = [n for n, c in waits.items() if c == 0]
        while free:  # take out what nothing leads to, until a circle is left or nothing
            n = free.pop()
            del waits[n]
            for b in leads.get(n, []):
                waits[b] -= 1
                if waits[b] == 0:
                    free.append(b)
        need(not waits, f"not the only answer: a circle through {sorted(waits)[:2]}")


def pruned(arcs):
    arcs, ends = set(arcs), {}
    for arc in arcs:
        ends.setdefault(arc[1], set()).add(arc)
        ends.setdefault(arc[2], set()).add(arc)
    alone = [n for n, there in ends.items() if len(there) == 1]
    while alone:
        n = alone.pop()
        for arc in list(ends[n]):
            arcs.discard(arc)
            for end in arc[1:3]:
                ends[end].discard(arc)
                if len(ends[end]) == 1:
                    alone.append(end)
    return arcs


def divide(total, weights, event):
    """Division by weight: rounded down, and what is left over goes one each to the largest remainders."""
    whole = sum(weights)
    shares = [total * w // whole for w in weights]
    first = int.from_bytes(sha256("kith ledger rotation v1\n", event)[:8], "big") % len(weights)
    order = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), (i - first) % len(weights)))
    for i in order[:total - sum(shares)]:
        shares[i] += 1
    return shares


# --- the bundle ---------------------------------------------------------------------------------------------------------


def quoted(unit):
    return unit if re.fullmatch("[a-z]+", unit) else f'"{unit}"'


def date(day):
    need(day <= LAST_DATE, f"day {day} is past the year 9999, and has no date here")
    return (datetime.date(1970, 1, 1) + datetime.timedelta(day)).isoformat()


class Bundle:
    def __init__(self, files, pin=None, before=None):
        self.files, self.pin, self.before = files, pin, before
        self.seen = {"bundle.note"}

    def file(self, name):
        if name not in self.files:
            raise Wrong(name, 0, "it is missing")
        self.seen.add(name)
        return self.files[name]

    def lines(self, name):
        return Lines(name, self.file(name))

    def same(self, name, want):
        """Holds a file to what follows from others, byte for byte."""
        want = want if isinstance(want, bytes) else want.encode()
        got = self.file(name)
        if got == want:
            return
        for n, (a, b) in enumerate(zip(got.splitlines(True), want.splitlines(True)), 1):
            if a != b:
                raise Wrong(name, n, f"it is {a.decode('utf-8', 'replace').rstrip()!r}, what follows is {b.decode().rstrip()!r}")
        raise Wrong(name, 1 + min(got.count(b"\n"), want.count(b"\n")), "it ends before what follows, or goes on behind it")

    def verify(self):
        self.read_network()
        self.read_manifest()
        self.read_rules()
        self.read_opening()
        self.cut = self.read_cut("cut.txt")
        self.hold_to_opening()
        self.read_receipts("receipts", self.cut)
        self.read_excerpts()
        self.derive()
        self.walk()
        self.close()
        self.same("README.md", README % (self.period, self.network, self.operator_vkey))
        for name in self.files:
            if name not in self.seen:
                raise Wrong(name, 0, "a file that this period does not have")
        with Lines("bundle.note", self.files["bundle.note"]) as r:
            r.take("kith-bundle v1", "kith-bundle v1")
            r.take(f"network {self.network}", f"network {self.network}")
            r.take(f"period {self.period}", f"period {self.period}")
            r.take(f"statement {self.final_digest}", f"statement {self.final_digest}")
            r.take(f"seal {self.seal}", f"seal {self.seal}")

    # --- manifest, network, rules

    def read_network(self):
        with self.lines("network.txt") as r:
            r.take("kith-network v1", "kith-network v1")
            self.network, = r.take(f"network ({ID})", "network ID")
            self.operator_vkey, = r.take(f"operator ({VKEY})", "operator VKEY")
            self.operator = key_of(self.operator_vkey)
            need((self.operator.name, self.operator.kind) == (f"{self.network}/operator", 1), "no key of this network's operator")
            need(self.pin in (None, self.operator_vkey), f"the operator's key is {self.operator_vkey}, not {self.pin}")
            self.witness = key_of(r.take(f"witness ({VKEY})", "witness VKEY")[0])
            need((self.witness.name, self.witness.kind) == (f"{self.network}/hub-witness", 4), "no key of this network's witness")
            self.nodes, self.edges = [], {}
            while g := r.maybe(f"node ({ID})"):
                self.nodes.append(g[0])
                need(ascending(self.nodes[-2:]), "nodes are not ascending")
            while g := r.maybe(f"edge ({ID}) ({ID}) ({VKEY})"):
                key = key_of(g[2])
                need(not self.edges or list(self.edges)[-1] < g[0], "edges are not ascending")
                need(g[1] in self.nodes, f"a node {g[1]} that does not belong to the network")
                need(key.name == f"{self.network}/{g[1]}/{g[0]}" and key.kind == 1, "not a key of this edge")
                self.edges[g[0]] = g[1], key
            r.end()

    def read_manifest(self):
        with Lines("bundle.note", self.files["bundle.note"]) as r:
            text = open_note(self.files["bundle.note"], self.operator)
            head = text.split(b"\n")[:5]
            r.at = 5
            listed = []
            while g := r.maybe(f"file ({HEX}) ({NUMBER}) ([A-Za-z0-9./-]+)"):
                digest, size, name = g
                listed.append(name)
                if name not in self.files:
                    raise Wrong(name, 0, "the manifest names it, and the archive has no such file")
                content = self.files[name]
                if len(content) != int(size) or sha256(content).hex() != digest:
                    raise Wrong(name, 0, "it is not the file that the manifest names")
            need(len(head) == 5 and r.at == text.count(b"\n"), "not a line of a manifest")
            need(listed == sorted(n for n in self.files if n != "bundle.note"), "it does not name every file once, ascending")

    def read_rules(self):
        self.policy = sha256(self.file("policy.yaml")).hex()
        with self.lines("rules.txt") as r:
            self.rules = Rules(r, self.network)
        want = rules_of(self.files["policy.yaml"])
        self.policy_read = want is not None
        if self.policy_read:
            self.same("rules.txt", want)

    # --- opening, cut, receipts

    def read_opening(self):
        self.first = not any(name.startswith("opening/") for name in self.files)
        self.opening_cut, self.opening_balances, self.opening_day = {}, {}, None
        self.carry = []
        self.carry_lists = {"later": [], "void": [], "idle": [], "left": [], "used": []}
        if self.first:
            return
        self.opening_cut = self.read_cut("opening/cut.txt", opening=True)
        self.read_receipts("opening/receipts", self.opening_cut)
        with self.lines("opening/balances.txt") as r:
            tree = Tree()
            path = rf"{self.network}(?:/~?{ID}){{1,3}}"
            while r.at < len(r.lines):
                line = r.lines[r.at]
                account = f"({path}) ({ID}) ({NUMBER}) ({NUMBER}) 0 0 ({SIGNED})"
                p, unit, *sums, balance = r.take(account, "PATH UNIT and five numbers")
                debits, credits = (number(n, MAX_BOOK_SUM) for n in sums)
                need(int(balance) == credits - debits, "the balance is not what is left")
                need(not self.opening_balances or list(self.opening_balances)[-1] < (p, unit), "accounts are not ascending")
                self.opening_balances[p, unit] = debits, credits
                tree.append(leaf_hash(line + b"\n"))
        with self.lines("opening/carry.txt") as r:
            r.take("kith-carry v1", "kith-carry v1")
            self.before_period, = r.take(f"period ({ID})", "period NAME")
            root = tree.root().hex()
            seal, = r.take(f"seal ({HEX})", "seal ROOT")
            if seal != root:
                raise Wrong("opening/balances.txt", 0, f"its root is not the seal of {self.before_period}")
            while g := r.maybe(OBLIGATION):
                self.carry.append(Obligation.parse(g))
                need(ascending([o.id for o in self.carry[-2:]]), "obligations are not ascending")
            for word, pattern, read in (
                    ("later", ADDRESS, lambda o, i: (o, int(i))), ("void", ADDRESS, lambda o, i: (o, int(i))),
                    ("idle", ADDRESS, lambda o, i: (o, int(i))), ("left", f"({ID})", lambda n: n),
                    ("used", f"({ID}) ([0-9a-f]{{32}}) ({NUMBER})", lambda e, n, d: (e, n, int(d)))):
                values = self.carry_lists[word]
                while g := r.maybe(f"{word} {pattern}"):
                    values.append(read(*g))
                    need(ascending([v[:2] if word == "used" else v for v in values[-2:]]), f"{word} is not ascending")
            r.take(f"end {len(self.carry)}", f"end {len(self.carry)}")
            r.end()

    def read_cut(self, name, opening=False):
        cut = {}
        with self.lines(name) as r:
            r.take("kith-cut v1", "kith-cut v1")
            day = number(r.take(f"day ({NUMBER})", "day")[0], MAX_INT32)
            while g := r.maybe(f"checkpoint ({ORIGIN}) ({ID}) ({NUMBER}) ({HEX})"):
                origin, node, size, root = g
                net, place, edge, _ = origin[5:].split("/")
                need(len(origin) <= MAX_ORIGIN and net == self.network and place == node, "its origin is of another place")
                need(edge in self.edges and self.edges[edge][0] == node, f"{edge} is no edge of {node} in network.txt")
                need(not cut or list(cut)[-1] < origin, "checkpoints are not ascending")
                cut[origin] = node, number(size, 2**62 - 1), root
            need(len(cut) <= MAX_CHECKPOINTS, "too many checkpoints")
            have = {node for node, _, _ in cut.values()}
            missing = []
            while g := r.maybe(f"missing ({ID})"):
                missing.append(g[0])
            r.end()
            if opening:
                need(ascending(missing), "missing is not ascending")
                self.opening_day = day
            else:
                need(missing == [n for n in self.nodes if n not in have], "missing are not the nodes without a checkpoint")
                self.day, self.missing = day, missing
        return cut

    def hold_to_opening(self):
        if self.before:
            if self.operator_vkey != self.before.operator_vkey:
                raise Wrong("network.txt", 3, f"{self.operator_vkey}, but the period before was closed under {self.before.operator_vkey}")
            want = {"opening/" + name.removeprefix("ledger/"): content for name, content in self.before.files.items()
                    if name in ("cut.txt", "carry.txt", "ledger/balances.txt") or name.startswith("receipts/")}
            for name, content in want.items():
                self.same(name, content)
            for name in self.files:
                if name.startswith("opening/") and name not in want:
                    raise Wrong(name, 0, "the period before has no such file")
        if self.first:
            return
        with Lines("cut.txt", self.files["cut.txt"]) as r:
            r.at = 2
            need(self.day >= self.opening_day, "it is before the cut of the period before")
            r.at = 0
            for origin, (_, size, root) in self.opening_cut.items():
                need(origin in self.cut, f"{origin} of the period before is not there")
                _, now, new = self.cut[origin]
                need(now > size or now == size and new == root, f"{origin} has gone back, or is another at the same size")

    def read_receipts(self, folder, cut):
        for n, (origin, (node, size, root)) in enumerate(cut.items(), 1):
            name, edge = f"{folder}/{n:05}.note", self.edges[origin.split("/")[2]][1]
            with self.lines(name) as r:
                text, signatures = split_note(self.files[name])
                self.same_text(r, text, f"{origin}\n{size}\n{base64.b64encode(bytes.fromhex(root)).decode()}\n")
                need(len(signatures) == 2, f"{len(signatures)} signatures, want two")
                co = [s for who, s in signatures if who == self.witness.name and s[:4] == self.witness.id]
                own = [s for who, s in signatures if who == edge.name]
                need(len(co) == 1 and len(own) == 1, f"want a signature of {edge.name} and the co-signature")
                need(verifies(self.witness, text, co[0][4:]), "the co-signature does not verify")
                need(own[0][:4] != edge.id or verifies(edge, text, own[0][4:]), f"the signature of {edge.name} does not verify")

    @staticmethod
    def same_text(r, got, want):
        for n, (a, b) in enumerate(zip(got.split(b"\n"), want.encode().split(b"\n")), 1):
            r.at = n
            need(a == b, f"it is {a.decode('utf-8', 'replace')!r}, what follows is {b.decode()!r}")
        r.at = 0
        need(got == want.encode(), "another number of lines")

    # --- excerpts

    def read_excerpts(self):
        self.shown = []  # (address, line), ascending
        for n, (origin, (_, size, root)) in enumerate(self.cut.items(), 1):
            before, old = self.opening_cut.get(origin, (None, 0, None))[1:]
            with self.lines(f"journals/{n:05}.txt") as r:
                for want in ("kith-excerpt v1", f"origin {re.escape(origin)}", f"from {before}", f"to {size}"):
                    r.take(want, want)
                self.read_excerpt(r, origin, before, old, size, root)

    def read_excerpt(self, r, origin, before, old, size, root):
        at, nodes, marked = 0, [], False  # nodes: (level, hash) of perfect subtrees, largest first

        def root_now():
            if not nodes:
                return sha256().hex()
            h = nodes[-1][1]
            for _, left in reversed(nodes[:-1]):
                h = inner_hash(left, h)
            return h.hex()

        while True:
            if r.maybe(f"mark {before}") is not None:
                need(at == before and not marked, f"the mark stands at {at}")
                need(old is None or root_now() == old, "the root here is not the one of opening/cut.txt")
                marked = True
                continue
            if r.maybe(f"end {size}") is not None:
                break
            if g := r.maybe(f"node ({NUMBER}) ({HEX})"):
                level, h = number(g[0], MAX_LEVEL), bytes.fromhex(g[1])
                need(at % (1 << level) == 0, f"a subtree of level {level} cannot begin at leaf {at}")
                need(not at < before < at + (1 << level), "a subtree over the mark")
            else:
                need(r.at < len(r.lines) and r.lines[r.at].startswith(b"leaf "), "want leaf, node, mark or end")
                line = r.lines[r.at][5:]
                r.at += 1
                need(1 <= len(line) <= 4096, f"a leaf of {len(line)} bytes")
                level, h = 0, leaf_hash(line)
                self.shown.append(((origin, at), line))
            at += 1 << level
            need(at <= size, f"more than {size} leaves")
            while nodes and nodes[-1][0] == level:
                level, h = level + 1, inner_hash(nodes.pop()[1], h)
            nodes.append((level, h))
        need(marked and at == size, f"it ends at {at} leaves, or has no mark")
        need(root_now() == root, "the root of these leaves is not the one in cut.txt: one of them was changed")
        r.end()

    # --- from leaves to obligations

    def derive(self):
        rules = self.rules
        entries, points, unreadable = {}, {}, []
        later, idle = set(self.carry_lists["later"]), set(self.carry_lists["idle"])
        listed = self.listed = {}  # asides.txt

        def is_old(address):
            return address[1] < self.opening_cut.get(address[0], (None, 0))[1]

        def aside(e, why):
            if e.aside is None:
                e.aside = why
                if not e.old or e.later:
                    listed[e.address] = why

        for address, line in self.shown:  # 1: read
            leaf = read_leaf(line)
            if leaf is None or (leaf.origin, leaf.index) != address:
                continue
            if leaf.kind == "replayed":
                leaf = carried(leaf)
                if leaf is None:
                    continue
                points[leaf.origin, leaf.index] = address
            if leaf.kind not in ECONOMIC:
                continue
            old, late = is_old(address), address in later
            try:
                entries[address] = Entry(address, leaf, old, late)
            except Difference:
                if not old or late:
                    listed[address] = "unreadable"
        for e in entries.values():  # 2: known houses
            if e.home not in self.nodes:
                aside(e, "unknown-home")
            elif e.place in self.carry_lists["left"] or e.home in self.carry_lists["left"]:
                aside(e, "node-left")
        twice = set()
        for address, to in list(points.items()):  # 3: carried twice
            a, b = entries.get(address), entries.get(to)
            if a and b and (a.kind, a.body) == (b.kind, b.body):
                aside(b, "carried-twice")
                twice.add(to)
                del points[address]
        used = {(edge, nonce) for edge, nonce, _ in self.carry_lists["used"]}
        self.used = {}
        for e in entries.values():  # 4: nonces
            if not e.nonce or e.old or e.address in twice:
                continue
            if (e.edge, e.nonce) in used:
                aside(e, "nonce-used")
                continue
            used.add((e.edge, e.nonce))
            self.used[e.edge, e.nonce] = e.day
            if self.opening_day is not None and e.day < self.opening_day - NONCE_DAYS:
                aside(e, "too-old")
        void, back = set(self.carry_lists["void"]), []
        for e in entries.values():  # 5: corrections
            if not e.corrects or e.old or e.aside:
                continue
            target = points.get(e.corrects, e.corrects)
            t = entries.get(target)
            if t is None or t is e:
                aside(e, "corrects-nothing")
                continue
            if target in void:
                aside(e, "corrects-twice")
                continue
            void.add(target)
            if not t.old or t.later:
                aside(t, "corrected")
            elif not t.aside and target not in idle:
                back.append((t, e))
            if e.quantity == 0:
                aside(e, "taken-back")
        self.void = void
        self.put_off, capped, made = set(), {}, []

        def oblige(domain, address, *rest):
            o = Obligation(sha256(f"{domain}\n{address[0]}\n{address[1]}\n{rules.version}\n").hex(), *rest)
            made.append(o)
            return o

        for e in entries.values():  # 6: events, and 7: obligations
            if e.aside or e.old and not e.later:
                continue
            price = rules.prices.get((e.kind, e.resource))
            if e.home == e.place:
                aside(e, "same-home")
            elif price is None:
                aside(e, "no-price")
            elif e.day > self.day:
                aside(e, "dated-later")
                self.put_off.add(e.address)
            elif e.evidence == "C" and rules.hold:
                aside(e, "held")
                self.put_off.add(e.address)
            else:
                unit, amount = price[0], price[1] * e.quantity
                if e.evidence == "C" and unit in rules.caps:
                    so_far = capped.get((e.home, e.place, unit), 0)
                    if amount > rules.caps[unit] - so_far:
                        aside(e, "capped")
                        continue
                    capped[e.home, e.place, unit] = so_far + amount
                debtor, creditor = (e.home, e.place) if e.kind in ("use", "consume") else (e.place, e.home)
                o = oblige("kith obligation v1", e.address, debtor, creditor, unit, amount, e.day, e.evidence,
                           "leaf %s %d" % e.address)
                o.unsure = e.unsure
        for t, e in back:  # 8: taken back
            price = rules.prices.get((t.kind, t.resource))
            if price is None or t.home == t.place or t.quantity == 0:
                continue
            creditor, debtor = (t.home, t.place) if t.kind in ("use", "consume") else (t.place, t.home)
            o = oblige("kith correction v1", e.address, debtor, creditor, price[0], price[1] * t.quantity, min(e.day, self.day),
                       e.evidence, "correction %s %d" % e.address)
            o.unsure = e.unsure
        cut_digest, shared = sha256(self.files["cut.txt"]), []

        def commons_id(what):
            return sha256("kith commons v1\n", cut_digest, f"{rules.version}\n{what}\n")

        def share_out(what, debtor, creditor, unit, amount):
            shared.append(Obligation(commons_id(what).hex(), debtor, creditor, unit, amount, self.day, "B", "commons"))

        for unit, num, den in rules.dues:  # 9: dues
            weights = {}
            gross = 0
            for o in made:
                if o.unit == unit and rules.commons not in (o.debtor, o.creditor):
                    gross += o.amount
                    weights[o.debtor] = weights.get(o.debtor, 0) + o.amount
                    weights[o.creditor] = weights.get(o.creditor, 0) + o.amount
            total, nodes = gross * num // den, sorted(weights)
            if total:
                for node, share in zip(nodes, divide(total, [weights[n] for n in nodes], commons_id(f"dues {unit}"))):
                    if share:
                        share_out(f"dues {unit} {node}", node, rules.commons, unit, share)
        for i, (node, unit, amount, reason) in enumerate(rules.grants):  # 10: grants
            share_out(f"grant {i} {unit} {node} {reason}", rules.commons, node, unit, amount)
        self.new = {o.id for o in made + shared}
        self.obligations = sorted(made + shared + self.carry, key=lambda o: o.id)
        need(ascending([o.id for o in self.obligations]), "an obligation stands twice")
        self.by_id = {o.id: o for o in self.obligations}
        self.same("obligations.txt", "kith-obligations v1\n" + "".join(o.line() for o in self.obligations) +
                  f"end {len(self.obligations)}\n")
        self.same("asides.txt", "kith-asides v1\n" + "".join(f"aside {o} {i} {why}\n" for (o, i), why in sorted(listed.items())) +
                  f"end {len(listed)}\n")

    # --- steps

    def clearable(self):
        return [o for o in self.obligations if o.open and not o.frozen and (o.dispute is None or o.dispute[2] == "stand")]

    def walk(self):
        self.state, self.statements, self.current = "open", [], None
        self.born, self.left = [], []
        self.voided_by_dispute = set()
        n = 0
        while self.state != "posted":
            n += 1
            name = f"steps/{n:05}.json"
            with self.lines(name) as r:
                need(len(r.lines) == 1, "not one line")
                r.at = 1
                self.step(read_step(r.lines[0]))

    def step(self, s):
        do = s["do"]
        states = {"draw": ["open"], "propose": ["cut"], "confirm": ["proposed"], "finalise": ["proposed"], "exit": ["final"],
                  "book": ["final"]}.get(do, ["cut", "proposed"])
        need(self.state in states, f"{do} when the period is {self.state}")
        getattr(self, do)(s)

    def withdraw(self):
        self.current, self.state = None, "cut"

    def dispute_of(self, s):
        o = self.by_id.get(s["obligation"])
        need(o, "an obligation that is not there")
        return o

    def draw(self, s):
        need(self.first or s["period"] != self.before_period, "a period cannot follow itself")
        need(all(o.day <= self.day for o in self.obligations), "an obligation of a day after the cut")
        self.period, self.state = s["period"], "cut"

    def propose(self, s):
        number, cases = len(self.statements) + 1, {}
        need(not self.statements or s["at"] >= self.statements[-1]["at"], "it is proposed before an earlier statement")
        folder, clearable = f"statements/{number:03}", self.clearable()
        roots = sorted(root for _, _, root in self.cut.values())
        for unit in sorted({o.unit for o in clearable}):
            c = Clearing(unit, self.day, self.rules.age_days, self.rules.commons, roots,
                         [[n, self.pool_before(n, unit), *limit] for (n, u), limit in self.rules.limits.items() if u == unit],
                         [o for o in clearable if o.unit == unit])
            self.same(f"{folder}/{unit}.case.txt", c.text)
            with self.lines(f"{folder}/{unit}.answer.txt") as r:
                c.read_answer(r)
            c.answer = self.files[f"{folder}/{unit}.answer.txt"]
            with self.lines(f"{folder}/{unit}.proof.txt") as r:
                c.read_proof(r, c.answer)
            cases[unit] = c
        disputed = [o.id for o in self.obligations if o.open and o.dispute and o.dispute[2] is None]
        frozen = [o.id for o in self.obligations if o.open and o.frozen and o.id not in set(disputed)]
        text = "".join(
            [f"kith-settlement-statement v1\nnetwork {self.network}\nperiod {self.period}\nnumber {number}\n"
             f"policy {self.policy}\ncut {sha256(self.files['cut.txt']).hex()}\n"] + [f"missing {n}\n" for n in self.missing] +
            [f"unit {u} {sha256(c.text).hex()} {sha256(c.answer).hex()} {c.gross} {c.total}\n" for u, c in cases.items()] +
            [f"disputed {id}\n" for id in disputed] + [f"frozen {id}\n" for id in frozen])
        name = f"{folder}/statement.note"
        with self.lines(name) as r:
            self.same_text(r, split_note(self.files[name])[0], text)
            open_note(self.files[name], self.operator)
        self.current = {"number": number, "at": s["at"], "cases": cases, "digest": sha256(text).hex(), "yes": set(),
                        "parties": {n for o in clearable for n in (o.debtor, o.creditor)}}
        self.statements.append(self.current)
        self.state = "proposed"

    def pool_before(self, node, unit):
        debits, credits = self.opening_balances.get((f"{self.network}/{node}", unit), (0, 0))
        return credits - debits

    def confirm(self, s):
        need(s["number"] == self.current["number"], "it confirms another statement")
        need(s["node"] in self.current["parties"], f"{s['node']} is no party")
        self.current["yes"].add(s["node"])

    def challenge(self, s):
        o = self.dispute_of(s)
        need(s["node"] in (o.debtor, o.creditor), f"{s['node']} is neither debtor nor creditor")
        need(o.dispute is None, "it is disputed already")
        if self.current:
            need(s["at"] <= self.current["at"] + self.rules.window, "the window is over")
        o.dispute = [s["node"], s["at"], None]
        self.withdraw()

    def decide(self, s):
        o = self.dispute_of(s)
        need(o.dispute and o.dispute[2] is None, "there is no dispute to decide")
        need(s["node"] in self.nodes and s["node"] not in (o.debtor, o.creditor), f"{s['node']} is no third node of the network")
        self.settle(o, s["outcome"])

    def lapse(self, s):
        for o in self.obligations:
            if o.dispute and o.dispute[2] is None and o.dispute[1] + self.rules.answer <= s["at"]:
                self.settle(o, "void" if o.evidence == "C" else "stand")

    def settle(self, o, outcome):
        o.dispute[2] = outcome
        if outcome == "stand":
            self.withdraw()
            return
        if o.source.startswith("leaf "):
            _, origin, index = o.source.split(" ")
            self.void.add((origin, int(index)))
        self.waive(o)

    @staticmethod
    def waive(o):
        o.now_waived += o.open
        o.waived += o.open

    def finalise(self, s):
        c = self.current
        need(s["number"] == c["number"], "it finalises another statement")
        need(s["at"] >= c["at"] + self.rules.window or c["yes"] >= c["parties"],
             "the window is not over, and not every party has confirmed")
        self.final, self.final_digest, self.pool = c, c["digest"], {}
        for unit, case in c["cases"].items():
            for id, n in case.discharged.items():
                self.by_id[id].discharged += n
                self.by_id[id].now_discharged = n
            for node, _, after in case.balances:
                self.pool[node, unit] = after
        self.state = "final"

    def exit(self, s):
        node, choices = s["node"], {}
        gone = [self.rules.commons] + self.left + self.carry_lists["left"]
        need(node in self.nodes and node not in gone, f"{node} is not there to leave")
        for c in s["choices"]:
            o = self.by_id.get(c["obligation"])
            need(o and o.open and node in (o.debtor, o.creditor), f"{node} has no such obligation")
            need(o.id not in choices, "two choices about one obligation")
            need(o.creditor in c["by"] and (c["remainder"] == "waive" or o.debtor in c["by"]), "the parties have not agreed")
            need(c["remainder"] == "serve-in-kind" or "until" not in c, "until goes with serve-in-kind alone")
            choices[o.id] = c
        owes, owed = {}, {}
        for o in sorted(self.by_id.values(), key=lambda o: o.id):
            if not o.open or node not in (o.debtor, o.creditor):
                continue
            c = choices.get(o.id, {"remainder": "freeze"})
            if c["remainder"] == "waive":
                self.waive(o)
            elif c["remainder"] == "novate":
                self.novate(o)
                sums = owes if o.debtor == node else owed
                sums[o.unit] = sums.get(o.unit, 0) + o.now_novated
            else:
                o.frozen = 1
                if c["remainder"] == "serve-in-kind":
                    o.until = c.get("until", 0)
                    need(o.until >= o.day, "until is before the obligation's day")
        for unit in owes.keys() | owed.keys():
            need((node, unit) in self.rules.limits, f"{node} has no limit in {unit}")
            floor, ceiling = self.rules.limits[node, unit]
            balance = self.pool.get((node, unit), self.pool_before(node, unit))
            need(balance - owes.get(unit, 0) >= floor and balance + owed.get(unit, 0) <= ceiling,
                 f"{node} leaves past its limit in {unit}")
        self.left.append(node)

    def novate(self, o):
        commons = self.rules.commons
        need(commons != "-" and commons not in (o.debtor, o.creditor), "nothing to novate with the commons")
        for way, debtor, creditor in (("in", o.debtor, commons), ("out", commons, o.creditor)):
            id = sha256("kith novation v1\n", bytes.fromhex(o.id), way + "\n").hex()
            need(id not in self.by_id, "an obligation stands twice")
            new = Obligation(id, debtor, creditor, o.unit, o.open, o.day, o.evidence, "novation")
            self.by_id[id] = new
            self.born.append(new)
        o.now_novated = o.open
        o.discharged += o.open

    def book(self, s):
        self.state = "posted"

    # --- books, carry, breaches

    def close(self):
        self.derive_entries()
        self.derive_balances()
        self.derive_journal()
        self.derive_carry()
        self.derive_breaches()

    def derive_entries(self):
        rules, entries = self.rules, []
        settling = f"kith.{self.network}/settlement/{self.period}"

        def enter(journal, index, part, day, unsure, a, b):
            assert a[2] and a[2] + b[2] == 0
            id = sha256(f"kith ledger entry v1\n{journal}\n{index}\n{rules.version}\n{part}\n").hex()
            entries.append((journal, index, part, id, day * DAY_MS, unsure, [a, b]))

        def due(journal, index, part, o, amount, day=self.day, unsure=False):
            enter(journal, index, part, day, unsure, (f"{self.network}/{o.debtor}/~due/{o.creditor}", o.unit, amount),
                  (f"{self.network}/{o.creditor}/~due/{o.debtor}", o.unit, -amount))

        for place, o in enumerate(self.obligations):
            if o.id in self.new:
                word, *address = o.source.split(" ")
                if word == "commons":
                    due(settling, place, 0, o, -o.amount, o.day)
                else:
                    due(address[0], int(address[1]), int(word == "correction"), o, -o.amount, o.day, o.unsure)
            for part, amount in (2, o.now_discharged), (3, o.now_waived), (4, o.now_novated):
                if amount:
                    due(settling, place, part, o, amount)
        for place, o in enumerate(sorted(self.born, key=lambda o: o.id)):
            due(f"{settling}/~exit", place, 0, o, -o.amount)
            if o.now_waived:  # by a second house that left
                due(f"{settling}/~exit", place, 3, o, o.now_waived)
        for unit, case in self.final["cases"].items():
            for place, (node, before, after) in enumerate(case.balances):
                if before != after:
                    enter(f"{settling}/{unit}", place, 0, self.day, False, (f"{self.network}/{node}", unit, after - before),
                          (f"{self.network}/~commons", unit, before - after))
        self.entries = sorted(entries, key=lambda e: e[:3])
        need(ascending([e[:3] for e in self.entries]), "an entry stands twice")
        self.same("ledger/entries.jsonl", "".join(
            json.dumps({"id": id, "journal": journal, "index": index, "rule": rules.version, "part": part, "kind": "post",
                        "standing": "fact", "at": at, "unsure": unsure, "postings": postings}, separators=(",", ":")) + "\n"
            for journal, index, part, id, at, unsure, postings in self.entries))

    def derive_balances(self):
        sums = {account: list(v) for account, v in self.opening_balances.items()}
        for *_, postings in self.entries:
            for path, unit, amount in postings:
                sums.setdefault((path, unit), [0, 0])[amount > 0] += abs(amount)
        tree, lines, self.balances = Tree(), [], {}
        for (path, unit), (debits, credits) in sorted(sums.items()):
            need(max(debits, credits) <= MAX_BOOK_SUM, f"the totals of {path} are too large")
            self.balances[path, unit] = credits - debits
            lines.append(f"{path} {unit} {debits} {credits} 0 0 {credits - debits}\n")
            tree.append(leaf_hash(lines[-1].encode()))
        self.seal = tree.root().hex()
        self.same("ledger/balances.txt", "".join(lines))
        self.same("ledger/seal.txt", f"kith-ledger-seal v1\nperiod {self.period}\naccounts {len(lines)}\nroot {self.seal}\n")

    def derive_journal(self):
        def colons(path):
            return path.replace("/", ":")

        out = [f"; Books of {self.network} for {self.period}. Check: hledger check -s -f journal.hledger, "
               "or ledger --strict --pedantic -f journal.hledger bal\n\n"]
        out += [f"commodity {quoted(u)}\n" for u in self.rules.units]
        out += [f"account {colons(p)}\n" for p in dict.fromkeys(p for p, _ in self.balances)]
        opening = [(p, u, c - d) for (p, u), (d, c) in self.opening_balances.items() if c != d]
        if opening:
            out.append(f"\n{date(self.opening_day)} opening balances\n")
            out += [f"    {colons(p)}  {n} {quoted(u)}\n" for p, u, n in opening]
        for _, _, _, id, at, _, postings in self.entries:
            out.append(f"\n{date(at // DAY_MS)} {id}\n")
            out += [f"    {colons(p)}  {n} {quoted(u)}\n" for p, u, n in postings]
        out.append(f"\n{date(self.day)} closing balances of {self.period}\n")
        out += [f"    {colons(p)}  0 {quoted(u)} = {n} {quoted(u)}\n" for (p, u), n in self.balances.items()]
        self.same("ledger/journal.hledger", "".join(out))

    def derive_carry(self):
        shown, lists = {a for a, _ in self.shown}, self.carry_lists
        self.open_after = [o for _, o in sorted(self.by_id.items()) if o.open]
        later = self.put_off | {a for a in lists["later"] if a not in shown}
        idle = {a for a, why in self.listed.items() if why in IDLE} | set(lists["idle"])
        used = {(e, n): d for e, n, d in lists["used"]} | self.used
        out = [f"kith-carry v1\nperiod {self.period}\nseal {self.seal}\n"] + [o.line() for o in self.open_after]
        for word, addresses in ("later", later), ("void", self.void), ("idle", idle):
            out += ["%s %s %d\n" % (word, *a) for a in sorted(addresses)]
        out += [f"left {n}\n" for n in sorted(set(lists["left"]) | set(self.left))]
        out += [f"used {e} {n} {d}\n" for (e, n), d in sorted(used.items()) if d >= self.day - NONCE_DAYS]
        self.same("carry.txt", "".join(out) + f"end {len(self.open_after)}\n")

    def derive_breaches(self):
        self.breaches = []
        for (node, unit), (floor, ceiling) in self.rules.limits.items():
            balance = self.balances.get((f"{self.network}/{node}", unit), 0)
            due = sum(o.open * ((o.creditor == node) - (o.debtor == node)) for o in self.open_after if o.unit == unit)
            if not floor <= balance <= ceiling or not floor <= balance + due <= ceiling:
                self.breaches.append((node, unit, floor, ceiling, balance, due))
        self.same("breaches.txt", "kith-breaches v1\n" + "".join("breach %s %s %d %d %d %d\n" % b for b in self.breaches) +
                  f"end {len(self.breaches)}\n")

    # --- what was proven

    def report(self):
        out = {"ok": True, "network": self.network, "period": self.period, "day": date(self.day), "operator": self.operator_vkey,
               "pinned": self.pin is not None, "policy": f"{self.rules.version} {self.policy}", "statement": self.final["number"],
               "seal": self.seal}
        if not self.first:
            out["follows"] = self.before_period
        out |= {"journals": len(self.cut), "shown": len(self.shown)}
        if self.missing:
            out["missing"] = self.missing
        if self.final["cases"]:
            out["units"] = [{"unit": u, "gross": c.gross, "cleared": c.total} for u, c in self.final["cases"].items()]
        if self.breaches:
            out["breaches"] = [dict(zip(("node", "unit", "floor", "ceiling", "balance", "open"), b)) for b in self.breaches]
        return out | {"asides": len(self.listed), "copies": list(self.listed.values()).count("nonce-used")}


# --- a proof of balance -------------------------------------------------------------------------------------------------

MAX_PROOF, MAX_PROOF_LINE, MAX_ACCOUNTS, MAX_PATH = 2**26, 2047, 2**24, 24
PROOF = b"kith-balance v1"


def leads_to(root, size, index, leaf, path):
    """Whether a leaf is the index-th of a tree of that size and root: RFC 9162, section 2.1.3.2."""
    last, h = size - 1, leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            return False
        if index & 1 or index == last:
            h = inner_hash(sibling, h)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            h = inner_hash(h, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and h == root


class Proof:
    """What one house keeps of a closed period: its balances, the way from each to the seal, and the manifest that signs it."""

    def __init__(self, b, pin=None):
        need(len(b) <= MAX_PROOF, f"a proof of {len(b)} bytes")
        self.pin, self.rows = pin, []
        with Lines("the proof of balance", b) as r:
            self.read(r)
            self.check_manifest(r, b"".join(line + b"\n" for line in r.lines[r.at:]))
            for i, (index, line, path) in enumerate(self.leaves):
                r.at = 8 + 2 * i
                need(leads_to(bytes.fromhex(self.seal), self.count, index, line.encode() + b"\n", path), "it does not lead to the seal")

    def read(self, r):
        def take(pattern, what):
            need(r.at == len(r.lines) or len(r.lines[r.at]) <= MAX_PROOF_LINE, f"a line of more than {MAX_PROOF_LINE} bytes")
            return r.take(pattern, what)

        take(PROOF.decode(), PROOF.decode())
        self.network, = take(f"network ({ID})", "network ID")
        self.period, = take(f"period ({ID})", "period NAME")
        self.node, = take(f"node ({ID})", "node ID")
        self.operator_vkey, = take(f"operator ({VKEY})", "operator VKEY")
        self.operator = key_of(self.operator_vkey)
        need((self.operator.name, self.operator.kind) == (f"{self.network}/operator", 1), "no key of this network's operator")
        need(self.pin in (None, self.operator_vkey), f"the operator's key is {self.operator_vkey}, not {self.pin}")
        self.count = number(take(f"accounts ({NUMBER})", "accounts COUNT")[0], MAX_ACCOUNTS, 1)
        self.seal, = take(f"seal ({HEX})", "seal ROOT")
        self.leaves, path = [], rf"{self.network}/{self.node}(?:/~?{ID}){{0,2}}"
        while not (g := r.maybe(f"end ({NUMBER})")):
            index, line = take(f"account ({NUMBER}) ({path} (?:{ID}) (?:{NUMBER}) (?:{NUMBER}) 0 0 (?:{SIGNED}))", "account INDEX LINE, or end")
            index = number(index, self.count - 1)
            need(not self.leaves or self.leaves[-1][0] < index, "accounts are not ascending")
            account, unit, debits, credits, _, _, balance = line.split(" ")
            debits, credits = number(debits, MAX_BOOK_SUM), number(credits, MAX_BOOK_SUM)
            need(int(balance) == credits - debits, "the balance is not what is left")
            self.rows.append({"account": account, "unit": unit, "debits": debits, "credits": credits, "balance": credits - debits})
            hashes, = take(f"path((?: {HEX}){{0,{MAX_PATH}}})", "path HASH...")
            self.leaves.append((index, line, [bytes.fromhex(h) for h in hashes.split()]))
        need(self.leaves and g[0] == str(len(self.leaves)), f"there are {len(self.leaves)} accounts")

    def check_manifest(self, r, manifest):
        open_note(manifest, self.operator)
        r.take("kith-bundle v1", "kith-bundle v1")
        for line in f"network {self.network}", f"period {self.period}":
            r.take(line, line)
        r.take(f"statement {HEX}", "statement HASH")
        r.take(f"seal {self.seal}", f"seal {self.seal}")
        seal = f"kith-ledger-seal v1\nperiod {self.period}\naccounts {self.count}\nroot {self.seal}\n".encode()
        names = []
        while g := r.maybe(f"file ({HEX}) ({NUMBER}) ([A-Za-z0-9./-]{{1,100}})"):
            digest, size, name = g
            need(".." not in name and name[0] != "/" != name[-1], "not the name of a file")
            names.append(name)
            need(ascending(names[-2:]), "files are not ascending")
            need(name != "ledger/seal.txt" or (digest, size) == (sha256(seal).hex(), str(len(seal))), "the seal is another one")
        need("ledger/seal.txt" in names, "it names no ledger/seal.txt")
        need(r.lines[r.at] == b"", "not a line of a manifest")

    def report(self):
        return {"ok": True, "network": self.network, "period": self.period, "node": self.node, "operator": self.operator_vkey,
                "pinned": self.pin is not None, "seal": self.seal, "accounts": self.count, "balances": self.rows}

    def tell(self, path):
        print(f"verified: {path}: balances of {self.node} in period {self.period} of {self.network}, seal {self.seal}, "
              f"operator {self.operator_vkey}")
        for row in self.rows:
            print("  %(account)s %(balance)d %(unit)s" % row)


STEPS = {  # do -> its keys
    "draw": {"period"},
    "propose": {"at"},
    "confirm": {"number", "node"},
    "challenge": {"at", "obligation", "node", "note"},
    "decide": {"obligation", "node", "outcome", "note"},
    "lapse": {"at"},
    "finalise": {"at", "number"},
    "exit": {"node", "choices"},
    "book": set(),
}
FIELDS = {"do": "|".join(STEPS), "period": ID, "at": None, "number": None, "obligation": HEX, "node": ID,
          "outcome": "stand|amend|void", "note": HEX, "choices": None}
REMAINDERS = "serve-in-kind|waive|freeze|novate"


def read_step(line):
    try:
        s = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise Difference(f"not JSON: {e}")
    need(isinstance(s, dict) and s.keys() <= FIELDS.keys() and isinstance(s.get("do"), str) and s["do"] in STEPS, "not a step")
    need(STEPS[s["do"]] - {"at", "choices"} <= s.keys() - {"do"} <= STEPS[s["do"]], f"the keys of {s['do']} are {sorted(s)}")
    for key, v in s.items():
        if key in ("at", "number"):
            need(type(v) is int and 0 < v < 2**63, key)
        elif key == "choices":
            need(isinstance(v, list) and v, key)
            for c in v:
                read_choice(c)
        else:
            need(isinstance(v, str) and re.fullmatch(FIELDS[key], v), key)
    ordered = {k: s[k] for k in FIELDS if k in s}
    need(json.dumps(ordered, separators=(",", ":")).encode() == line, "spelt in another way")
    return {"at": 0, "choices": []} | s


def read_choice(c):
    need(isinstance(c, dict) and {"obligation", "remainder", "by"} <= c.keys(), "not a choice")
    need(list(c) == [k for k in ("obligation", "remainder", "by", "until") if k in c], "keys of a choice")
    need(isinstance(c["obligation"], str) and re.fullmatch(HEX, c["obligation"]), "obligation of a choice")
    need(isinstance(c["remainder"], str) and re.fullmatch(REMAINDERS, c["remainder"]), "remainder of a choice")
    need(isinstance(c["by"], list) and all(isinstance(n, str) and re.fullmatch(ID, n) for n in c["by"]) and ascending(c["by"]),
         "by of a choice")
    need("until" not in c or type(c["until"]) is int and 0 < c["until"] <= MAX_INT32, "until of a choice")


def check(path, pin, before):
    """A verified bundle or proof of balance, or a difference and where it is."""
    try:
        with open(path, "rb") as f:
            content = f.read()
        if content.startswith(PROOF):
            return Proof(content, pin), None
        b = Bundle(read_archive(content), pin, before)
        b.verify()
        return b, None
    except Difference as e:
        return None, e if isinstance(e, Wrong) else Wrong("the bundle", 0, str(e))


def tell(path, b, e, as_json):
    if as_json and e:
        print(json.dumps({"ok": False, "difference": {"file": e.file, "line": e.line, "what": e.why}}))
    elif as_json:
        print(json.dumps(b.report()))
    elif e:
        print(f"NOT VERIFIED: {path}: {e}")
    elif isinstance(b, Proof):
        b.tell(path)
    else:
        r = b.report()
        print(f"verified: {path}: period {r['period']} of {r['network']}, {r['journals']} journals, {r['shown']} leaves shown, "
              f"seal {r['seal']}, operator {r['operator']}")
        if not b.policy_read:
            print("  policy.yaml is held to the statement by its hash and not read: its YAML is beyond this verifier")


def main():
    args = argparse.ArgumentParser(description="Verifies the audit bundles of closed periods, and proofs of balance.")
    args.add_argument("--operator", metavar="VKEY", help="the operator's verifier key, as your house was given it")
    args.add_argument("--json", action="store_true")
    args.add_argument("--apart", action="store_true", help="each bundle for itself")
    args.add_argument("files", nargs="+", metavar="FILE")
    args = args.parse_args()
    before, code = None, 0
    for path in args.files:
        b, e = check(path, args.operator, before)
        tell(path, b, e, args.json)
        code = code or int(e is not None)
        if e and not args.apart:
            break
        if not isinstance(b, Proof):
            before = None if args.apart else b
    return code


if __name__ == "__main__":
    sys.exit(main())
