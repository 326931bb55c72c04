-- Portable on purpose: INTEGER is 64 bit, BLOB becomes BYTEA and AUTOINCREMENT an identity column on PostgreSQL.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

-- One row per (edge, epoch): how far we hold it, and what was co-signed.
CREATE TABLE logs (
  id           INTEGER PRIMARY KEY,
  edge         TEXT NOT NULL,
  node         TEXT NOT NULL,
  epoch        BLOB NOT NULL,
  size         INTEGER NOT NULL,
  root         BLOB NOT NULL,
  tree         BLOB NOT NULL,             -- compact range: 32-byte hashes of the perfect subtrees, left to right
  receipt      BLOB,
  receipt_size INTEGER NOT NULL DEFAULT 0,
  status       TEXT NOT NULL,
  boot         TEXT NOT NULL,
  backup       INTEGER NOT NULL DEFAULT 0,
  UNIQUE (edge, epoch)
);

-- Leaves as they were received: one row a batch, leaf lines joined by newlines. seq is the order of arrival.
-- tree is the compact range just after this bundle, so that any old head and any proof is a matter of a few rows.
-- A lost row is a gap: n leaves that were co-signed once and are gone here and at the edge. It has no lines, only the
-- tree that leads over it; an archive that proves itself puts bundles in its place.
CREATE TABLE bundles (
  seq    INTEGER PRIMARY KEY AUTOINCREMENT,
  log    INTEGER NOT NULL REFERENCES logs(id),
  first  INTEGER NOT NULL,
  n      INTEGER NOT NULL,
  lines  BLOB NOT NULL,
  tree   BLOB NOT NULL,
  opaque BLOB,                        -- lines that are no leaves, one bit each from the lowest; NULL: there are none
  lost   INTEGER NOT NULL DEFAULT 0,
  UNIQUE (log, first)
);

-- What belongs to a person, one row beside each bundle that has such parts. An entry is erased by writing the row
-- again without it; a mark stays, so that a repeat from the edge does not bring it back.
CREATE TABLE private_parts (
  seq   INTEGER PRIMARY KEY REFERENCES bundles(seq),
  parts BLOB NOT NULL
);

-- Only ever inserted.
CREATE TABLE evidence (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  edge   TEXT NOT NULL,
  epoch  BLOB NOT NULL,
  kind   TEXT NOT NULL,
  idx    INTEGER NOT NULL,
  bytes  BLOB NOT NULL,
  why    TEXT NOT NULL,
  digest BLOB NOT NULL,
  UNIQUE (edge, epoch, kind, idx, digest)
);

CREATE TABLE nodes (
  id   INTEGER PRIMARY KEY,
  node TEXT NOT NULL UNIQUE
);

-- What lines have in common, said once: most taps at a door differ only in person and time.
CREATE TABLE shapes (
  id        INTEGER PRIMARY KEY,
  kind      TEXT NOT NULL,
  clock     TEXT NOT NULL,
  door      TEXT NOT NULL,
  direction TEXT NOT NULL,
  verdict   TEXT NOT NULL,
  reason    TEXT NOT NULL,
  assurance TEXT NOT NULL,
  note      TEXT NOT NULL,
  UNIQUE (kind, clock, door, direction, verdict, reason, assurance, note)
);

-- The service log: one row per leaf that people see. address = log * 2^40 + index makes a double impossible.
CREATE TABLE lines (
  address INTEGER PRIMARY KEY,
  node    INTEGER NOT NULL REFERENCES nodes(id),
  at      INTEGER NOT NULL,
  shape   INTEGER NOT NULL REFERENCES shapes(id),
  member  TEXT NOT NULL
);
CREATE INDEX lines_by_node ON lines (node, at);

-- Where each member was last, by event time.
CREATE TABLE presence (
  member    TEXT PRIMARY KEY,
  node      TEXT NOT NULL,
  address   INTEGER NOT NULL,
  edge      TEXT NOT NULL,
  epoch     BLOB NOT NULL,
  idx       INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  clock     TEXT NOT NULL,
  door      TEXT NOT NULL,
  direction TEXT NOT NULL
);
CREATE INDEX presence_by_node ON presence (node);

-- The last word on each thing of an edge: a door, a reader, its clock, its disk, its program.
CREATE TABLE facts (
  edge    TEXT NOT NULL,
  topic   TEXT NOT NULL,
  subject TEXT NOT NULL,
  node    TEXT NOT NULL,
  address INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  value   TEXT NOT NULL,
  why     TEXT NOT NULL,
  PRIMARY KEY (edge, topic, subject)
);

-- What the registry decided, as JSON: it owns the meaning, this room the durability.
CREATE TABLE places    (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE edges     (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE members   (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE cards     (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE grants    (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE schedules (id TEXT PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE closures  (id TEXT PRIMARY KEY, body BLOB NOT NULL);

-- Versions never go back. Only the newest version keeps its bytes.
CREATE TABLE rosters (
  node     TEXT NOT NULL,
  version  INTEGER NOT NULL,
  issued   INTEGER NOT NULL,
  content  BLOB NOT NULL,
  document BLOB,
  PRIMARY KEY (node, version)
);
