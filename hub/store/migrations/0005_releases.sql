-- Public reports as they were published, one row a period. Only ever inserted: what the public has read cannot be taken
-- back, and a second wording of it could tell what the first withheld.
CREATE TABLE releases (
  number   INTEGER PRIMARY KEY,         -- of the period
  period   TEXT NOT NULL UNIQUE,
  markdown BLOB NOT NULL,
  html     BLOB NOT NULL,
  json     BLOB NOT NULL,
  note     BLOB NOT NULL                -- signed, over the SHA-256 of the three
);
