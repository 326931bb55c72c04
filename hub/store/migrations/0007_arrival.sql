-- When the hub took a bundle in, Unix milliseconds by its own clock: what an edge says of the time counts up to there. What is
-- here already came before now.
ALTER TABLE bundles ADD COLUMN received INTEGER NOT NULL DEFAULT 0;
UPDATE bundles SET received = CAST(unixepoch('subsec') * 1000 AS INTEGER) WHERE lost = 0;

-- Lines by arrival: seq * 2^16 + place in the bundle makes a double impossible, and every new row is the last one. The nodes and
-- shapes they name are only ever inserted, by the same writer, so no reference is checked for every tap.
CREATE TABLE arrived (
  id     INTEGER PRIMARY KEY,
  node   INTEGER NOT NULL,
  at     INTEGER NOT NULL,
  shape  INTEGER NOT NULL,
  member TEXT NOT NULL
);
INSERT INTO arrived SELECT (b.seq << 16) | ((l.address & 0xffffffffff) - b.first), l.node, l.at, l.shape, l.member
  FROM bundles b JOIN lines l ON l.address >= (b.log << 40) + b.first AND l.address < (b.log << 40) + b.first + b.n ORDER BY b.seq;
DROP TABLE lines;
ALTER TABLE arrived RENAME TO lines;
CREATE INDEX lines_by_node ON lines (node, at);

-- Where each member was last: the line says the rest. The order among taps has changed with it, so the store folds them again
-- when it opens a database with this note, and takes the note away.
DROP TABLE presence;
CREATE TABLE presence (
  id       INTEGER PRIMARY KEY,
  member   TEXT NOT NULL UNIQUE,
  node     INTEGER NOT NULL,
  line     INTEGER NOT NULL,
  received INTEGER NOT NULL            -- of the line's bundle
);
CREATE INDEX presence_by_node ON presence (node);
INSERT INTO meta (name, value) VALUES ('refold', 'presence');
