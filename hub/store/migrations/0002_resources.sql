-- The catalogue of each node: what people use, consume, give or do there. The registry owns the meaning.
CREATE TABLE resources (id TEXT PRIMARY KEY, body BLOB NOT NULL);
