"""Turns lines of `TIME SENDER > RECEIVER LENGTH` into the CSV that `tempograph prepare` reads.

python3 framework/examples/messages_to_csv.py framework/examples/messages.txt messages.csv
"""
import csv
import sys

source, out = sys.argv[1:]
numbers = {}  # each name's number, in the order of its first message
with open(source) as lines, open(out, "w", newline="") as table:
    write = csv.writer(table).writerow
    write(["src", "dst", "ts", "label", "length"])
    for row, line in enumerate(lines, 1):
        try:
            time, sender, arrow, receiver, length = line.split()
            assert arrow == ">"
        except (ValueError, AssertionError):
            sys.exit(f"{source} row {row}: {line.strip()!r} is not TIME SENDER > RECEIVER LENGTH")
        ends = [numbers.setdefault(name, len(numbers)) for name in (sender, receiver)]
        write([*ends, time, 0, float(length)])
with open(out + ".names.txt", "w") as names:
    names.writelines(name + "\n" for name in numbers)
