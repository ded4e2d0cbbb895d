"""Judges the two reports of the Autobahn test suite for run.sh, which says how it is used.

A case has two results: how the peer behaved, and how it closed. Each must be OK. The suite does not
judge three cases but only reports what it saw; of those alone INFORMATIONAL is expected.
"""

import argparse
import collections
import json
import pathlib
import sys

INFORMATIONAL_CASES = {"7.1.6", "7.13.1", "7.13.2"}

COUNTED = {
    "OK": "OK",
    "INFORMATIONAL": "informational",
    "NON-STRICT": "non-strict",
    "FAILED": "failed",
    "UNIMPLEMENTED": "unimplemented",
}


def result(number, report):
    """The one word for a case. Whatever is not known here is a failure."""
    behavior, close = report["behavior"], report["behaviorClose"]
    if close not in ("OK", "INFORMATIONAL"):
        return "FAILED"
    if behavior == "INFORMATIONAL" and number not in INFORMATIONAL_CASES:
        return "FAILED"
    return behavior if behavior in COUNTED else "FAILED"


def in_order(number):
    return [int(part) for part in number.split(".")]


def judge(side, path, expected, allowed):
    """Prints what is not OK; returns the side's part of the last line, and if it is a success."""
    try:
        reports = json.loads(path.read_text())["everlink"]
    except (OSError, ValueError, KeyError) as error:
        print(f"{side}: no report: {error!r}")
        reports = {}
    numbers = collections.defaultdict(list)
    for number in sorted(reports, key=in_order):
        numbers[result(number, reports[number])].append(number)
    for word in COUNTED:
        if word != "OK" and numbers[word]:
            allowance = " (allowed)" if word in allowed else ""
            print(f"{side}: {COUNTED[word]}{allowance}: {' '.join(shortened(numbers[word]))}")
    for number in numbers["FAILED"]:
        report = reports[number]
        behavior, close, code = (report[key] for key in ("behavior", "behaviorClose", "remoteCloseCode"))
        print(f"{side}: {number}: {behavior}, its close {close} with code {code}: {report['reportfile']}")
    counts = ", ".join(f"{len(numbers[word])} {COUNTED[word]}" for word in COUNTED)
    bad = [word for word in COUNTED if numbers[word] and word not in {"OK", "INFORMATIONAL"} | allowed]
    missing = not reports or (expected and len(reports) != expected)
    if missing:
        print(f"{side}: {len(reports)} cases were run, {expected or 'some'} were expected")
    return f"{side} {counts} of {expected or len(reports)}", not bad and not missing


def shortened(numbers):
    """12.1.1 to 12.1.18 instead of each."""
    runs = []
    for number in numbers:
        *group, last = in_order(number)
        if runs and runs[-1][0] == group and runs[-1][2] == last - 1:
            runs[-1][2] = last
        else:
            runs.append([group, last, last])
    for group, first, last in runs:
        dotted = ".".join(map(str, group))
        yield f"{dotted}.{first}" if first == last else f"{dotted}.{first}-{last}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--cases", type=int, help="how many must have been run; 0: any number")
    parser.add_argument("--allow", default="", help="results that are no failures")
    options = parser.parse_args()
    allowed = set(options.allow.split())
    unknown = allowed - {"NON-STRICT", "UNIMPLEMENTED"}
    if unknown:
        sys.exit(f"what can be allowed is NON-STRICT and UNIMPLEMENTED, not {' '.join(sorted(unknown))}")
    words = " and ".join(COUNTED[word] for word in sorted(allowed))
    print(f"allowed besides OK: {words}" if allowed else "nothing but OK is allowed")
    judged = [
        judge(side, options.work / f"{side}s" / "index.json", options.cases, allowed)
        for side in ("client", "server")
    ]
    print("autobahn: " + "; ".join(line for line, _ in judged))
    sys.exit(not all(good for _, good in judged))


main()
