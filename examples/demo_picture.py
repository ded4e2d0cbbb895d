#!/usr/bin/env python3
"""Draws what the demo prints: examples/demo_picture.py > examples/demo.svg

Reads the demo's output from standard input, or runs it. Uses the standard library alone.
"""
import html
import re
import subprocess
import sys

WIDTH, MARGIN, LINE, BAR = 920, 24, 19, 26
GREEN, RED, GREY, WHITE = "#3fb950", "#f85149", "#8b949e", "#e6edf3"


def records(text):
    """Time, speaker and words of each line that has them, and the last line."""
    found = re.findall(r"^\s*([\d.]+) s\s+(world|client)\s+(.*)$", text, re.MULTILINE)
    return [(float(time), who, words.strip()) for time, who, words in found], text.splitlines()[-1]


def is_told(words):
    """Attempts that begin are told by how they end, and only the first that fails is."""
    return not words.startswith(("connecting", "round trip")) and not re.match(
        r"attempt ([2-9]|\d\d) failed", words
    )


def picture(lines, verdict):
    end = lines[-1][0]
    across = lambda time: MARGIN + (WIDTH - 2 * MARGIN) * time / end
    told = [line for line in lines if is_told(line[2])]
    height = MARGIN + BAR + 40 + LINE * (len(told) + 2) + MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#0d1117"/>',
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{WIDTH - 2 * MARGIN}" height="{BAR}" rx="4" '
        f'fill="{RED}"/>',
    ]
    up = None
    for time, _, words in lines:
        is_end = words.startswith(("disconnected", "closed"))
        if words.startswith("connected"):
            up = time
        elif is_end and up is not None:
            width = max(across(time) - across(up), 1)
            out.append(
                f'<rect x="{across(up):.1f}" y="{MARGIN}" width="{width:.1f}" height="{BAR}" '
                f'fill="{GREEN}"/>'
            )
            up = None
    for second in range(0, int(end) + 1, 2):
        out.append(
            f'<text x="{across(second):.1f}" y="{MARGIN + BAR + 16}" fill="{GREY}" '
            f'font-size="11">{second} s</text>'
        )
    y = MARGIN + BAR + 46
    for time, who, words in told:
        color = {"world": RED}.get(who, GREEN if words.startswith("connected") else WHITE)
        words = re.sub(r" to ws://[\d.:/]+| \(os error \d+\)", "", words)
        if len(words) > 92:
            words = words[:91] + "…"
        out.append(
            f'<text x="{MARGIN}" y="{y}" fill="{GREY}" xml:space="preserve">{time:7.3f} s  '
            f'<tspan fill="{color}">{who}  {html.escape(words)}</tspan></text>'
        )
        y += LINE
    out.append(f'<text x="{MARGIN}" y="{y + 8}" fill="{WHITE}" font-weight="bold">{html.escape(verdict)}</text>')
    out.append("</svg>")
    return "\n".join(out)


def main():
    if sys.stdin.isatty():
        command = ["cargo", "run", "--quiet", "--example", "demo"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    else:
        text = sys.stdin.read()
    print(picture(*records(text)))


main()
