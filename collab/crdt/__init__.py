"""The engine port: the only place where a CRDT library is imported."""
