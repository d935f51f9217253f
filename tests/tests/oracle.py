"""What weir must make of a file, said by a program that shares nothing with it.

  oracle.py generate COUNT OUT      writes COUNT events, one a line, many of them decoys
  oracle.py filter IN OUT           keeps those of which `.reason == "BackOff"` holds
  oracle.py add IN OUT              `.cluster = "test"` and `.node = .source.host`: two fields, the rest byte for byte
  oracle.py merge IN OUT            `. = merge(., {...})`: the whole event anew, keys sorted at every level
"""

import json
import random
import sys

PHRASE = '"reason":"BackOff"'
OTHERS = ["Scheduled", "Pulled", "Started", "Unhealthy", "backoff", "BackOffs", "BackOff ", "", "B\u00e4ckOff"]

# The fields that state the reason. {r} is another reason as JSON. Bytes and meaning disagree in most of them.
DECOYS = [
    '"related":{' + PHRASE + '},"reason":{r}',
    '"related":[{' + PHRASE + ',"reason":{r}}],"reason":{r}',
    '"reason":{r},"note":"was {\\"reason\\":\\"BackOff\\"} \\u2013 ,\\"reason\\":\\"BackOff\\",\\\\"',
    '"reason":{r},"note":"\\\\",' + '"x":"' + PHRASE.replace('"', '\\"') + '"',
    '"re\\u0061son":"BackOff"',
    '"re\\u0061son":{r}',
    '"reason":"B\\u0061ckOff"',
    '"\\u0072eason" : "Back\\u004fff"',
    '"reason" : "BackOff" ',
    '\t"reason"\t:\t{r}\r',
    '"reason":"Pulled","reason":"BackOff"',
    '"reason":"BackOff","reason":{r}',
    '"reason":"BackOff","re\\u0061son":{r}',
    '"re\\u0061son":{r},"reason":"BackOff"',
    '"note":"C:\\\\","reason":"BackOff"',
    '"reason":["BackOff"]',
    '"reason":{"reason":"BackOff"}',
    '"reason":null,"Reason":"BackOff"',
    '"reason":true,".reason":"BackOff"',
    '"cluster":"elsewhere","reason":"BackOff"',
    '"cluster" : {"node":1,"cluster":"a"} , "reason":"BackOff","cluster":[ 1, 2 ]',
    '"node":{r},"c\\u006custer":0,"reason":"BackOff","node":"twice"',
    '"missing":"the reason"',
]


def event(number, dice):
    reason = "BackOff" if dice.random() < 0.2 else dice.choice(OTHERS)
    stated = '"reason":' + json.dumps(reason)
    if dice.random() < 0.3:
        stated = dice.choice(DECOYS).replace("{r}", json.dumps(dice.choice(OTHERS), ensure_ascii=dice.random() < 0.5))
    text = "Back-off restarting failed container main \u2013 " + "x" * dice.randrange(80)
    message = json.dumps(text, ensure_ascii=number % 2 == 0)
    meta = '{"name":"pod-%x","uid":"%032x","labels":{"z":"\\/","a":[],"m":{}}}' % (number, dice.getrandbits(128))
    host = "node-%02d" % dice.randrange(97)
    before = '{"kind":"Event","metadata":' + meta + ',"count":%d,' % dice.randrange(-9, 1000)
    after = ',"message":' + message + ',"source":{"component":"kubelet","host":"' + host + '"},"ok":true,"end":null}'
    return before + stated + after


def top_level(line):
    """Where the members of an object stand: name, start and end of the value."""
    at, found = 1, []
    blank = " \t\r"
    while True:
        while line[at] in blank:
            at += 1
        if line[at] == "}":
            return found
        if line[at] == ",":
            at += 1
            continue
        name, at = json.decoder.scanstring(line, at + 1)
        while line[at] in blank:
            at += 1
        at += 1  # the colon
        while line[at] in blank:
            at += 1
        start = at
        _, at = DECODER.raw_decode(line, at)
        found.append((name, start, at))


DECODER = json.JSONDecoder()


def set_field(line, name, value):
    """A new field goes to the end; one that is there is replaced where it stands last, and stands nowhere else."""
    members = top_level(line)
    mine = [number for number, member in enumerate(members) if member[0] == name]
    if not mine:
        end = line.rindex("}")
        return line[:end] + ',"' + name + '":' + value + line[end:]
    _, start, end = members[mine[-1]]
    line = line[:start] + value + line[end:]
    for number in reversed(mine[:-1]):
        # Never the first member here: what goes is from the comma before it to the comma behind it.
        (_, _, before), (_, _, end) = members[number - 1 : number + 1]
        line = line[: line.index(",", before)] + line[line.index(",", end) :]
    return line


def filtered(line):
    return line if json.loads(line).get("reason") == "BackOff" else None


def added(line):
    host = json.loads(line)["source"]["host"]
    if '"cluster"' not in line and '"c\\u006custer"' not in line and '"node"' not in line:
        # A short cut for most of them.
        return line[:-1] + ',"cluster":"test","node":"' + host + '"}'
    return set_field(set_field(line, "cluster", '"test"'), "node", json.dumps(host))


def merged(line):
    value = json.loads(line)
    value.update({"cluster": "test", "B": [1, {"z": 1, "a": 2}], "reason": "new"})
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def main(verb, *arguments):
    if verb == "generate":
        count, path = arguments
        dice = random.Random(7)
        with open(path, "w", encoding="utf-8", newline="") as out:
            for number in range(int(count)):
                out.write(event(number, dice) + "\n")
        return
    work = {"filter": filtered, "add": added, "merge": merged}[verb]
    source, path = arguments
    with open(source, encoding="utf-8", newline="\n") as lines, open(path, "w", encoding="utf-8", newline="") as out:
        for line in lines:
            result = work(line[:-1])
            if result is not None:
                # Whatever takes a carriage return for the end of a line sees one line, too.
                out.write(result.replace("\r", "") + "\n")


main(*sys.argv[1:])
