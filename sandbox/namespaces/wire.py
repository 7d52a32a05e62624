"""What service and cell say to each other about one test: fixed records, and the flags of how it ended."""

from __future__ import annotations

import struct

REQUEST = struct.Struct("<IddQQIQI")  # index, cpu_s, wall_s, memory, output, processes, disk, inodes
REPLY = struct.Struct("<IIiddddQ")  # index, flags, wait status, cpu_s, wall_s, seconds without a core, slowdown, memory_bytes
CPU_STOP, WALL_STOP, OUTPUT_STOP, MEMORY_STOP, OOM, NOT_READY, DIRTY = 1, 2, 4, 8, 16, 32, 64
