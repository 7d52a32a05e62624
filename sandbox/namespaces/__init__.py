"""The embedded backend: Linux namespaces, seccomp, rlimits, cgroups. `backend` is the service's side; the rest runs in the box."""

from __future__ import annotations
