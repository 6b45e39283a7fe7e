"""A machine for rehearsals: own mounts, processes and network, a real Docker daemon inside, no
registry and no cloud.

It is made of Linux namespaces around the programs of this machine: /usr is shared, everything that
a boot script writes (/etc, /srv, /run) is its own. What only a cloud offers is played by small
programs in /play: apt-get, snap, timedatectl, systemctl, lsblk, aws.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = (
    "dockerd",
    "docker",
    "unshare",
    "nsenter",
    "pivot_root",
    "ip",
    "iptables",
    "losetup",
    "mkfs.ext4",
    "blkid",
    "busybox",
    "bash",
)
PYTHON = Path(sys.base_prefix)
PATH = f"/play:{PYTHON / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
COPIED = (
    "alternatives",
    "ld.so.cache",
    "mke2fs.conf",
    "ssl",
    "protocols",
    "services",
    "bash.bashrc",
)
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing() -> str:
    """Return why no machine can be made here; empty when one can."""
    absent = [name for name in NEEDED if shutil.which(name, path=SEARCH) is None]
    if absent:
        return f"docker is not installed, or what a rehearsal needs beside it: {', '.join(absent)}"
    if os.geteuid() != 0:
        return "a rehearsal with dockerd needs root"
    if compose_plugin() is None:
        return "docker compose is not installed"
    if not Path("/dev/loop-control").exists():
        return "a rehearsal with dockerd needs loop devices"
    return ""


def compose_plugin() -> Path | None:
    """Return the compose plugin of the Docker client, as it is found by the client itself."""
    home = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    folders = (
        home / "cli-plugins",
        Path("/usr/local/lib/docker/cli-plugins"),
        Path("/usr/libexec/docker/cli-plugins"),
    )
    found = [
        folder / "docker-compose" for folder in folders if (folder / "docker-compose").is_file()
    ]
    return found[0].resolve() if found else None


@dataclass
class Machine:
    """A running machine; `root` is its / seen from outside."""

    root: Path
    pid: int
    disk: str  # the loop device of its data volume

    def run(
        self, *command: str, timeout: float = 300, check: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        inside = ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "--"]
        environment = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"} | more
        words = [
            *inside,
            "env",
            "-i",
            *(f"{key}={value}" for key, value in environment.items()),
            *command,
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with"
                f" {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done

    def write(self, path: str, text: str, mode: int = 0o755) -> None:
        """Write a file inside."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """Read a file inside, through its own mounts."""
        return self.run("cat", path).stdout


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Start a machine below `folder` and end it with everything that runs on it."""
    root = folder / "root"
    _lay(root)
    image = folder / "volume.img"
    with image.open("wb") as file:
        file.truncate(4 << 30)
    _detach_abandoned()
    disk = subprocess.run(
        ["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=True
    ).stdout.strip()
    start = f"""
        set -e
        mount --bind {root} {root}
        for name in usr dev sys; do mount --rbind /$name {root}/$name; done
        mount -t proc proc {root}/proc
        mount -t tmpfs tmpfs {root}/run
        if [ ! -e {root}{PYTHON}/bin ]; then
            mkdir -p {root}{PYTHON}; mount --bind {PYTHON} {root}{PYTHON}
        fi
        cd {root}
        mkdir -p old
        pivot_root . old
        umount -l /old
        ip link set lo up
        exec sleep infinity
    """
    command = [
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "bash",
        "-c",
        start,
    ]
    environment = {"PATH": SEARCH}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield Machine(root, _first_process(process), disk)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        _detach(disk)
        image.unlink()  # pytest keeps the folders of three runs


def _lay(root: Path) -> None:
    """Make the folders and the few files of /etc without which nothing runs."""
    for name in (
        "usr",
        "dev",
        "sys",
        "proc",
        "run",
        "tmp",
        "srv",
        "root",
        "var/lib",
        "var/log",
        "var/run",
        "play",
        "etc/systemd/system",
    ):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in COPIED:
        source, target = Path("/etc") / name, root / "etc" / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore_dangling_symlinks=True)
        elif source.exists():
            shutil.copy2(source, target)
    files = {
        "passwd": (
            "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
        ),
        "group": "root:x:0:\ndocker:x:999:\nnogroup:x:65534:\n",
        "hosts": "127.0.0.1 localhost\n",
        "resolv.conf": "nameserver 127.0.0.1\n",
        "fstab": "",
        "hostname": "rehearsal\n",
    }
    for name, text in files.items():
        (root / "etc" / name).write_text(text)
    plugin = compose_plugin()
    assert plugin is not None
    plugins = root / "root/.docker/cli-plugins"
    plugins.mkdir(parents=True)
    shutil.copy2(plugin, plugins / "docker-compose")


