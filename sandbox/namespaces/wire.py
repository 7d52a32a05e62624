"""What service and cell say to each other about one test: fixed records, and the flags of how it ended."""

from __future__ import annotations

import struct

# A test's input travels in its request where it is short, its output in the reply; longer ones are anonymous files, passed as descriptors.
REQUEST = struct.Struct("<IIddQQIQI")  # index, bytes of input that follow, cpu_s, wall_s, memory, output, processes, disk, inodes
# index, flags, wait status, cpu_s, wall_s, seconds without a core, slowdown, memory, bytes of standard output and error that follow
REPLY = struct.Struct("<IIiddddQII")
IN_FILES = 0xFFFFFFFF  # in place of a number of bytes: descriptors are passed
INPUT_BYTES, STDOUT_BYTES, STDERR_BYTES = 16384, 32768, 4096  # the most of a test that travels in a message
# One message may hold several requests that come without descriptors, or several such replies: each wakes its reader once.
REQUESTS_BYTES, REPLIES_BYTES = 32768, 57344
ORDER_BYTES, ORDER_IN_FILE = 32768, b"file"  # a longer order to load a program is the first descriptor's content, and this the message
CPU_STOP, WALL_STOP, OUTPUT_STOP, MEMORY_STOP, OOM, NOT_READY, DIRTY = 1, 2, 4, 8, 16, 32, 64
