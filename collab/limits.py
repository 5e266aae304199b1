"""Every bound, with its reason. Sizes are bytes and times seconds, unless a name says otherwise."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- names
MAX_ROOM_NAME_BYTES: Final = 255  # fits one path segment, one index page, one log line

# --- documents (protocol/update.py walks everything that comes from outside)
MAX_DOCUMENT_BYTES: Final = 64 * MIB  # an engine needs some 12 times the encoded bytes of memory
MAX_UPDATE_BYTES: Final = MAX_DOCUMENT_BYTES  # a difference may be the whole document
MAX_VALUE_DEPTH: Final = 64  # 4,000 levels end a thread with a 1 MiB stack; people use a dozen
MAX_TYPE_DEPTH: Final = 64  # 60,000 nested shared types end the engine at one delete
MAX_CLOCK: Final = 2**31 - 1  # engines keep clocks in 32 bits
MAX_CLIENT_ID: Final = 2**53 - 1  # what a JavaScript number holds exactly
MAX_STATE_VECTOR_ENTRIES: Final = 1_000_000  # further bounded by the bytes that remain

# --- awareness
MAX_AWARENESS_BYTES: Final = 64 * KIB  # carets, names and colours of one frame
MAX_AWARENESS_STATES: Final = 1024  # of one frame; a room with more people is paged by the relay
MAX_JSON_DEPTH: Final = 64  # CPython's own parser recurses

# --- frames
MAX_FRAME_BYTES: Final = 256 * KIB  # one turn of a socket; larger payloads go in parts
PART_BYTES: Final = 64 * KIB  # a frame of another room waits behind one of these at most
MAX_PAYLOAD_BYTES: Final = MAX_UPDATE_BYTES + MIB  # a reassembled frame: an update and its envelope
MAX_OPEN_PARTS: Final = 16  # payloads in reassembly on one connection
MAX_OPEN_PART_BYTES: Final = 2 * MAX_PAYLOAD_BYTES  # memory that a peer can make us hold for them
MAX_TOKEN_BYTES: Final = 8 * KIB
MAX_HELLO_BYTES: Final = MAX_TOKEN_BYTES + 256  # what may arrive before authentication
MAX_REASON_BYTES: Final = 512  # a reason is a sentence
MAX_ROOMS_PER_CONNECTION: Final = 1000  # a notebook server opens hundreds

# --- a client's sync
MAX_HELD_BYTES: Final = 4 * MIB  # updates waiting for a predecessor; more: ask for all again
MAX_HELD_UPDATES: Final = 10_000
MAX_RESYNCS_IN_A_ROW: Final = 5  # a difference that never fits is a fault, not a delay
MAX_NEW_DEVICE_IDS_AN_HOUR: Final = 5  # one ends a quarrel of two copies of a file; more is a fault
WALK_ON_LOOP_BYTES: Final = 64 * KIB  # larger updates are walked in a thread: 10 ms of the loop

# --- the relay
MAX_TAIL_BYTES: Final = 4 * MIB  # of one room, kept in memory for readers that are behind
MAX_TAIL_UPDATES: Final = 50_000
MAX_RUN_BYTES: Final = 192 * KIB  # a run of updates sent as one frame
MAX_RUN_UPDATES: Final = 2_000  # merging them stays under a millisecond or two
MAX_CONTROL_FRAMES: Final = 256  # answers waiting in one connection before it is read from again
MAX_PENDING_ACKS: Final = 10_000  # updates of one reader that wait for their commit
HELLO_TIMEOUT_S: Final = 5.0  # absolute, from the socket's opening to a valid HELLO
IDLE_TIMEOUT_S: Final = 60.0  # a client pings every 25 s
YJS_PING_S: Final = 30.0  # WebSocket pings to stock providers; a pong is due before the next
YJS_SILENCE_S: Final = 20.0  # stock providers drop a socket that was silent for 30 s
COMPACT_FROM_BYTES: Final = 64 * KIB  # below it a snapshot saves nothing

# --- storage
STORE_BUSY_S: Final = 5.0  # how long a backup tool may hold SQLite's own lock before we give up
WAL_KEPT_BYTES: Final = 4 * MIB  # SQLite checkpoints at this size; one huge commit must not stay
ALWAYS_CHECKED_BYTES: Final = 16 * MIB  # quick_check reads 1 MB in 1.3 ms: some 20 ms per opening
UNCLEAN_CHECKED_BYTES: Final = 256 * MIB  # after a crash a third of a second is well spent
