"""What runs inside boxes beside candidates: its text becomes part of a box's program, so it imports the standard library alone."""

from __future__ import annotations
