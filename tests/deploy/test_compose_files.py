"""What the Compose files say, without an engine: every setting reaches the service, and what one file repeats of another is the same."""

from __future__ import annotations

import re
from pathlib import Path

from reward_service.settings import Settings, environment_name

FOLDER = Path(__file__).parents[2] / "deploy"
MAIN = (FOLDER / "compose.yaml").read_text()
SETTINGS = {environment_name(name) for name in Settings.model_fields}
CGROUPS = [(FOLDER / f"compose.cgroup-v{version}.yaml").read_text() for version in (1, 2)]

# what the file decides, since another value could not work in there
DECIDED = {
    "port", "runner_token", "docker_host", "docker_image", "docker_runtime", "docker_cgroup", "docker_programs", "sandbox_slots", "python",
    "python_packages", "binaries_disk_bytes", "testset_folder",
}  # fmt: skip


def test_every_setting_reaches_the_service_or_is_decided_there() -> None:
    """One that an operator sets and nobody passes on would be a default unnoticed: add new settings to deploy/compose.yaml, or above."""
    passed = re.findall(r"^      (REWARD_[A-Z_]+):", MAIN, re.MULTILINE)
    assert len(set(passed)) == len(passed)
    assert set(passed) == {environment_name(name) for name in set(Settings.model_fields) - DECIDED}


def test_the_example_of_the_environment_names_what_the_files_use() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", "".join((MAIN, *CGROUPS))))
    named = set(re.findall(r"^#?([A-Z_]+)=", (FOLDER / "env.example").read_text(), re.MULTILINE))
    assert used - SETTINGS == named - SETTINGS


def test_both_services_come_back_after_a_killed_engine() -> None:
    """An engine that starts after it was killed stops what it finds, and takes that for somebody's will where it says unless-stopped."""
    assert re.findall(r"^    restart: (\S+)", MAIN, re.MULTILINE) == ["always", "always"]
    assert re.findall(r"^    stop_grace_period: (\d+)s", MAIN, re.MULTILINE) == ["40", "40"], "longer than both drain"


def test_the_files_for_cgroups_add_to_the_command_and_change_nothing_of_it() -> None:
    (command,) = re.findall(r"^    command: \[(.*--listen.*)\]$", MAIN, re.MULTILINE)
    for text in CGROUPS:
        (longer,) = re.findall(r"^    command: \[(.*)\]$", text, re.MULTILINE)
        assert longer == command + ', "--cgroup", "/run/cgroup", "--strict"'
