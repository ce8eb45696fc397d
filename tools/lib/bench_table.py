#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws benchmark results (one JSON object a line on stdin) as a table."""
import json
import sys

COLUMNS = ["bench", "metric", "unit", "value", "peer", "peer_value", "ratio", "runs"]


def text(value):
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else str(value)


def main():
    rows = [COLUMNS]
    for line in sys.stdin:
        if line.strip():
            result = json.loads(line)
            rows.append([text(result.get(column)) for column in COLUMNS])
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


main()
