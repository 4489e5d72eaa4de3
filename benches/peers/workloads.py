"""What is measured, and what is to be reached."""

from dataclasses import dataclass, field

KIB = 1 << 10
MIB = 1 << 20

OURS = "nbd-client"
LIBNBD = "libnbd C"
RAW = "raw"


@dataclass(frozen=True)
class Goal:
    """A bound on ours over `over`: a client, or "best" for the best peer."""

    over: str
    bound: float
    # What is compared: the workload's metric, or processor time per operation.
    cpu: bool = False

    def is_met(self, ratio):
        return ratio <= self.bound if self.cpu else ratio >= self.bound

    def __str__(self):
        return f"{'≤' if self.cpu else '≥'} {self.bound:g}×"


@dataclass(frozen=True)
class Workload:
    name: str
    op: str
    bs: int
    qd: int
    conns: int = 1
    server: str = "unix"
    metric: str = "iops"
    goals: tuple = field(default=())

    @property
    def writes(self):
        return "write" in self.op

    @property
    def random(self):
        return self.op.startswith("rand")


def goals(libnbd, best, raw=None, *more):
    given = [Goal(LIBNBD, libnbd), Goal("best", best)]
    if raw:
        given.append(Goal(RAW, raw))
    return (*given, *more)


WORKLOADS = [
    Workload(
        "4k-randread-qd64", "randread", 4 * KIB, 64,
        goals=goals(5, 4, 0.75, Goal(LIBNBD, 0.2, cpu=True), Goal("best", 0.25, cpu=True)),
    ),
    Workload("4k-randwrite-qd64", "randwrite", 4 * KIB, 64, goals=goals(4.5, 4, 0.6)),
    Workload("4k-randread-qd4", "randread", 4 * KIB, 4, goals=goals(1.2, 1)),
    Workload(
        "4k-randread-qd1", "randread", 4 * KIB, 1,
        goals=(
            Goal(LIBNBD, 1.2), Goal("AsyncHandle", 0.85), Goal(RAW, 0.95),
        ),
    ),
    Workload("64k-read-qd16", "read", 64 * KIB, 16, metric="mib_s", goals=goals(1.05, 0.97, 1)),
    Workload("256k-read-qd8", "read", 256 * KIB, 8, metric="mib_s", goals=goals(1.25, 1, 1)),
    Workload("1m-read-qd4", "read", MIB, 4, metric="mib_s", goals=goals(1.1, 1, 1)),
    Workload("256k-write-qd8", "write", 256 * KIB, 8, metric="mib_s", goals=goals(1, 1, 1.05)),
    Workload(
        "tcp-4k-randread-qd64", "randread", 4 * KIB, 64, server="tcp", goals=goals(7, 6, 0.7)
    ),
    Workload("conns4-4k-randread-qd64", "randread", 4 * KIB, 64, conns=4, goals=goals(7, 6, 0.8)),
    Workload(
        "nbdkit-4k-randread-qd64", "randread", 4 * KIB, 64, server="nbdkit",
        goals=goals(1.2, 1, 0.85),
    ),
]

# Variants of ours, and what each is to reach against another client of the same workload.
VARIANTS = {
    "4k-randread-qd64": [
        ("nbd-client multi", Goal(OURS, 0.75)),
        ("nbd-client multi ×2", None),
    ],
    "4k-randread-qd1": [
        ("nbd-client busy", Goal("best", 1.5)),
        ("nbd-client asleep", None),
    ],
    "64k-read-qd16": [("nbd-client reuse", None)],
    "256k-read-qd8": [("nbd-client reuse", None)],
    "1m-read-qd4": [("nbd-client reuse", None)],
}

DEPTHS = [1, 4, 16, 64, 256, 1024, 4096]
# Processor time per operation may rise by so much from one depth to a greater one, up to 1024,
# and still counts as flat: less cannot be told from noise.
FLAT = 1.15

MAX_CALLS = 0.1
MAX_IDLE_KIB = 32
IDLE_CONNECTIONS = 1000


def depth(qd):
    return Workload(f"depth-{qd}", "randread", 4 * KIB, qd)
