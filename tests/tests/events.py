"""A cluster's mixed logs, and what event_filter must keep of them, said by a program that shares nothing with it.

  events.py COUNT README IN EXPECTED PRESET...

Writes COUNT records into IN: container logs, logs that quote an event in their message, and Kubernetes events in both of
their shapes, in several spacings. EXPECTED gets the ones that belong to one of the presets, with their tags. What the
presets hold is read off the tables of README.
"""

import json
import random
import sys

SPACINGS = [(",", ":"), (", ", ": "), (" , ", " : ")]
KINDS = ["Pod", "Node", "Deployment", "ConfigMap", "PersistentVolumeClaim", "ClusterVersion", "Job"]
NAMESPACES = ["openshift-logging", "monitoring"]


def tables(path):
    """The entries of each reason: preset, kind, type."""
    entries, preset = {}, None
    with open(path, encoding="utf-8") as readme:
        for line in map(str.strip, readme):
            if line.startswith("| `") and preset:
                reason, kind, event_type, _by = (cell.strip(" `") for cell in line.strip("|").split("|"))
                entries.setdefault(reason, []).append((preset, kind, event_type))
            elif line.startswith("`") and line.endswith("`"):
                preset = line.strip("`")
    return entries


def record(number, event, dice):
    """A record, and whether it holds the event."""
    quoted = json.dumps({"verb": "ADDED", "event": event})
    router = {"container_name": "kube-eventrouter", "namespace_name": dice.choice(NAMESPACES)}
    return dice.choices(
        [
            ({"verb": "ADDED", "event": event, "number": number}, True),
            ({"message": "m", "number": number, "kubernetes": router | {"event": event}}, True),
            ({"message": quoted, "number": number, "kubernetes": router}, False),
            ({"number": number, "event": quoted, "kubernetes": {"labels": {"event": event}}}, False),
            ({"number": number, "level": "info", "message": "GET /healthz", "kubernetes": {"pod_name": "p"}}, False),
        ],
        [15, 15, 10, 5, 55],
    )[0]


def main(count, readme, path, expected, *asked):
    entries, dice = tables(readme), random.Random(5)
    reasons = [*entries, "Created", "Started", "LeaderElection"]
    with open(path, "w", encoding="utf-8") as out, open(expected, "w", encoding="utf-8") as kept:
        for number in range(int(count)):
            event = {
                "metadata": {"uid": f"u{number}"},
                "involvedObject": {"kind": dice.choice(KINDS), "name": f"x{number % 977}"},
                "reason": dice.choice(reasons),
                "type": dice.choice(["Normal", "Warning"]),
            }
            document, is_event = record(number, event, dice)
            line = json.dumps(document, separators=dice.choice(SPACINGS))
            out.write(line + "\n")
            tags = []
            for preset, kind, event_type in entries.get(event["reason"], []) if is_event else []:
                is_it = kind in ("any", event["involvedObject"]["kind"]) and event_type in ("any", event["type"])
                if preset in asked and is_it:
                    tags.append(preset)
            if tags:
                kept.write(f'{line[:-1]},"presets":{json.dumps(tags, separators=(",", ":"))}}}\n')


main(*sys.argv[1:])
