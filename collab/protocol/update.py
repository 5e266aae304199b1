"""The guard's front door: all that may be asked about a Yjs v1 update without an engine."""

from __future__ import annotations

from collab.protocol.contents import Block, Walk
from collab.protocol.coverage import Coverage, Fit
from collab.protocol.merge import cut, merge
from collab.protocol.walk import walk
from collab.protocol.ysync import (
    decode_awareness,
    decode_state_vector,
    encode_awareness,
    encode_state_vector,
    guard_state_vector,
)

__all__ = [
    "Block",
    "Coverage",
    "Fit",
    "Walk",
    "cut",
    "decode_awareness",
    "decode_state_vector",
    "encode_awareness",
    "encode_state_vector",
    "guard_state_vector",
    "merge",
    "walk",
]
