/* The limit of the socket itself: the NBD traffic shape with no protocol parsing
 * and no bookkeeping. The client only counts bytes.
 *
 * rawlimit --server dumb|nbd  [--unix PATH | --tcp HOST PORT]
 *          --op read|write --bs N --qd N --seconds S [--conns N] [--recv BYTES]
 *          [--rotate]   receive into qd*bs of memory in turn, not into one hot buffer
 *          [--stream]   (dumb server only) replies come without requests
 *          [--sndbuf N] [--pin-server CPU]
 * dumb: a server that is forked here; it counts 28-byte units (or 28+N) and
 * answers as many replies. nbd: a real NBD server at the address.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static size_t bs = 4096, qd = 1, conns = 1, rbuf = 256 << 10, sndbuf;
static const char *path, *host, *server = "dumb"; static int port, pin = -1;
static bool write_op, rotate, stream, tcp;
static double seconds = 1;

static void die (const char *w) { perror (w); exit (1); }
static uint64_t now (void)
{ struct timespec t; clock_gettime (CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static double tv (struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

static void send_iov (int fd, struct iovec *v, size_t n)
{
  while (n) {
    ssize_t r = writev (fd, v, n > 1024 ? 1024 : n);
    if (r < 0) { if (errno == EINTR) continue; if (errno == EPIPE || errno == ECONNRESET) exit (0); die ("writev"); }
    while (n && (size_t) r >= v->iov_len) { r -= v->iov_len; v++; n--; }
    if (n) { v->iov_base = (char *) v->iov_base + r; v->iov_len -= r; }
  }
}

/* Requests for n commands, or replies for n commands, in one vector write. */
static void send_units (int fd, size_t n, char *header, size_t hlen, char *payload, size_t plen)
{
  static struct iovec v[2048];
  while (n) {
    size_t k = n > 512 ? 512 : n, c = 0;
    for (size_t i = 0; i < k; i++) {
      v[c++] = (struct iovec) { header + i * hlen, hlen };
      if (plen) v[c++] = (struct iovec) { payload, plen };
      else if (c > 1) { v[c - 2].iov_len += hlen; c--; }
    }
    send_iov (fd, v, c);
    n -= k;
  }
}

/* Requests to read, as far as the socket takes them: to wait here for room, while
 * the server waits for its replies to be read, would be for ever. */
struct state { size_t out, have, owed, wpos; };
#define RING (512 * 28)
static void send_reads (int fd, struct state *st, const char *reqs)
{
  while (st->owed) {
    size_t n = st->owed < RING - st->wpos ? st->owed : RING - st->wpos;
    ssize_t r = send (fd, reqs + st->wpos, n, MSG_DONTWAIT);
    if (r < 0) { if (errno == EAGAIN) return; die ("send"); }
    st->owed -= r;
    st->wpos = (st->wpos + r) % RING;
  }
}

static void dumb_server (int fd)
{
  size_t unit = write_op ? 28 + bs : 28, have = 0;
  char *in = malloc (1 << 20), *header = calloc (512, 16), *zeros = calloc (1, bs);
  size_t plen = write_op ? 0 : bs;
  if (stream) for (;;) send_units (fd, 64, header, 16, zeros, bs);
  for (;;) {
    ssize_t r = recv (fd, in, 1 << 20, 0);
    if (r <= 0) exit (0);
    have += r;
    size_t n = have / unit;
    have %= unit;
    if (n) send_units (fd, n, header, 16, zeros, plen);
  }
}

