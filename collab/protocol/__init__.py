"""The protocol, without I/O: bytes in, events and bytes out. No clock, no randomness."""
