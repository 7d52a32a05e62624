"""The HTTP service: wire models, admission, routes, and the process around them."""

from __future__ import annotations