static void xread (int fd, void *b, size_t n)
{ while (n) { ssize_t r = read (fd, b, n); if (r <= 0) die ("read"); b = (char *) b + r; n -= r; } }
static uint64_t export_size = 1 << 30;
static void negotiate (int fd)
{
  char b[64 + 1024];
  xread (fd, b, 18);
  uint32_t flags = htonl (3);
  if (write (fd, &flags, 4) != 4) die ("write");
  /* NBD_OPT_EXPORT_NAME "" */
  memcpy (b, "IHAVEOPT\0\0\0\1\0\0\0\0", 16);
  if (write (fd, b, 16) != 16) die ("write");
  xread (fd, b, 10);
  export_size = 0;
  for (int i = 0; i < 8; i++) export_size = export_size << 8 | (uint8_t) b[i];
}
static int dial (void)
{
  int fd;
  if (tcp) {
    fd = socket (AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons (port) };
    inet_pton (AF_INET, host, &a.sin_addr);
    if (connect (fd, (void *) &a, sizeof a)) die ("connect");
    int one = 1; setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  } else {
    fd = socket (AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    strncpy (a.sun_path, path, sizeof a.sun_path - 1);
    if (connect (fd, (void *) &a, sizeof a)) die ("connect");
  }
  return fd;
}
static int dumb (void)
{
  int sv[2];
  if (tcp) {
    int l = socket (AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    if (bind (l, (void *) &a, len) || listen (l, 1) || getsockname (l, (void *) &a, &len)) die ("listen");
    sv[0] = socket (AF_INET, SOCK_STREAM, 0);
    if (connect (sv[0], (void *) &a, sizeof a)) die ("connect");
    sv[1] = accept (l, 0, 0); close (l);
    int one = 1;
    setsockopt (sv[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt (sv[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  } else if (socketpair (AF_UNIX, SOCK_STREAM, 0, sv)) die ("socketpair");
  if (!fork ()) {
    if (pin >= 0) { cpu_set_t s; CPU_ZERO (&s); CPU_SET (pin, &s); sched_setaffinity (0, sizeof s, &s); }
    for (int i = 3; i < 64; i++) if (i != sv[1]) close (i);
    dumb_server (sv[1]); exit (0);
  }
  close (sv[1]);
  return sv[0];
}

int main (int argc, char **argv)
{
  for (int i = 1; i < argc; i++) {
    const char *a = argv[i];
    if (!strcmp (a, "--rotate")) { rotate = true; continue; }
    if (!strcmp (a, "--stream")) { stream = true; continue; }
    if (i + 1 >= argc) { fprintf (stderr, "bad argument %s\n", a); return 2; }
    char *v = argv[++i];
    if (!strcmp (a, "--server")) server = v;
    else if (!strcmp (a, "--unix")) path = v;
    else if (!strcmp (a, "--tcp")) { tcp = true; host = v; if (i + 1 < argc && argv[i + 1][0] != '-') port = atoi (argv[++i]); }
    else if (!strcmp (a, "--op")) write_op = strstr (v, "write") != 0;
    else if (!strcmp (a, "--bs")) bs = strtoull (v, 0, 0);
    else if (!strcmp (a, "--qd")) qd = strtoull (v, 0, 0);
    else if (!strcmp (a, "--conns")) conns = strtoull (v, 0, 0);
    else if (!strcmp (a, "--recv")) rbuf = strtoull (v, 0, 0);
    else if (!strcmp (a, "--sndbuf")) sndbuf = strtoull (v, 0, 0);
    else if (!strcmp (a, "--pin-server")) pin = atoi (v);
    else if (!strcmp (a, "--seconds")) seconds = strtod (v, 0);
    else { fprintf (stderr, "bad argument %s\n", a); return 2; }
  }
  signal (SIGPIPE, SIG_IGN);
  bool is_dumb = !strcmp (server, "dumb");
  struct pollfd fds[conns];
  struct state st[conns];
  memset (st, 0, sizeof st);
  for (size_t i = 0; i < conns; i++) {
    fds[i] = (struct pollfd) { .fd = is_dumb ? dumb () : dial (), .events = POLLIN };
    if (!is_dumb) negotiate (fds[i].fd);
    if (sndbuf) { int n = sndbuf; setsockopt (fds[i].fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n); }
  }
  /* 512 requests made once. */
  char *reqs = calloc (512, 28);
  uint64_t blocks = export_size / bs;
  for (uint64_t i = 0; i < 512; i++) {
    char *r = reqs + i * 28;
    uint64_t off = (i * 7919 % blocks) * bs;
    memcpy (r, "\x25\x60\x95\x13", 4); r[7] = write_op;
    for (int k = 0; k < 8; k++) { r[8 + k] = i >> (56 - 8 * k); r[16 + k] = off >> (56 - 8 * k); }
    uint32_t l = htonl (bs); memcpy (r + 24, &l, 4);
  }
  size_t unit = write_op ? 16 : 16 + bs, area = rotate ? (qd * bs > rbuf ? qd * bs : rbuf) : rbuf;
  char *buf = aligned_alloc (4096, (area + 4095) & ~4095ul), *payload = malloc (bs);
  memset (buf, 1, area); memset (payload, 0x55, bs);
  size_t rpos = 0;
  uint64_t ops = 0, calls = 0, sends = 0;
  struct rusage r0, r1; getrusage (RUSAGE_SELF, &r0);
  uint64_t t0 = now (), deadline = t0 + seconds * 1e9, t;
  for (;;) {
    t = now ();
    if (t >= deadline) break;
    for (size_t i = 0; i < conns && !stream; i++) {
      if (st[i].out == qd && !st[i].owed) continue;
      if (write_op) send_units (fds[i].fd, qd - st[i].out, reqs, 28, payload, bs);
      else {
        st[i].owed += (qd - st[i].out) * 28;
        send_reads (fds[i].fd, &st[i], reqs);
      }
      st[i].out = qd; sends++;
    }
    if (conns > 1) poll (fds, conns, -1);
    for (size_t i = 0; i < conns; i++) {
      if (conns > 1 && !(fds[i].revents & POLLIN)) continue;
      if (rotate && rpos + rbuf > area) rpos = 0;
      ssize_t r = recv (fds[i].fd, buf + (rotate ? rpos : 0), rbuf, 0);
      if (r <= 0) die ("recv");
      if (rotate) rpos += (r + 63) & ~63;
      calls++;
      st[i].have += r;
      size_t n = st[i].have / unit;
      st[i].have %= unit; ops += n; st[i].out -= stream ? 0 : n;
    }
  }
  double wall = (t - t0) / 1e9;
  getrusage (RUSAGE_SELF, &r1);
  /* Leave nothing in flight (nbdkit 1.32 aborts if a client does), then disconnect. */
  for (size_t i = 0; i < conns && !is_dumb; i++) {
    for (size_t left = st[i].out * unit - st[i].have; left > 0;) {
      send_reads (fds[i].fd, &st[i], reqs);
      ssize_t r = recv (fds[i].fd, buf, rbuf, 0);
      if (r <= 0) die ("recv");
      left -= r;
    }
    reqs[7] = 2;
    if (write (fds[i].fd, reqs, 28) != 28) die ("write");
  }
  double user = tv (r1.ru_utime) - tv (r0.ru_utime), sys = tv (r1.ru_stime) - tv (r0.ru_stime);
  printf ("{\"client\":\"raw-%s%s%s\",\"op\":\"%s\",\"bs\":%zu,\"qd\":%zu,\"conns\":%zu,\"ops\":%lu,\"bytes\":%lu,\"wall_s\":%.4f,"
          "\"iops\":%.0f,\"mib_s\":%.1f,\"user_s\":%.4f,\"sys_s\":%.4f,\"cpu_us_op\":%.3f,\"recv_per_op\":%.3f,\"send_per_op\":%.3f,\"recv\":%zu,\"nvcsw\":%ld}\n",
          server, stream ? "-stream" : "", rotate ? "-rotate" : "", write_op ? "write" : "read", bs, qd, conns, ops, ops * bs, wall, ops / wall,
          ops * (double) bs / wall / 1048576, user, sys, ops ? (user + sys) * 1e6 / ops : 0.,
          ops ? (double) calls / ops : 0., ops ? (double) sends / ops : 0., rbuf, r1.ru_nvcsw - r0.ru_nvcsw);
  fflush (stdout);
  /* Reap the dumb servers, so that who times this process sees their time too. */
  for (size_t i = 0; i < conns; i++) close (fds[i].fd);
  while (wait (0) > 0) ;
  return 0;
}
