"""Grading dumps of rollouts from files to files, and explaining single grades; a shell over the pipeline, as the server is."""

from __future__ import annotations
