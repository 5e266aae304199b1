/** The bounds of `collab.v1`, as PROTOCOL.md lists them. Sizes are bytes, times milliseconds. */

const KIB = 1024;
const MIB = 1024 * KIB;

export const MAX_FRAME_BYTES = 256 * KIB;
export const PART_BYTES = 64 * KIB;
export const MAX_UPDATE_BYTES = 64 * MIB;
export const MAX_PAYLOAD_BYTES = MAX_UPDATE_BYTES + MIB;
export const MAX_OPEN_PARTS = 16;
export const MAX_OPEN_PART_BYTES = 2 * MAX_PAYLOAD_BYTES;
export const MAX_ROOM_NAME_BYTES = 255;
export const MAX_TOKEN_BYTES = 8 * KIB;
export const MAX_REASON_BYTES = 512;

export const MAX_RESYNCS_IN_A_ROW = 5;
export const MAX_NEW_DEVICE_IDS_AN_HOUR = 5;

export const CONNECT_TIMEOUT_MS = 10_000;
export const PING_MS = 25_000;
export const SILENCE_MS = 10_000;
export const BACKOFF_BASE_MS = 1_000;
export const BACKOFF_CAP_MS = 60_000;
export const ATTEMPTS_PER_HOUR = 120;
export const RESET_AFTER_MS = 30_000;

/** Stored updates beyond which a snapshot takes their place, as on a Python device. */
export const COMPACT_FROM_BYTES = 64 * KIB;

export const MAX_BODY_BYTES = 32 * KIB;
export const MAX_META_BYTES = 8 * KIB;
export const MAX_USER_BYTES = 255;
export const MAX_CODE_BYTES = 64;
export const MAX_SERVICE_BYTES = 255;
export const MAX_CAST_BYTES = 32 * KIB;
/** Of broadcasts that wait for the socket the oldest are dropped above these. */
export const MAX_WAITING_CASTS = 256;
export const MAX_WAITING_CAST_BYTES = MIB;
export const MAX_CALL_BYTES = 192 * KIB;
export const MAX_ANSWER_BYTES = MIB;
export const MAX_MEMBERS = 900;
/** Undecided messages of a room about which the relay is asked: the newest. */
export const MAX_INQUIRED = 10_000;
export const LANE_WINDOW = 16;
export const PAGE_MESSAGES = 100;
export const MAX_RECEIPTS = 1_000;
export const MAX_SEQ = Number.MAX_SAFE_INTEGER;
export const MAX_UNREAD_COUNTED = 1_000;
export const MAX_OUTBOX_MESSAGES = 10_000;
export const MAX_OUTBOX_BYTES = 64 * MIB;
export const MAX_TRANSIENT_REFUSALS = 10;
export const MAX_RETRY_AFTER_MS = 3_600_000;
export const RETRY_BASE_MS = 500;
export const RETRY_CAP_MS = 60_000;
/** Of a message that is to go now or never. */
export const LIVE_TTL_MS = 10_000;
const DAY_MS = 24 * 3_600_000;
export const DEFAULT_TTL_MS = 7 * DAY_MS;
export const MAX_TTL_MS = 10 * 365 * DAY_MS;
/** Own messages of this age are offered again to a relay with another history. */
export const REOFFER_MS = 7 * DAY_MS;
export const MARK_EVERY_MS = 1_000;
/** How far a wall clock may jump while no page counts. */
export const CLOCK_SLACK_MS = DAY_MS;
export const FETCH_TIMEOUT_MS = 10_000;
