-- Who was erased: the key of the list and the names under it, which tell nobody who that was. The registry owns the meaning.
CREATE TABLE erased (id TEXT PRIMARY KEY, body BLOB NOT NULL);
