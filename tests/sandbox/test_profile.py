"""The container's seccomp profile: what boxes need, nothing that they forbid, and the file that deployments read."""

from __future__ import annotations

import json
from pathlib import Path

from sandbox.namespaces import seccomp
from sandbox.profile import BOXES, allowed, container_profile

DEPLOYED = Path(__file__).parents[2] / "deploy" / "seccomp.json"


def test_the_file_is_what_the_code_says() -> None:
    assert DEPLOYED.read_text() == container_profile() + "\n", "run: python3 -m sandbox.profile > deploy/seccomp.json"


def test_nothing_that_kills_in_a_box_is_allowed_in_its_container() -> None:
    assert set(allowed()).isdisjoint(seccomp._KILL)
    assert set(allowed()) & set(seccomp._KILL_IN_TEST) == {*BOXES, "seccomp"} & set(seccomp._KILL_IN_TEST)
    assert {"chroot", "setns", "ptrace", "io_uring_setup", "bpf", "keyctl", "userfaultfd", "perf_event_open"}.isdisjoint(allowed())


def test_what_a_box_refuses_kindly_is_not_harsher_in_a_container() -> None:
    """Calls that libraries try and cope with: the box's own answer must be the one they get."""
    kind = {name for name, row in seccomp._REFUSE.items() if row[2] == 38}  # ENOSYS
    assert kind <= set(allowed())


def test_sockets_are_of_three_families_and_other_entries_are_closed() -> None:
    profile = json.loads(container_profile())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
    families = [(rule["names"], rule["args"][0]["value"]) for rule in profile["syscalls"] if "args" in rule]
    assert families == [([name], family) for name in ("socket", "socketpair") for family in (1, 2, 10)]
    assert {"socket", "socketpair"}.isdisjoint(allowed())
