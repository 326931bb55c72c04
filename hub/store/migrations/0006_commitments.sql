-- What an operator promised on the hub's advice: signed notes, and beside each at most one that takes it back. Only ever inserted.
CREATE TABLE commitments (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT,
  digest  BLOB NOT NULL,              -- SHA-256 of the commitment's text; a cancellation has that of what it takes back
  cancels INTEGER NOT NULL,           -- 0 or 1
  note    BLOB NOT NULL,
  UNIQUE (digest, cancels)
);
