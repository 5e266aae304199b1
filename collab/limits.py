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

# --- chat
MAX_BODY_BYTES: Final = 32 * KIB  # a message is read by people; longer things are documents
MAX_META_BYTES: Final = 8 * KIB  # what a program adds for itself
MAX_USER_BYTES: Final = 255  # a ``sub``, as others see it
MAX_CODE_BYTES: Final = 64  # the name of a refusal
MAX_SEQ: Final = 2**53 - 1  # of a message; what a JavaScript number holds exactly
LANE_WINDOW: Final = 16  # messages of one lane that are sent and not decided
PAGE_MESSAGES: Final = 100  # messages in one frame
CATCH_UP_PER_ROOM: Final = 300  # missed messages of a room that are fetched without being asked for
CATCH_UP_IN_ALL: Final = 2_000  # and of all rooms of a connection
NEWEST_IN_LIMITED: Final = 50  # of a room that missed more: a screenful, the rest on demand
MAX_UNREAD_COUNTED: Final = 1_000  # more is "many" to people, and a scan to us
MAX_RECEIPTS: Final = 1_000  # users whose marks go in one frame
MAX_RECEIPT_USERS: Final = 10_000  # users of one room whose marks a device keeps
MAX_OUTBOX_MESSAGES: Final = 10_000  # of one device file: days of a busy bot without a network
MAX_OUTBOX_BYTES: Final = 64 * MIB  # and their bodies: what may pile up on somebody's disk unsent
MAX_TRANSIENT_REFUSALS: Final = 10  # then those behind it go on; rate limits do not count
MAX_RETRY_AFTER_MS: Final = 3_600_000  # a slip at the relay must not silence a room for ever
RETRY_BASE_MS: Final = 500  # the first wait after a refusal that names none; it doubles
RETRY_CAP_MS: Final = 60_000
LIVE_TTL_MS: Final = 10_000  # of a message that is to go now or never
MAX_TIME_MS: Final = 2**53 - 1  # since 1970, of a device; what a JavaScript number holds exactly
MAX_TTL_MS: Final = 10 * 365 * 24 * 3_600_000  # ten years; what is to wait for ever says so
REOFFER_MS: Final = 7 * 24 * 3_600_000  # own messages that a relay with another history gets again
MARK_EVERY_MS: Final = 1_000  # receipts of a room, whatever the pace of its messages
CLOCK_SLACK_MS: Final = 24 * 3_600_000  # how far a wall clock may jump while the device is off
FETCH_TIMEOUT_S: Final = 10.0  # then history shows a gap
MAX_ROLE_BYTES: Final = 16  # the word for what a member may do
MAX_MEMBERS: Final = 900  # of one room: the list with the longest names fits into one frame
MAX_INQUIRED: Final = 10_000  # undecided messages of a room that a device asks about: the newest

# --- broadcasts and calls
MAX_CAST_BYTES: Final = (
    32 * KIB
)  # a caret, a stroke, a signal; longer things belong in the document
MAX_WAITING_CASTS: Final = 256  # of one connection: a slow reader skips what is out of date
MAX_WAITING_CAST_BYTES: Final = MIB  # and their bytes, as one may have 32 KiB
CASTS_PER_S: Final = 50.0  # of one connection: strokes and carets at the pace of a screen
CAST_BURST: Final = 100  # what may come at once after a pause
CAST_BYTES_PER_S: Final = 512.0 * KIB  # every one of them goes to everybody in the room
CAST_BYTES_BURST: Final = MIB
MAX_SERVICE_BYTES: Final = 255  # a name, as of a room
MAX_CALL_BYTES: Final = 192 * KIB  # with its service it fits one frame
MAX_ANSWER_BYTES: Final = MIB  # a translated page; a connection may have one of each call in memory
MAX_CALLS_PER_CONNECTION: Final = 16  # at work or not told yet; what a program's screen waits for

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
MAX_WAITING_ANSWER_BYTES: Final = 4 * MIB  # and bytes, as one may carry a long state vector
MAX_FETCHED_FRAMES: Final = 8  # differences of one connection, and runs, that are not wholly out
MAX_PENDING_ACKS: Final = 10_000  # updates of one reader that wait for their commit
MAX_TAIL_MESSAGES: Final = 1_000  # of one room, kept in memory for readers that are a little behind
MAX_TAIL_MESSAGE_BYTES: Final = MIB
MAX_UNDECIDED_BYTES: Final = 4 * MIB  # of one connection: lanes at work while it is read from
MAX_CHAT_READS: Final = 4  # frames that one connection has read from the log and not sent
MAX_WAITING_FETCHES: Final = 64  # of one room on one connection before it is read from again
MAX_WAITING_ENTERS: Final = 64  # of one connection before it is read from again: each reads the log
MAX_MARKED_USERS: Final = 10_000  # of one room whose marks are told: those that are furthest on
MAX_QUEUED_MARKS: Final = 10_000  # waiting for a disk that takes nothing; devices say them again
MAX_LANES_PER_USER: Final = 1_000  # in one room: a program that keeps no file begins one each time
MAX_DUE_VERDICTS: Final = 1_000  # of one reader; one that is slower enters again and asks
MAX_CONFIRMATIONS: Final = 16  # calls of on_confirm at a time: connections of a small database
MAX_AWAITED_IN_MEMORY: Final = 10_000  # a name each; those beyond wait in the log
MAX_UNREAD_SCANNED: Final = 10 * MAX_UNREAD_COUNTED  # of a user who mostly writes
HELLO_TIMEOUT_S: Final = 5.0  # absolute, from the socket's opening to a valid HELLO
IDLE_TIMEOUT_S: Final = 60.0  # a client pings every 25 s
YJS_PING_S: Final = 30.0  # WebSocket pings to stock providers; a pong is due before the next
YJS_SILENCE_S: Final = 20.0  # stock providers drop a socket that was silent for 30 s
COMPACT_FROM_BYTES: Final = 64 * KIB  # below it a snapshot saves nothing

# --- a notebook
MAX_NOTEBOOK_BYTES: Final = 32 * MIB  # of a file that is read; plots make them large
MAX_RUN_TEXT_BYTES: Final = 256 * KIB  # text that one run of a cell leaves: more nobody reads
MAX_RUN_IMAGE_BYTES: Final = 4 * MIB  # and its images, as base64
MAX_RUN_OUTPUTS: Final = 500  # and how many outputs: lines of two streams in turn are many
MAX_TAKEN_ID_CHARACTERS: Final = 64  # of a request to a kernel
MAX_WISHES: Final = 1_000  # that one person has of a kernel: every cell of a long notebook

# --- storage
STORE_BUSY_S: Final = 5.0  # how long a backup tool may hold SQLite's own lock before we give up
WAL_KEPT_BYTES: Final = 4 * MIB  # SQLite checkpoints at this size; one huge commit must not stay
ALWAYS_CHECKED_BYTES: Final = 16 * MIB  # quick_check reads 1 MB in 1.3 ms: some 20 ms per opening
UNCLEAN_CHECKED_BYTES: Final = 256 * MIB  # after a crash a third of a second is well spent
