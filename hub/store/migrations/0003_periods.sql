-- The texts of each period that is being closed or was: what the audit bundle is made of. Only ever inserted.
CREATE TABLE period_files (
  number INTEGER NOT NULL,            -- of the period, from 1
  period TEXT NOT NULL,
  name   TEXT NOT NULL,
  body   BLOB NOT NULL,
  PRIMARY KEY (number, name)
);

-- The journal of the books. id makes it impossible to book one thing twice.
CREATE TABLE entries (
  seq    INTEGER PRIMARY KEY AUTOINCREMENT,
  id     BLOB NOT NULL UNIQUE,
  number INTEGER NOT NULL,            -- of the period that booked it
  line   BLOB NOT NULL
);
