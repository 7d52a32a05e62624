"""The box's file system: an empty root with a read-only runtime. Runs in the zygote, before anything untrusted exists."""

from __future__ import annotations

import os
import stat

from sandbox.namespaces import system

NEW_ROOT = "/sys"  # any existing folder that the box does not need: covered by a tmpfs in a private mount namespace
DEVICES = ("null", "zero", "full", "random", "urandom")
PROGRAM_FOLDER = "/program"  # one tmpfs per cell, read-only to its tests
TEST_FOLDER = "/box"  # one tmpfs per test
WORKING_FOLDER = "/box/work"
_HUGE_PAGE = 2 << 20
_WORTH_HUGE_PAGES = 256 << 10  # a binary is placed in half the time

_PASSWD = "candidate:x:1000:1000::/box/work:/bin/false\n"


def library_folders() -> list[str]:
    """Folders of shared libraries that a dynamically linked program may need."""
    roots = [f"{base}/{machine}-linux-gnu" for machine in ("x86_64", "aarch64") for base in ("/lib", "/usr/lib")]
    known = [*roots, "/lib64", "/usr/lib64", "/lib/ld-linux-aarch64.so.1", "/usr/lib/locale/C.utf8", "/usr/share/zoneinfo"]
    return [path for path in known if os.path.exists(path)]


def interpreter_folders(prefix: str, version: str, executable: str) -> list[str]:
    """What an interpreter needs: its standard library, its shared library, itself; not its site-packages."""
    found = [f"{prefix}/lib/python{version}", executable]
    lib = f"{prefix}/lib"
    found += [f"{lib}/{name}" for name in sorted(os.listdir(lib)) if name.startswith("libpython")]
    return [path for path in found if os.path.exists(path)]


def _make_target(root: str, path: str, source: str) -> str:
    target = root + path
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644))
    return target


def _merge_links(root: str) -> None:
    """Repeat the host's top-level links (`/lib` to `usr/lib`) so that paths mean the same inside."""
    for name in ("lib", "lib32", "lib64", "libx32", "bin", "sbin"):
        path = f"/{name}"
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)


def _show(root: str, source: str, target_path: str) -> None:
    real = os.path.realpath(source)
    # the target's own folders may be links inside the new root: resolve them there, never on the host
    parts = target_path.strip("/").split("/")
    if os.path.islink(f"{root}/{parts[0]}"):
        parts[0] = os.readlink(f"{root}/{parts[0]}").strip("/")
    target = _make_target(root, "/" + "/".join(parts), real)
    if not os.path.ismount(target):
        system.bind(real, target)


def build_root(shown: dict[str, str], masked: tuple[str, ...]) -> None:
    """Build the box's root on a tmpfs and make it this process's root.

    `shown` maps a path inside the box to the host path shown there read-only; `masked` are folders covered by emptiness.

    Raises:
        OSError: the machine's fault: mounts are not allowed here.
    """
    system.mount(None, "/", None, system.MS_REC | system.MS_PRIVATE)
    root = NEW_ROOT
    system.mount("tmpfs", root, "tmpfs", system.MS_NOSUID, "size=1m,nr_inodes=2048,mode=755")
    _merge_links(root)
    for folder in ("proc", "dev", "etc", "box", "program", "usr", "oldroot"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    for target, source in sorted(shown.items()):
        _show(root, source, target)
    for folder in masked:
        if os.path.isdir(root + folder):
            system.mount(
                "tmpfs", root + folder, "tmpfs", system.MS_NOSUID | system.MS_NODEV | system.MS_RDONLY, "size=4k,nr_inodes=2,mode=555"
            )
    _make_devices(root)
    with open(f"{root}/etc/passwd", "w") as file:
        file.write(_PASSWD)
    os.symlink("/box/tmp", f"{root}/tmp")
    os.chdir(root)
    system.pivot_root(".", "oldroot")
    os.chdir("/")
    # the old root goes last: the new /proc must still see a whole one to be allowed in a user namespace


def mount_proc() -> None:
    """A fresh /proc of this pid namespace; needs the old root's /proc still in sight where the namespace is a user's. Raises OSError."""
    system.mount("proc", "/proc", "proc", system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC)


def forget_old_root() -> None:
    """Let go of the host's file system and make the root read-only. Raises OSError."""
    system.umount("/oldroot")
    os.rmdir("/oldroot")
    system.mount(None, "/", None, system.MS_REMOUNT | system.MS_BIND | system.MS_RDONLY | system.MS_NOSUID)


def _make_devices(root: str) -> None:
    for name in DEVICES:
        source = f"/dev/{name}"
        if os.path.exists(source) and stat.S_ISCHR(os.stat(source).st_mode):
            target = f"{root}/dev/{name}"
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o666))
            system.mount(source, target, None, system.MS_BIND)
            # a device must stay one: no nodev. Read-only bars no writing to it, but changes of the host's inode, a channel between boxes
            flags = system.MS_REMOUNT | system.MS_BIND | system.MS_RDONLY | system.MS_NOSUID | system.MS_NOEXEC
            system.mount(None, target, None, flags)
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{root}/dev/{name}")
    os.symlink("/box/shm", f"{root}/dev/shm")


def mount_program_folder(program_bytes: int) -> None:
    """A cell's tmpfs for its program, writable until `seal_program_folder`. Raises OSError."""
    size = -(-program_bytes // _HUGE_PAGE) * _HUGE_PAGE + _HUGE_PAGE
    options = f"size={size},nr_inodes=64,mode=755"
    if program_bytes > _WORTH_HUGE_PAGES:
        try:
            system.mount("tmpfs", PROGRAM_FOLDER, "tmpfs", system.MS_NOSUID | system.MS_NODEV, options + ",huge=always")
            return
        except OSError:
            pass  # a kernel without them
    system.mount("tmpfs", PROGRAM_FOLDER, "tmpfs", system.MS_NOSUID | system.MS_NODEV, options)


def seal_program_folder() -> None:
    """Make the program read-only. Raises OSError."""
    flags = system.MS_REMOUNT | system.MS_BIND | system.MS_RDONLY | system.MS_NOSUID | system.MS_NODEV
    system.mount(None, PROGRAM_FOLDER, None, flags)
