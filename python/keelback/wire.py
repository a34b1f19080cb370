"""The frames of the worker protocol, version 1 (docs/protocol.md is the law).

    frame = length:u32 type:u8 flags:u8 row:u16 call:u64 body      little-endian; length counts all of it

The row is 0 but in the CALL of a shared call or of a batch.
"""

import struct

PROTOCOL_VERSION = 1
PACKET_MAX = 64 * 1024  # bytes; what a sender puts into one packet at most
HEADER_SIZE = 16
FRAME_MAX = 1 << 31  # bytes; a longer frame is nonsense, whatever calls.payload_max is
REASON_MAX = 4096  # bytes of a reason in CHECKED and RETIRE
ATTACHMENTS_MAX = 64  # of one call
PENDING_MAX = 1024  # frames that may wait behind a call
CREDIT_AT_START = 16  # items of a stream that may be sent unasked

CALL = 1
SESSION_END = 2
SHUTDOWN = 3
CREDIT = 4
RESTORE = 5
SAVE = 6
SLAB = 7
ATTACH = 8
CHECK = 9
BATCH = 10
OUTCOME = 11
CONNECT = 16
HELLO = 17
READY = 18
START_FAILED = 19
RESULT = 20
ERROR = 21
ITEM = 22
END = 23
SAVED = 24
SNAPSHOT = 25
SLAB_WANTED = 28
ATTACHED = 29
SLAB_KEPT = 30
SLAB_FREED = 31
CHECKED = 32
RETIRE = 33
NESTED = 34
NESTED_CANCEL = 35
PING = 48
PONG = 49
CANCEL = 50
INTERRUPT = 51

# Of PING and PONG.
LOOP = 1
# Of PING.
WHO = 2

# Flags of RESULT, ERROR, END and SAVED.
UNCLEAN = 1
INTERRUPTED = 2

CALL_OPENS_SESSION = 1
CALL_TAKES_STREAM = 2
CALL_RESTORES_SESSION = 8
CALL_SAVES_SESSION = 16
CALL_HAS_ATTACHMENTS = 4

SLAB_COMING = 1  # the next packet brings its descriptor
SLAB_HERE = 2
SLAB_GONE = 3
SLAB_NONE = 4

NESTED_FUNCTION = 1  # of the application
NESTED_HOST = 2  # of the embedding program

KIND_ERROR = 1
KIND_CANCELLED = 2
KIND_BAD_REQUEST = 3
KIND_UNKNOWN_FUNCTION = 4

SESSION_END_REASONS = ("expired", "ended", "lost", "evicted", "drained", "moved")

HEADER = struct.Struct("<IBBHQ")
# The header of a CALL frame and the fixed part of its body in one go: length type flags row call |
# deadline birth epoch attempt function_len session_len trace_len callflags.
CALL_HEADER = struct.Struct("<IBBHQqQIIHHHH")
SESSION_END_BODY = struct.Struct("<QB")
SAVE_BODY = struct.Struct("<QI")
SAVED_BODY = struct.Struct("<BBHI")  # answer format zero state_len
SNAPSHOT_BODY = struct.Struct("<QIHBB")  # birth epoch id_len format zero
SLAB_BODY = struct.Struct("<BIQ")
# slab dtype_len dims name_len offset size filename_len content_type_len
ATTACH_BODY = struct.Struct("<IBBHQQHH")
# The header of a NESTED frame and the fixed part of its body: length type flags row call | request timeout_ns name_len
# session_len target zero zero.
NESTED_HEADER = struct.Struct("<IBBHQQqHHBBH")
OUTCOME_BODY = struct.Struct("<QB7x")  # request ok
U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
PING_BODY = struct.Struct("<Q")
PONG_BODY = struct.Struct("<QQ")


class ProtocolError(Exception):
    """The supervisor sent what is not a frame; the worker cannot go on."""


def frame(kind: int, call: int, body: bytes = b"", flags: int = 0) -> bytes:
    return HEADER.pack(HEADER_SIZE + len(body), kind, flags, 0, call) + body
