"""A bare Debian 12 in a folder, to install packages into, and a service manager by hand.

The process that imports this must be root. It gets a mount namespace and a network of its own, so
that nothing stays mounted after it and its ports are free; only what installs packages reaches the
machine's network.
"""
import ctypes
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
DAYS = 3  # for so long a machine knows what the registries have
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How a machine reaches its registries, by whatever way it does.
PASSED = re.compile(r"(SSL_CERT_\w+|PIP_\w+|REQUESTS_CA_BUNDLE|\w+_proxy|\w+_PROXY)$")
# What installing a package may change though nothing of the package is left.
NOT_COMPARED = ("dev", "proc", "run", "sys", "tmp", "root", "var/cache", "var/lib/apt", "var/log", "var/tmp")


def why_not():
    """Why there can be no bare machine here; None if there can."""
    if os.geteuid() != 0:
        return "a bare machine needs root"
    for program in ("debootstrap", "chroot", "nsenter", "mount"):
        if shutil.which(program) is None:
            return f"a bare machine needs {program}"
    return None


def step_aside():
    """A mount namespace and an empty network for this process and all that it starts."""
    global _outside
    _outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        up = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(probe, 0x8914, up)  # SIOCSIFFLAGS


def _mirror():
    """Where this machine has Debian from; without it debootstrap has its own."""
    told = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"],
                          capture_output=True, text=True, check=True).stdout
    sites = [line.split()[0] for line in told.splitlines() if line.split()[1:2] == ["bookworm"]]
    return sites[:1]


def _make(bare):
    """A fresh machine that reaches the registries which this machine reaches, and has read what they have."""
    part = bare.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    log = bare.with_suffix(".log")
    with open(log, "w") as output:
        done = subprocess.run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", part, *_mirror()],
                              stdout=output, stderr=subprocess.STDOUT, preexec_fn=_go_outside)
    assert done.returncode == 0, log.read_text()[-2000:]
    for name in ("etc/resolv.conf", "etc/hosts"):
        shutil.copy(Path("/") / name, part / name)
    (part / "etc/apt/sources.list").unlink(missing_ok=True)
    for folder in ("etc/apt/sources.list.d", "etc/apt/apt.conf.d", "usr/local/share/ca-certificates"):
        (part / folder).mkdir(parents=True, exist_ok=True)
        for file in (Path("/") / folder).glob("*"):
            # Debian's own sources; what else this machine has is none of a bare one's.
            if file.is_file() and (not folder.endswith("sources.list.d") or "debian" in file.name):
                shutil.copy(file, part / folder / file.name)
    # No service starts by itself while packages are installed, and what was downloaded is kept.
    (part / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (part / "usr/sbin/policy-rc.d").chmod(0o755)
    (part / "etc/apt/apt.conf.d/90keep").write_text('APT::Keep-Downloaded-Packages "true";\n')
    for line in ("update-ca-certificates", "apt-get update -q"):
        subprocess.run(["chroot", part, "sh", "-c", line], env=_environment(), check=True, stdout=subprocess.DEVNULL, preexec_fn=_go_outside)
    part.rename(bare)


def _environment(**more):
    passed = {name: value for name, value in os.environ.items() if PASSED.match(name)}
    return {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **passed, **more}


class BareMachine:
    """`store`: the folder that keeps a fresh machine and what was downloaded, so that the next machine takes a second. `needs`: what is installed
    on it already, and kept for the next machine, too."""

    def __init__(self, store, needs=()):
        bare, prepared = store / "bare", store / "prepared"
        if bare.exists() and time.time() - bare.stat().st_mtime > DAYS * 86400:
            shutil.rmtree(bare)
        if not bare.exists():
            shutil.rmtree(prepared, ignore_errors=True)
            _make(bare)
        lower = str(bare)
        if needs:
            if not prepared.exists():
                machine = BareMachine(store)
                machine.sh(f"apt-get install -y -q --no-install-recommends {' '.join(needs)}", online=True)
                subprocess.run(["umount", "-R", "-l", machine.root], check=True)
                shutil.move(machine.folder / "upper", prepared)
                machine.remove()
            lower = f"{prepared}:{bare}"
        self.folder = Path(tempfile.mkdtemp(prefix="keelback-machine-"))
        self.root, upper, work = (self.folder / name for name in ("root", "upper", "work"))
        for folder in (self.root, upper, work):
            folder.mkdir()
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work}", self.root], check=True)
        self._mount("proc", "proc")
        self._mount("sysfs", "sys")
        self._mount("tmpfs", "run")
        self._mount("tmpfs", "tmp")
        archives = store / "archives"
        archives.mkdir(exist_ok=True)
        for source, where in (("/dev", "dev"), (archives, "var/cache/apt/archives")):
            subprocess.run(["mount", "--bind", source, self.root / where], check=True)

    def _mount(self, kind, where):
        subprocess.run(["mount", "-t", kind, kind, self.root / where], check=True)

    def remove(self):
        subprocess.run(["umount", "-R", "-l", self.root], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, **more):
        return _environment(**more)

    def command(self, argv, user=None):
        """The command line, from here, of a command in the machine."""
        apart = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs",
                                         "--bounding-set=-all", "--inh-caps=-all"]
        return ["chroot", str(self.root), *apart, *argv]

    def sh(self, line, *, online=False, timeout=600, status=0, **environment):
        """Runs a line of shell in the machine, as root, in its home; what it wrote."""
        done = subprocess.run(self.command(["bash", "-c", f"cd /root && {line}"]), env=self.environment(**environment), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
                              preexec_fn=_go_outside if online else None)
        assert status is None or done.returncode == status, f"{line}\nended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def copy_in(self, file, where="/root"):
        target = self.root / where.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        return f"{where}/{Path(file).name}"

    def files(self):
        """All paths, without those that every package manager leaves."""
        found = set()
        for folder, folders, names in os.walk(self.root):
            here = os.path.relpath(folder, self.root)
            folders[:] = [name for name in folders if os.path.normpath(f"{here}/{name}") not in NOT_COMPARED]
            found.update(os.path.normpath(f"{here}/{name}") for name in folders + names)
        return found


