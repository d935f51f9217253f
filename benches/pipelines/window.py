#!/usr/bin/env python3
"""Runs weir and Spark Structured Streaming side by side on windows over many keys, and prints a table.

The work: JSON records of 150 bytes in a topic of four partitions; count them and sum a number by key in windows of one
minute of event time; write the results to another topic. The sums over all results are compared with what was written
before figures count. The programs take turns, against one real broker; CPU is that of the process and its children, from
start to the last result. `weir-cache` is weir with `cache: 16MiB` in each of its eight state partitions: the windows are on disk.

With --recovery: how long weir, killed when it has read three quarters and holds a window for each key and minute, takes from
its start to the first record it counts again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
PEERS = Path(os.environ.get("PEERS_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir-peers")
TICKS = os.sysconf("SC_CLK_TCK")

GRAPH = """name: window
idle_timeout: 0s
sources:
  in: {{type: kafka, bootstrap_servers: "{boot}", topics: ["{source}"], group_id: "{group}", start: earliest, stop: at_end}}
transforms:
  minute:
    type: aggregate
    inputs: [in]
    time: .ts
    window: {{tumbling: 1m}}
    group_by: [.key]
    compute: {{n: count, total: {{sum: .bytes}}}}
    max_keys: 10000000
    {more}
sinks:
  out: {{type: kafka, inputs: [minute], bootstrap_servers: "{boot}", topic: "{out}", key: "{{{{ .key }}}}"}}
"""
CACHE = "cache: 16MiB"
# nothing is put out: it holds all there is
FOR_EVER = "lateness: 10000h"
PROGRAMS = ["weir", "weir-cache", "spark"]


class Watch(threading.Thread):
    """CPU and peak memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.cpu, self.peak, self.over = pid, 0.0, 0, False

    def tree(self) -> list[int]:
        found, open_ = [], [self.pid]
        while open_:
            pid = open_.pop()
            found.append(pid)
            try:
                for task in Path(f"/proc/{pid}/task").iterdir():
                    open_ += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                pass
        return found

    def look(self) -> None:
        cpu, memory = 0.0, 0
        for pid in self.tree():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                cpu += (int(fields[11]) + int(fields[12])) / TICKS
                memory += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
            except OSError:
                pass
        self.cpu, self.peak = max(self.cpu, cpu), max(self.peak, memory)

    def run(self) -> None:
        while not self.over:
            self.look()
            time.sleep(0.05)


def measured(command: list[str], env: dict[str, str], cwd: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of a program that ends by itself."""
    started = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, **env}, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    watch = Watch(process.pid)
    watch.start()
    error = process.communicate()[1]
    watch.over = True
    if process.returncode != 0:
        sys.exit(f"{command[0]} ended with {process.returncode}: {error.decode()[-2000:]}")
    return time.monotonic() - started, watch.cpu, watch.peak / 2**20


def recovery(boot: str, source: str, records: int, more: str) -> tuple[float, int, float]:
    """Seconds from the start of a killed weir to its next record, what it had counted, and the MiB of its state."""
    with tempfile.TemporaryDirectory() as folder:
        graph = GRAPH.format(boot=boot, source=source, out=f"{source}-none", group=f"{source}-{len(more)}", more=more)
        # A member that the group knows has its partitions back at once; another waits until the dead one is given up.
        graph = graph.replace("start: earliest", "start: earliest, group_instance_id: bench")
        Path(folder, "graph.yaml").write_text(graph)

        def run_until(least: int) -> tuple[float, int]:
            with open(f"{folder}/log", "w") as log:
                command = [str(BINARIES / "weir"), "run", "--set", "telemetry.listen=127.0.0.1:0", "graph.yaml"]
                started = time.monotonic()
                process = subprocess.Popen(command, cwd=folder, stderr=log)
            while (count := counted(Path(folder, "log").read_text())) < least:
                if process.poll() is not None:
                    sys.exit(f"weir ended with {process.returncode}: {Path(folder, 'log').read_text()[-2000:]}")
                time.sleep(0.01)
            took = time.monotonic() - started
            process.kill()
            process.wait()
            return took, count

        _, before = run_until(records * 3 // 4)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        took, _ = run_until(1)
        return took, before, size / 2**20


def counted(log: str) -> int:
    """Records that the windows hold, by the metrics of the weir that writes this log."""
    if "telemetry=" not in log:
        return 0
    address = log.split("telemetry=", 1)[1].split()[0]
    try:
        metrics = urllib.request.urlopen(f"http://{address}/metrics", timeout=5).read().decode()
    except OSError:
        return 0
    name = 'weir_node_events_total{node="minute",outcome="absorbed"} '
    return next((int(float(line[len(name) :])) for line in metrics.splitlines() if line.startswith(name)), 0)


def bench(boot: str, *args: str) -> str:
    return subprocess.run([str(BINARIES / "weir-bench"), "--bootstrap", boot, *args], check=True, text=True, stdout=subprocess.PIPE).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boot", default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), required=not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"))
    parser.add_argument("--records", type=int, default=4_000_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--only", choices=PROGRAMS)
    parser.add_argument("--recovery", action="store_true", help="measure that instead")
    args = parser.parse_args()
    mark = f"{os.getpid()}"
    source = f"window-in-{mark}"
    print(f"{args.records} records, {args.keys} keys, {args.turns} turns", flush=True)
    bench(args.boot, "window-load", "--topic", source, "--records", str(args.records), "--keys", str(args.keys))
    if args.recovery:
        for more in ["", CACHE]:
            took, before, size = recovery(args.boot, source, args.records, FOR_EVER + (f"\n    {more}" if more else ""))
            print(f"{more or 'in memory'}: killed at {before} records, counts again after {took:.2f} s, {size:.0f} MiB on disk", flush=True)
        return
    print("| program | records/s | CPU us/record | peak MiB | results |\n|---|---|---|---|---|", flush=True)
    expected = None
    for turn in range(args.turns):
        for name in [args.only] if args.only else PROGRAMS:
            out = f"window-out-{mark}-{name}-{turn}"
            bench(args.boot, "window-load", "--topic", out, "--records", "0", "--keys", "1")
            with tempfile.TemporaryDirectory() as folder:
                if name != "spark":
                    more = CACHE if name == "weir-cache" else ""
                    graph = GRAPH.format(boot=args.boot, source=source, out=out, group=out, more=more)
                    Path(folder, "graph.yaml").write_text(graph)
                    command, env = [str(BINARIES / "weir"), "run", "--once", "graph.yaml"], {}
                else:
                    spark = PEERS / "spark"
                    command = [str(spark / "venv/bin/python"), str(HERE / "peers/spark/window.py")]
                    env = {"SPARK_JARS": str(spark / "jars"), "BOOT": args.boot, "TOPIC_IN": source, "TOPIC_OUT": out, "SPARK_CK": f"{folder}/ck"}
                wall, cpu, peak = measured(command, env, folder)
            found = json.loads(bench(args.boot, "window-verify", "--topic", out))
            expected = expected or found
            if found != expected or found["n"] != args.records:
                sys.exit(f"{name}: {found} is not {expected} over {args.records} records")
            rate, each = args.records / wall, cpu / args.records * 1e6
            print(f"| {name} | {rate:,.0f} | {each:.2f} | {peak:.0f} | {found['results']} |", flush=True)


if __name__ == "__main__":
    main()
