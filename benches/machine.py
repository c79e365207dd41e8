"""What the kernel tells of processes and files, and what there is to say about the machine."""

import os
import platform
import shutil
import subprocess
import time

_TICK = os.sysconf("SC_CLK_TCK")


def say(text):
    print(f"bench: {time.strftime('%H:%M:%S')} {text}", flush=True)


def cpu(pid):
    """Seconds of CPU that a process has taken, its threads included."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def peak(pid):
    """The most memory that a process ever had at once, in bytes."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def children(parent):
    """{pid: words of its command line}"""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    found[int(name)] = file.read().decode(errors="replace").split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def size(path):
    """Bytes of all files under a path."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total


def forget(path):
    """Asks the kernel to drop what it remembers of the files under a path, so that they are read from the disk again."""
    os.sync()
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                file = os.open(os.path.join(folder, name), os.O_RDONLY)
            except OSError:
                continue
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path, mode=0o700)
    return path


def settle(processor, more=lambda: True, within=180):
    """Waits until the processes of `processor()` (seconds of CPU so far) are idle for two seconds and `more()` agrees."""
    ends, before, quiet = time.monotonic() + within, processor(), 0
    while time.monotonic() < ends:
        time.sleep(0.5)
        now = processor()
        quiet = quiet + 1 if now - before < 0.05 else 0
        before = now
        if quiet >= 4 and more():
            return True
    return False


def _first(path, prefix):
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.startswith(prefix):
                    return line.partition(":" if ":" in line else "=")[2].strip().strip('"')
    except FileNotFoundError:
        pass
    return "?"


def describe(binary):
    """[(what, which)] for the report."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    version = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    commit = subprocess.run(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False).stdout.strip()
    load = os.getloadavg()[0]
    return [
        ("date", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())),
        ("processor", f"{len(os.sched_getaffinity(0))} cores of {_first('/proc/cpuinfo', 'model name')}"),
        ("memory", f"{memory:.0f} GiB"),
        ("system", f"{_first('/etc/os-release', 'PRETTY_NAME')}, Linux {platform.release()}"),
        ("load at the start", f"{load:.1f} (more than 0.3: something else ran, read ratios only)"),
        ("Coffer", f"{version}, commit {commit or '?'}"),
    ]