def _go_outside():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(_outside, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


_outside = -1


class Unit:
    """keelback.service of a machine, and what systemctl would do with it. The sandbox is systemd's own and is not made here; the user, the
    directories, the credentials, the environment and the signals are."""

    USER = 61234  # of the range of DynamicUser=

    def __init__(self, machine):
        self.machine = machine
        self.process = None
        self.log = None

    def settings(self):
        text = (self.machine.root / "lib/systemd/system/keelback.service").read_text()
        found = {}
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                found[name] = value
        return found

    def _environment(self, settings):
        environment = self.machine.environment()
        environment["HOME"] = "/"
        for line in (self.machine.root / settings["EnvironmentFile"].lstrip("-/")).read_text().splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                environment[name] = value
        return environment

    def _directory(self, path, mode):
        path = self.machine.root / path
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, self.USER, self.USER)
        path.chmod(mode)
        return path

    def _credentials(self, settings):
        """LoadCredential=NAME:PATH, and SetCredential= where there is no such file."""
        name, _, source = settings["LoadCredential"].partition(":")
        default_name, _, default = settings["SetCredential"].partition(":")
        assert name == default_name, (name, default_name)
        folder = self._directory("run/credentials/keelback.service", 0o700)
        file = self.machine.root / source.lstrip("/")
        secret = file.read_bytes() if file.exists() else default.encode().decode("unicode_escape").encode()
        (folder / name).write_bytes(secret)
        os.chown(folder / name, self.USER, self.USER)
        return "/run/credentials/keelback.service"

    def start(self, timeout=60):
        """systemctl start: comes back when the service has said READY=1."""
        settings = self.settings()
        environment = self._environment(settings)
        state, runtime = settings["StateDirectory"], settings["RuntimeDirectory"]
        self._directory(f"var/lib/{state}", int(settings["StateDirectoryMode"], 8))
        self._directory(f"run/{runtime}", 0o755)
        environment.update(STATE_DIRECTORY=f"/var/lib/{state}", RUNTIME_DIRECTORY=f"/run/{runtime}",
                           CREDENTIALS_DIRECTORY=self._credentials(settings), NOTIFY_SOCKET="/run/notify")
        line = settings["ExecStart"]
        argv = [word for part in shlex.split(line)
                for word in (environment.get(part[1:], "").split() if part.startswith("$") else [part])]
        self.log = open(self.machine.root / "var/log/keelback-unit.log", "ab")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            path = self.machine.root / "run/notify"
            path.unlink(missing_ok=True)
            notify.bind(str(path))
            path.chmod(0o666)
            notify.settimeout(0.2)
            command = self.machine.command(["sh", "-c", f"cd {settings['WorkingDirectory']} && umask {settings['UMask']} && exec \"$@\"",
                                            "sh", *argv], user=self.USER)
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                            start_new_session=True)
            for _ in range(int(timeout / 0.2)):
                try:
                    if b"READY=1" in notify.recv(4096):
                        return
                except socket.timeout:
                    assert self.process.poll() is None, self.text()
        raise AssertionError("READY=1 did not come:\n" + self.text())

    def reload(self):
        """systemctl reload."""
        line = self.settings()["ExecReload"].replace("${MAINPID}", str(self.process.pid))
        subprocess.run(self.machine.command(shlex.split(line)), check=True)

    def stop(self):
        """systemctl stop with KillMode=mixed: SIGTERM to the main process alone, and the time of TimeoutStopSec."""
        settings = self.settings()
        assert settings["KillMode"] == "mixed"
        self.process.send_signal(signal.SIGTERM)
        limit = float(settings["TimeoutStopSec"].removesuffix("s"))
        status = self.process.wait(limit)
        self.process = None
        shutil.rmtree(self.machine.root / "run" / settings["RuntimeDirectory"])
        shutil.rmtree(self.machine.root / "run/credentials")
        self.log.close()
        return status

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def text(self):
        return (self.machine.root / "var/log/keelback-unit.log").read_text()[-4000:]


