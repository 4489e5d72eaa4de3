"""What is counted rather than timed: system calls, memory, latency beside large reads."""

import json
import re
import resource
import subprocess

import workloads as w
from clients import TIMEOUT, Failure, Ours, reported
from servers import pinned
from tables import number, table
from tools import ROOT


def calls_per_op(client, address, load, ops):
    """System calls of a whole run, by name, for each operation."""
    command = ["strace", "-f", "-c", "-U", "name,calls", *client.command(load, address, "--ops", ops)]
    done = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        preexec_fn=pinned(client.cpu),
    )
    if done.returncode != 0:
        raise Failure(f"strace: {done.stderr.strip()[-300:]}")
    calls = {
        name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", done.stderr, re.M)
    }
    total = calls.pop("total", sum(calls.values()))
    return total / ops, {name: count / ops for name, count in calls.items()}


def system_calls(clients, address, emit):
    """How many there are for each operation at depth 64; says how many goals are missed."""
    rows, missed = [], 0
    for op in ("randread", "randwrite"):
        load = w.Workload(f"4k-{op}-qd64", op, 4 * w.KIB, 64)
        for client in clients:
            # So many that what starting takes does not count.
            ops = 500_000 if isinstance(client, Ours) else 50_000
            total, calls = calls_per_op(client, address, load, ops)
            most = sorted(calls.items(), key=lambda call: -call[1])[:4]
            names = ", ".join(f"{name} {each:.3f}" for name, each in most)
            is_ours = client.name == w.OURS
            met = total <= w.MAX_CALLS
            missed += is_ours and not met
            verdict = ("pass" if met else "FAIL") if is_ours else ""
            goal = f"≤ {w.MAX_CALLS}" if is_ours else ""
            rows.append([load.name, client.name, f"{total:.3f}", goal, verdict, names])
            emit(kind="system-calls", workload=load.name, client=client.name, calls_op=total)
    head = ["Workload", "Client", "calls/op", "goal", "", "most of them"]
    return table(head, rows, right=(2, 3)), missed


def idle_memory(client, address, emit):
    """Memory of connections that did something and now do nothing."""
    load = w.Workload("idle", "randread", 4 * w.KIB, 16, conns=w.IDLE_CONNECTIONS)
    output, _, _ = client.execute(client.command(load, address, "--idle"))
    figures = json.loads(output.splitlines()[-1])
    emit(kind="idle", client=client.name, **figures)
    each, peak = figures["kib_per_connection"], figures["peak_kib"] - figures["before_kib"]
    met = each <= w.MAX_IDLE_KIB
    rows = [[
        figures["connections"], f"{each:.1f}", f"≤ {w.MAX_IDLE_KIB}", "pass" if met else "FAIL",
        f"{peak / figures['connections']:.1f}",
    ]]
    head = ["Connections", "KiB each, idle", "goal", "", "KiB each, just after 16 reads of 4 KiB"]
    return table(head, rows, right=(0, 1, 2, 4)), int(not met)


def tail_latency(client, address, seconds, emit):
    """Small reads alone, and beside large ones on the same connection."""
    rows = []
    for beside, payload in ((0, 0), (1, 0), (16, 0), (64, 0), (64, 1)):
        load = w.Workload("tail", "randread", 4 * w.KIB, 16)
        limit = ["--seconds", seconds]
        if beside:
            limit += ["--beside", f"{beside}M"]
        if payload:
            limit += ["--payload", f"{payload}M"]
        figures = reported(client.execute(client.command(load, address, *limit))[0])
        emit(kind="tail", client=client.name, beside_mib=beside, payload_mib=payload, **figures)
        name = f"reads of {beside} MiB" if beside else "nothing"
        name += f", in messages of {payload} MiB" * (payload > 0)
        rows.append([name, *(number(figures[key]) for key in ("iops", "p50_us", "p99_us"))])
    head = ["4 KiB randread QD16 beside", "IOPS", "p50 µs", "p99 µs"]
    return table(head, rows, right=(1, 2, 3))


def copies(tools, quick):
    """Copies beside nbdcopy and qemu-img; each is compared with its source."""
    absent = [need for need in ("nbdcopy", "nbdkit", "qemu-img", "qemu-nbd") if need in tools.missing]
    if absent:
        return f"Not measured: {', '.join(absent)} missing."
    # Half the size that the bench has by default, so that all of it takes about a minute.
    options = ["--rounds", "1" if quick else "3", "--size", "32" if quick else "128"]
    command = ["cargo", "bench", "--quiet", "--bench", "copies", "--", *options]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        raise Failure("cargo bench --bench copies failed")
    return done.stdout.strip()


def open_files(wanted):
    """Raises the limit of open files: a server of a thousand connections inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return f"at most {hard} open files, {wanted} are needed"
    return None
