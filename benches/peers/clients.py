"""The clients: ours, the peers, and the limit of the socket."""

import json
import os
import re
import resource
import statistics
import subprocess
import time

import workloads as w
from servers import pinned

EXPORT = 1 << 30
# No run takes so many seconds.
TIMEOUT = 60


class Failure(Exception):
    """A client that did not do its work."""


def result(ops, seconds, bs, cpu_s, **more):
    return {
        "iops": ops / seconds,
        "mib_s": ops * bs / seconds / w.MIB,
        "cpu_us_op": cpu_s * 1e6 / ops,
        **more,
    }


class Client:
    """A program that puts a load on a server and says how that went."""

    def __init__(self, name, tools, cpu):
        self.name, self.tools, self.cpu = name, tools, cpu

    def missing(self):
        """Why this client cannot be had, if it cannot."""
        return None

    def refuses(self, load):
        """Why it cannot do this workload, if it cannot."""
        return None

    def run(self, load, address, seconds):
        raise NotImplementedError

    def execute(self, command, **env):
        """Runs to the end; gives output, wall and processor seconds."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = time.monotonic()
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
            env=dict(os.environ, **env),
            preexec_fn=pinned(self.cpu),
        )
        wall = time.monotonic() - begin
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != 0:
            raise Failure(f"{self.name}: status {done.returncode}: {done.stderr.strip()[-300:]}")
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return done.stdout, wall, cpu


def reported(output):
    """The figures of a client that prints them itself."""
    line = json.loads(output.splitlines()[-1])
    if not line["ops"]:
        raise Failure("not one operation")
    keys = ("iops", "mib_s", "cpu_us_op", "p50_us", "p99_us", "max_rss_kib", "maxrss_kib")
    return {key: line[key] for key in keys if key in line}


def uri(address):
    if isinstance(address, int):
        return f"nbd://127.0.0.1:{address}"
    return f"nbd+unix:///?socket={address}"


class Ours(Client):
    """`nbd load`."""

    # As libnbd, which waits for ever.
    patience = ["--stall", "0"]

    def __init__(self, name, tools, cpu, *args, **env):
        super().__init__(name, tools, cpu)
        self.args, self.env = args, env

    def command(self, load, address, *limit):
        where = (
            ["--tcp", f"127.0.0.1:{address}"]
            if isinstance(address, int)
            else ["--unix", address]
        )
        return [
            self.tools.nbd, "load", *where, "--json", "--op", load.op, "--bs", load.bs,
            "--qd", load.qd, "--conns", load.conns, *limit, *self.patience,
            *self.args,
        ]

    def run(self, load, address, seconds):
        command = self.command(load, address, "--seconds", seconds, "--no-latency")
        return reported(self.execute(command, **self.env)[0])


class Libnbd(Client):
    """libnbd's C interface, polled by one thread."""

    def __init__(self, name, tools, cpu, *args):
        super().__init__(name, tools, cpu)
        self.args = args

    def missing(self):
        return self.tools.missing.get("libnbd_bench")

    def command(self, load, address, *limit):
        return [
            self.tools.libnbd_bench, "--uri", uri(address), "--op", load.op, "--bs", load.bs,
            "--qd", load.qd, "--conns", load.conns, *limit, "--no-lat", *self.args,
        ]

    def run(self, load, address, seconds):
        return reported(self.execute(self.command(load, address, "--seconds", seconds))[0])


class Raw(Client):
    """The same bytes over the same socket, without looking at them."""

    def missing(self):
        return self.tools.missing.get("rawlimit")

    def run(self, load, address, seconds):
        where = ["--tcp", "127.0.0.1", address] if isinstance(address, int) else ["--unix", address]
        command = [
            self.tools.rawlimit, "--server", "nbd", *where, "--op", load.op, "--bs", load.bs,
            "--qd", load.qd, "--conns", load.conns, "--seconds", seconds,
        ]
        return reported(self.execute(command)[0])


class Foreign(Client):
    """A program that tells at most its speed: its processor time is that of the process, less
    what it takes to start."""

    program = None
    start_cost = None

    def missing(self):
        return self.tools.missing.get(self.program)

    def refuses(self, load):
        return "one connection only" if load.conns > 1 else None

    def starting(self, address):
        """A command that starts the program, and does next to nothing with it."""
        raise NotImplementedError

    def start(self, address):
        """Wall and processor seconds of starting."""
        if self.start_cost is None:
            runs = [self.execute(self.starting(address))[1:] for _ in range(3)]
            self.start_cost = [statistics.median(column) for column in zip(*runs)]
        return self.start_cost