def _control_groups():
    """(where the tree of control groups, version 2, is mounted; the group of this process in it), or None if there is no such tree."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"]
    own = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    return (Path(mounted[0]), own[0]) if mounted and own else None


def why_no_manager():
    """Why no systemd can run in a machine here; None if one can."""
    if _control_groups() is None:
        return "there is no tree of control groups, version 2"
    for program in ("unshare", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            return f"systemd in a machine needs {program}"
    return None


class Manager:
    """A real systemd as the first process of a machine. It has processes, mounts and control groups of its own, and devices that harm nothing; of
    the kernel's settings it changes none. The network is that of this process."""

    BOOT = r"""
        set -e
        cd "$1"
        umount -l proc sys dev
        mount -t proc proc proc
        mount --bind proc/sys proc/sys
        mount -o remount,bind,ro proc/sys
        mount -t sysfs -o ro sysfs sys
        mount -t cgroup2 cgroup2 sys/fs/cgroup
        mount -t tmpfs -o mode=755 dev dev
        mkdir dev/pts dev/shm
        mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
        mount -t tmpfs -o mode=1777 shm dev/shm
        for name in null zero full random urandom tty; do touch "dev/$name"; mount --bind "/dev/$name" "dev/$name"; done
        ln -s pts/ptmx dev/ptmx
        ln -s /proc/self/fd dev/fd
        pivot_root . .  # not chroot: who has left its root may make no namespace of users
        umount -l .
        cd /
        mount --make-rshared /  # as at the boot of a machine: credentials are mounted by a child of systemd
        drop=-sys_module,-sys_time,-sys_boot,-sys_rawio,-syslog,-audit_control,-audit_read,-audit_write
        exec setpriv --bounding-set="$drop" --inh-caps="$drop" \
          env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system systemd.unit=basic.target
    """

    def __init__(self, machine, timeout=60):
        self.machine = machine
        tree, own = _control_groups()
        self.group = tree / own.lstrip("/") / f"keelback-machine-{os.getpid()}-{id(machine)}"
        self.group.mkdir()
        self.log = machine.root / "var/log/boot.log"
        # In its group it makes a namespace of groups, whose root that group is then. It waits outside.
        enter = 'echo 0 >"$2/cgroup.procs" && exec unshare --cgroup --ipc --uts --mount --pid --fork --kill-child sh -c "$3" sh "$1"'
        with open(self.log, "wb") as log:
            self.outer = subprocess.Popen(["sh", "-c", enter, "sh", machine.root, self.group, self.BOOT], stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=log)
        self.pid = None
        try:
            deadline = time.monotonic() + timeout
            while self._state() not in ("running", "degraded"):
                assert self.outer.poll() is None and time.monotonic() < deadline, f"systemd is {self._state()}: {self.log.read_text()}"
                time.sleep(0.05)
        except BaseException:
            self.end()
            raise

    def _state(self):
        if self.pid is None:
            children = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
            if not children or not (self.machine.root / "run/systemd/private").exists():
                return "away"
            self.pid = int(children[0])
            (self.group.parent / "cgroup.procs").write_text(str(self.outer.pid))
        return self.sh("systemctl is-system-running", status=None).strip()

    def sh(self, line, *, timeout=600, status=0, **environment):
        """Runs a line of shell among the processes of systemd; what it wrote."""
        enter = ["nsenter", "-t", str(self.pid), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "env", "-C", "/root"]
        done = subprocess.run([*enter, "bash", "-c", line], env=_environment(**environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=timeout)
        assert status is None or done.returncode == status, f"{line}\nended with {done.returncode}:\n{done.stdout}\n{self.text()}"
        return done.stdout

    def text(self):
        return self.sh("journalctl --no-pager -n 60", status=None) if self.pid is not None else self.log.read_text()

    def end(self):
        """Ends all its processes."""
        self.outer.kill()
        self.outer.wait()
        deadline = time.monotonic() + 30
        while self.group.exists():
            # A group can be removed when its last process is gone.
            for folder, _, _ in os.walk(self.group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    assert time.monotonic() < deadline, f"{folder} still has processes"
            time.sleep(0.02)