def _first_process(process: subprocess.Popen[str], wait_sec: float = 30) -> int:
    """Return the id of the machine's first process once it has its own root."""
    deadline = time.monotonic() + wait_sec
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            raise RuntimeError(f"no machine: {process.stderr.read()[-2000:]}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "sleep":
            return int(children[0])
        time.sleep(0.05)
    raise RuntimeError("no machine: it did not start")


def _detach_abandoned() -> None:
    """Give back the loop devices of test runs that were killed: their label would be found before
    that of the new volume.
    """
    listed = subprocess.run(
        ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in listed.stdout.splitlines():
        disk, _, file = line.partition(" ")
        if re.search(r"/boot\d+/volume\.img", file):
            subprocess.run(["losetup", "-d", disk], capture_output=True, check=False)


def _detach(disk: str, wait_sec: float = 30) -> None:
    """Give the loop device back; the kernel keeps it while the last mount goes away."""
    deadline = time.monotonic() + wait_sec
    while (
        subprocess.run(["losetup", "-d", disk], capture_output=True, check=False).returncode
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)


# ----------------------------------------------------------------------------------------- an image


def image_files(folder: Path) -> Path:
    """Return a tar file with busybox, bash and this Python: a root file system for stub images."""
    tree = folder / "tree"
    for name in (
        "bin",
        "usr/bin",
        "usr/local/bin",
        "etc",
        "tmp",
        "proc",
        "sys",
        "dev",
        "run",
        "home/mcl",
        "home/ibgateway",
    ):
        (tree / name).mkdir(parents=True)
    shutil.copy2(_which("busybox"), tree / "bin/busybox")
    listed = subprocess.run(
        ["busybox", "--list"], capture_output=True, text=True, check=True, env={"PATH": SEARCH}
    ).stdout
    for name in listed.split():
        if name != "busybox":
            (tree / "bin" / name).symlink_to("busybox")
    (tree / "usr/bin/env").symlink_to("/bin/busybox")
    _copy_program(Path(_which("bash")), tree, "bin/bash")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    _copy_program(PYTHON / "bin" / version, tree, f"{PYTHON}/bin/{version}".lstrip("/"))
    library = PYTHON / "lib" / version
    skipped = shutil.ignore_patterns(
        "test",
        "tests",
        "idlelib",
        "site-packages",
        "dist-packages",
        "ensurepip",
        "tkinter",
        "__pycache__",
        "config-*",
    )
    shutil.copytree(library, tree / str(library).lstrip("/"), ignore=skipped, symlinks=True)
    for extension in (tree / str(library).lstrip("/")).rglob("*.so"):
        _copy_libraries(extension, tree)
    for name in ("python", "python3"):
        (tree / "usr/bin" / name).symlink_to(f"{PYTHON}/bin/{version}")
    (tree / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nmcl:x:10001:10001::/home/mcl:/bin/sh\n"
    )
    (tree / "tmp").chmod(0o1777)
    for name in ("project", "artifacts"):
        (tree / "home/mcl" / name).mkdir()
        os.chown(tree / "home/mcl" / name, 10001, 10001)
    os.chown(tree / "home/ibgateway", 1000, 1000)
    packed = folder / "image.tar"
    with tarfile.open(packed, "w") as file:
        file.add(tree, arcname=".")
    return packed


def _which(name: str) -> str:
    path = shutil.which(name, path=SEARCH)
    assert path is not None, name
    return path


def _copy_program(source: Path, tree: Path, target: str) -> None:
    (tree / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source.resolve(), tree / target)
    _copy_libraries(source, tree)


def _copy_libraries(source: Path, tree: Path) -> None:
    """Copy what a program is linked with, each library to where the loader looks for it."""
    listed = subprocess.run(
        ["ldd", str(source)], capture_output=True, text=True, check=False
    ).stdout
    paths = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    for path in map(Path, paths):
        target = tree / str(path).lstrip("/")
        if path.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path.resolve(), target)
