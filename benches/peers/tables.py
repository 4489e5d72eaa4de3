"""Medians, ratios and verdicts, as Markdown."""

import statistics

import workloads as w


class Results:
    """Figures of all runs: by workload and client."""

    def __init__(self):
        self.runs = {}
        self.problems = {}

    def add(self, workload, client, figures):
        self.runs.setdefault(workload, {}).setdefault(client, []).append(figures)

    def fail(self, workload, client, why):
        self.problems[workload, client] = why

    def median(self, workload, client, key):
        runs = self.runs.get(workload, {}).get(client)
        if not runs or key not in runs[0]:
            return None
        return statistics.median(run[key] for run in runs)

    def spread(self, workload, client, key):
        """How far the runs are apart, in parts of their median."""
        values = [run[key] for run in self.runs[workload][client]]
        return (max(values) - min(values)) / statistics.median(values)

    def best(self, workload, peers, key, least=False):
        """The peer that is best at `key`, and how good it is."""
        values = [(self.median(workload, peer, key), peer) for peer in peers]
        values = [pair for pair in values if pair[0] is not None]
        if not values:
            return None, None
        value, peer = min(values) if least else max(values)
        return peer, value


def table(head, rows, right=()):
    """A Markdown table whose source lines up, too."""
    lines = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    rule = [("-" * (n - 1) + ":") if i in right else "-" * n for i, n in enumerate(widths)]

    def row(cells):
        padded = (
            cell.rjust(n) if i in right else cell.ljust(n)
            for i, (cell, n) in enumerate(zip(cells, widths))
        )
        return "| " + " | ".join(padded) + " |"

    return "\n".join([row(lines[0]), row(rule), *map(row, lines[1:])])


def number(value):
    """Three digits that count."""
    if value is None:
        return "–"
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value >= 1e4:
        return f"{value / 1e3:.0f} k"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def medians(results, names, clients):
    """One row for each workload: metric and processor time of each client."""
    unit = {"iops": "IOPS", "mib_s": "MiB/s"}
    rows = []
    for load in w.WORKLOADS:
        if load.name not in names:
            continue
        keys = ((load.metric, unit[load.metric]), ("cpu_us_op", "CPU µs/op"))
        for label, (key, text) in zip((load.name, ""), keys):
            cells = (number(results.median(load.name, client, key)) for client in clients)
            rows.append([label, text, *cells, spread(results, load.name, key)])
    head = ["Workload", "", *clients, "spread"]
    return table(head, rows, right=range(2, len(head)))


def spread(results, workload, key):
    runs = results.runs.get(workload, {}).get(w.OURS, [])
    return f"{results.spread(workload, w.OURS, key):.0%}" if len(runs) > 1 else "–"


def judge(results, load, client, goal, peers):
    """One row of the table of goals, and whether the goal is met; `None` if that cannot be
    told."""
    key = "cpu_us_op" if goal.cpu else load.metric
    over, base = goal.over, results.median(load.name, goal.over, key)
    if over == "best":
        over, base = results.best(load.name, peers, key, least=goal.cpu)
    mine = results.median(load.name, client, key)
    what = {"iops": "IOPS", "mib_s": "MiB/s", "cpu_us_op": "CPU"}[key]
    label = f"best peer ({over})" if goal.over == "best" else goal.over
    if mine is None or not base:
        return [load.name, client, what, label, "–", str(goal), "not judged"], None
    ratio = mine / base
    met = goal.is_met(ratio)
    verdict = "pass" if met else "FAIL"
    return [load.name, client, what, label, f"{ratio:.2f}×", str(goal), verdict], met


def verdicts(results, names, peers):
    """The table of goals, and how many of them are missed."""
    judged = []
    for load in w.WORKLOADS:
        if load.name in names:
            judged += [judge(results, load, w.OURS, goal, peers) for goal in load.goals]
            judged += [
                judge(results, load, client, goal, peers)
                for client, goal in w.VARIANTS.get(load.name, [])
                if goal
            ]
    head = ["Workload", "Client", "", "over", "is", "goal", ""]
    rows = [row for row, _ in judged]
    return table(head, rows, right=(4, 5)), sum(met is False for _, met in judged)


def variants(results, names):
    """The other ways to use ours, beside the plain one."""
    rows = []
    for load in w.WORKLOADS:
        if load.name not in names:
            continue
        for client, _ in w.VARIANTS.get(load.name, []):
            base = results.median(load.name, w.OURS, load.metric)
            mine = results.median(load.name, client, load.metric)
            ratio = f"{mine / base:.2f}×" if mine and base else "–"
            cpu = results.median(load.name, client, "cpu_us_op")
            rows.append([load.name, client, number(mine), number(cpu), ratio])
    if not rows:
        return None
    head = ["Workload", "Client", "IOPS or MiB/s", "CPU µs/op", f"over {w.OURS}"]
    return table(head, rows, right=(2, 3, 4))


def depths(results, clients):
    """Figures over queue depth, and how many goals they miss."""
    rows, missed, lowest = [], 0, None
    for qd in w.DEPTHS:
        name = f"depth-{qd}"
        if name not in results.runs:
            continue
        cells = []
        for client in clients:
            iops = results.median(name, client, "iops")
            cpu = results.median(name, client, "cpu_us_op")
            cells.append(f"{number(iops)} · {number(cpu)}" if iops else "–")
        mine = results.median(name, w.OURS, "cpu_us_op")
        peer = results.median(name, w.LIBNBD, "cpu_us_op")
        wrong = []
        if mine and peer and mine > peer:
            wrong.append("above libnbd")
        if mine and lowest and qd <= 1024 and mine > lowest * w.FLAT:
            wrong.append(f"rises to {mine / lowest:.2f}×")
        if mine:
            lowest = min(mine, lowest or mine)
        missed += len(wrong)
        memory = results.median(name, w.OURS, "max_rss_kib")
        verdict = "FAIL: " + ", ".join(wrong) if wrong else ("pass" if mine else "not judged")
        rows.append([qd, *cells, f"{memory / 1024:.1f}" if memory else "–", verdict])
    head = ["Depth", *clients, "MiB of ours", ""]
    return table(head, rows, right=range(len(head) - 1)), missed
