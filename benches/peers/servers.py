"""The servers: started on a processor of their own, stopped at the end."""

import os
import socket
import subprocess
import tempfile
import time


def pinned(cpu):
    """What gives a process one processor; or all of them, for None."""
    return None if cpu is None else lambda: os.sched_setaffinity(0, {cpu})


class Servers:
    """Starts servers when they are first needed."""

    def __init__(self, tools, folder, cpu):
        self.tools, self.folder, self.cpu = tools, folder, cpu
        self.running = {}
        # In memory where the system has such a folder. It takes room once it is written.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else folder
        self.disk = tempfile.NamedTemporaryFile(dir=memory)
        self.disk.truncate(1 << 30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process, _ in self.running.values():
            process.terminate()
        for process, _ in self.running.values():
            process.wait()
        self.disk.close()

    def missing(self, name):
        """Why this server cannot be had, if it cannot."""
        return self.tools.missing.get(name)

    def address(self, name):
        """Where the server of that name listens: a path, or a port on the loopback."""
        if name not in self.running:
            self.running[name] = self.start(name)
        process, address = self.running[name]
        if process.poll() is not None:
            raise RuntimeError(f"server {name} ended with status {process.returncode}")
        return address

    def start(self, name):
        address = free_port() if name == "tcp" else os.path.join(self.folder, name)
        command = {
            "unix": [self.tools.fastserver, "--unix", address],
            "memory": [self.tools.fastserver, "--memory", "--unix", address],
            "tcp": [self.tools.fastserver, "--tcp", f"127.0.0.1:{address}"],
            "nbdkit": ["nbdkit", "-f", "--exit-with-parent", "-U", address, "memory", "1G"],
            "qemu-nbd": ["qemu-nbd", "-t", "-e", "0", "-f", "raw", "-k", address, self.disk.name],
        }[name]
        process = subprocess.Popen(
            command, preexec_fn=pinned(self.cpu), stdin=subprocess.DEVNULL
        )
        for _ in range(500):
            if process.poll() is not None or answers(address):
                break
            time.sleep(0.01)
        return process, address


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address):
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    target = ("127.0.0.1", address) if isinstance(address, int) else address
    with socket.socket(family) as probe:
        try:
            probe.connect(target)
            return probe.recv(8) == b"NBDMAGIC"
        except OSError:
            return False
