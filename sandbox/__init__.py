"""Runs hostile programs on many inputs; knows nothing of rewards. Standard library only; import the modules."""

from __future__ import annotations
