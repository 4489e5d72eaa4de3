#!/usr/bin/env python3
"""What qemu's own reconnection does with a write whose connection was lost: the table of docs/disk.md.

A write of 0xaa is under way, which nbdkit takes two seconds for; the TCP connection is cut; qemu-io
connects again by itself, and writes 0xbb to the same place. Then the first write lands.
"""

import os, socket, subprocess, tempfile, threading, time

HERE = tempfile.mkdtemp()
WRITE = """cat >DIR/part.$$; delay=$(cat DIR/delay); echo begun >>DIR/log; sleep "$delay"
dd if=DIR/part.$$ of=DIR/disk bs=64K conv=notrunc oflag=seek_bytes seek="$4" status=none
echo done >>DIR/log""".replace("DIR", HERE)
READ = f"dd if={HERE}/disk iflag=skip_bytes,count_bytes skip=$4 count=$3 bs=64K status=none"


def put(name, text):
    with open(f"{HERE}/{name}", "w") as file:
        file.write(text)


def count(word):
    with open(f"{HERE}/log") as file:
        return file.read().split().count(word)


def until(what):
    end = time.time() + 30
    while not what():
        assert time.time() < end, "it waits for ever"
        time.sleep(0.01)


class Proxy:
    def __init__(self, path):
        self.path, self.open = path, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.path)
            self.open += [client, server]
            for a, b in ((client, server), (server, client)):
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    def copy(self, a, b):
        try:
            while data := a.recv(1 << 16):
                b.sendall(data)
        except OSError:
            pass

    def cut(self):
        for end in self.open:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open = []


put("log", ""), put("delay", "2")
os.truncate(os.open(f"{HERE}/disk", os.O_CREAT | os.O_RDWR), 1 << 20)
server = subprocess.Popen(["nbdkit", "-f", "-U", f"{HERE}/socket", "eval", "get_size=echo 1M",
                           "thread_model=echo parallel", f"pread={READ}", f"pwrite={WRITE}", "flush=exit 0"])
until(lambda: os.path.exists(f"{HERE}/socket"))
proxy = Proxy(f"{HERE}/socket")
image = (f"driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=127.0.0.1,"
         f"file.server.port={proxy.port},file.reconnect-delay=20")
qemu = subprocess.Popen(["qemu-io", "-t", "none", "--image-opts", image], stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)


def say(line):
    qemu.stdin.write(line + "\n")
    qemu.stdin.flush()


say("aio_write -P 0xaa 0 4k")
until(lambda: count("begun") == 1)
put("delay", "0")
proxy.cut()
say("aio_flush")
until(lambda: count("done") == 1)
say("write -P 0xbb 0 4k")
say("flush")
until(lambda: count("done") == 2)
say("read -P 0xbb 0 4k")
time.sleep(0.3)
print("writes begun:", count("begun"), "done before the first one lands:", count("done"))
until(lambda: count("done") == 3)
say("read -P 0xbb 0 4k")
say("quit")
print(qemu.communicate()[0])
server.terminate()
with open(f"{HERE}/disk", "rb") as disk:
    print("at last there is", hex(disk.read(1)[0]))