class Fio(Foreign):
    program = "fio"

    def refuses(self, load):
        return None

    def command(self, load, address, *limit):
        return [
            "fio", "--name=load", "--ioengine=nbd", f"--uri={uri(address)}", f"--rw={load.op}",
            f"--bs={load.bs}", f"--iodepth={load.qd}", f"--numjobs={load.conns}", f"--size={EXPORT}",
            *limit, "--thread", "--group_reporting", "--norandommap", "--gtod_reduce=1",
            "--output-format=json",
        ]

    def starting(self, address):
        load = w.Workload("start", "randread", 4096, 1)
        return self.command(load, address, "--number_ios=1")

    def run(self, load, address, seconds):
        cpu_start = self.start(address)[1]
        limit = [f"--runtime={int(seconds * 1000)}ms", "--time_based"]
        output, _, cpu = self.execute(self.command(load, address, *limit))
        # A note on the connection precedes the report.
        job = json.loads(output[output.index("{"):])["jobs"][0]
        done = job["write" if load.writes else "read"]
        if job["error"] or not done["total_ios"]:
            raise Failure(f"fio: error {job['error']}, {done['total_ios']} operations")
        ops = done["total_ios"]
        return result(ops, ops / done["iops"], load.bs, max(cpu - cpu_start, 0))


class QemuImg(Foreign):
    """`qemu-img bench`, which is told a number of requests, not a time."""

    program = "qemu-img"

    def __init__(self, *args):
        super().__init__(*args)
        self.rates = {}

    def command(self, load, address, count):
        # No random load here: a stride that is no power of two comes close.
        step = load.bs * 1021 if load.random else load.bs
        return [
            "qemu-img", "bench", "-f", "raw", "-c", count, "-d", load.qd, "-s", load.bs,
            "-S", step, *(["-w"] if load.writes else []), uri(address),
        ]

    def starting(self, address):
        return self.command(w.Workload("start", "randread", 4096, 1), address, 1)

    def once(self, load, address, count):
        output, _, cpu = self.execute(self.command(load, address, count))
        seconds = float(re.search(r"completed in ([\d.]+) seconds", output)[1])
        return max(seconds, 1e-3), cpu

    def run(self, load, address, seconds):
        cpu_start = self.start(address)[1]
        if load.name not in self.rates:
            count = max(4 * load.qd, min(5000, (256 * w.MIB) // load.bs))
            self.rates[load.name] = count / self.once(load, address, count)[0]
        count = max(int(self.rates[load.name] * seconds), 4 * load.qd)
        took, cpu = self.once(load, address, count)
        return result(count, took, load.bs, max(cpu - cpu_start, 0))


class Nbdcopy(Foreign):
    """`nbdcopy` of the whole export to nowhere: it reads only, in order."""

    program = "nbdcopy"

    def refuses(self, load):
        if load.writes:
            return "it reads only"
        if load.qd < 16 and load.bs < 64 * w.KIB:
            return "the whole export would take too long"
        return super().refuses(load)

    def starting(self, address):
        return ["nbdcopy", "--version"]

    def run(self, load, address, seconds):
        wall_start, cpu_start = self.start(address)
        _, wall, cpu = self.execute([
            "nbdcopy", "--no-extents", "--connections=1", "--threads=1",
            f"--requests={load.qd}", f"--request-size={load.bs}", uri(address), "null:",
        ])
        ops = EXPORT // load.bs
        return result(ops, max(wall - wall_start, 1e-3), load.bs, max(cpu - cpu_start, 0))


class AsyncHandle(Client):
    """libnbd's own binding for Rust and Tokio: not in packages."""

    def missing(self):
        return "libnbd's Rust binding is in no package, and needs libnbd 1.18"


def all_clients(tools, cpu):
    ours = [
        Ours(w.OURS, tools, cpu),
        Ours("nbd-client reuse", tools, cpu, "--reuse"),
        Ours("nbd-client busy", tools, cpu, "--busy-poll", "100"),
        Ours("nbd-client asleep", tools, cpu, "--busy-poll", "0"),
        Ours("nbd-client multi", tools, cpu, "--runtime", "multi"),
        Ours(
            "nbd-client multi ×2", tools, cpu, "--runtime", "multi", TOKIO_WORKER_THREADS="2"
        ),
    ]
    peers = [
        Libnbd(w.LIBNBD, tools, cpu),
        Libnbd("libnbd C tuned", tools, cpu, "--simple", "--no-init"),
        Fio("fio nbd", tools, cpu),
        QemuImg("qemu-img", tools, cpu),
        Nbdcopy("nbdcopy", tools, cpu),
        AsyncHandle("AsyncHandle", tools, cpu),
    ]
    return ours, peers, Raw(w.RAW, tools, cpu)
