-- Of a lost row: the RFC 6962 consistency proof from first to first + n, 32-byte hashes, as the edge showed it with the
-- bridge. Without it nothing that stands before a gap would hang on anything that was signed. NULL elsewhere.
ALTER TABLE bundles ADD COLUMN proof BLOB;
