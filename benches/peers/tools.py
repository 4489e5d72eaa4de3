"""What is needed: installed where that is possible, built, or named as missing."""

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.path.join(ROOT, "target", "peers")

# Program or header, and the Debian package it comes in.
NEEDS = {
    "gcc": "gcc",
    "libnbd.h": "libnbd-dev",
    "fio": "fio",
    "qemu-img": "qemu-utils",
    "nbdcopy": "libnbd-bin",
    "nbdkit": "nbdkit",
    "qemu-nbd": "qemu-utils",
    "strace": "strace",
}


def has(need):
    if need.endswith(".h"):
        return os.path.exists(os.path.join("/usr/include", need))
    return shutil.which(need, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is not None


class Tools:
    """Paths of what was built; `missing` says what is not there, and why."""

    def __init__(self, install):
        absent = [need for need in NEEDS if not has(need)]
        if absent and install:
            apt_install(sorted({NEEDS[need] for need in absent}))
        self.missing = {
            need: f"{need} is missing (package {package})"
            for need, package in NEEDS.items()
            if not has(need)
        }
        os.makedirs(TARGET, exist_ok=True)
        self.nbd = self.cargo(ROOT, ["--bin", "nbd"], os.path.join(ROOT, "target"), "nbd")
        self.fastserver = self.cargo(os.path.join(HERE, "fastserver"), [], TARGET, "fastserver")
        self.rawlimit = self.compile("rawlimit", [])
        self.libnbd_bench = self.compile("libnbd_bench", ["-lnbd", "-lpthread"])

    def cargo(self, package, args, target, program):
        say(f"building {program}")
        env = dict(os.environ, CARGO_TARGET_DIR=target)
        subprocess.run(
            ["cargo", "build", "--quiet", "--release", *args], cwd=package, env=env, check=True
        )
        return os.path.join(target, "release", program)

    def compile(self, name, libraries):
        for need in ["gcc"] + ["libnbd.h"] * ("-lnbd" in libraries):
            if need in self.missing:
                self.missing[name] = self.missing[need]
                return None
        program = os.path.join(TARGET, name)
        source = os.path.join(HERE, f"{name}.c")
        subprocess.run(["gcc", "-O2", "-o", program, source, *libraries], check=True)
        return program


def apt_install(packages):
    say("installing " + " ".join(packages))
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    env = ["env", "DEBIAN_FRONTEND=noninteractive"]
    install = ["install", "-qq", "-y", "--no-install-recommends", *packages]
    for command in (["update", "-qq"], install):
        try:
            done = subprocess.run([*prefix, *env, "apt-get", *command], stdout=subprocess.DEVNULL)
        except FileNotFoundError as error:
            say(f"cannot install: {error}")
            return
        if done.returncode != 0:
            say(f"apt-get {command[0]} failed")


def say(text):
    print(text, file=sys.stderr, flush=True)
