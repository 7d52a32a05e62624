"""Wire protocols of trainers, one per file: their JSON to and from samples and grades."""

from __future__ import annotations
