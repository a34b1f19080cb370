#!/usr/bin/env python3
"""Draws how the size of a simulated pool follows its load: docs/pictures/a-pool-that-breathes.svg.

    tools/scaling_picture.py [--test build/release/sim_scaling_test] [--out FILE.svg]
"""
import argparse
import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PANELS = (
    ("steps", "Steps: 0, 64, 0, 16, 64, 8 and 0 workers' worth of calls of 200 ms, from zero workers"),
    ("slow-waves", "Waves of 5 minutes, 0 to 64"),
    ("fast-waves", "Waves of 10 s: they come back within scale_down_after (20 s here), so the size stays"),
)
WIDTH, PANEL, LEFT, TOP = 960, 190, 60, 54
TEXT = 'font-family="system-ui, DejaVu Sans, sans-serif" fill="#1f2933"'


def series(path):
    return [tuple(map(float, line.split())) for line in path.read_text().splitlines()]


def line(points, x, y, colour, width):
    path = " ".join(f"{x(t):.1f},{y(value):.1f}" for t, value in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def panel(top, title, rows):
    end = rows[-1][0]
    most = max(max(load, size) for _, load, size in rows)
    right, low, high = WIDTH - 24, top + PANEL - 34, top + 26

    def x(t):
        return LEFT + (right - LEFT) * t / end

    def y(value):
        return low - (low - high) * value / most

    out = [f'<text x="{LEFT}" y="{top + 14}" font-size="13" {TEXT}>{title}</text>']
    for value in (0, 32, 64, 96):
        if value <= most:
            out.append(f'<line x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#e4e7eb"/>')
            out.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" font-size="12" text-anchor="end" {TEXT}>{value}</text>')
    for minute in range(int(end // 60) + 1):
        out.append(f'<text x="{x(minute * 60):.1f}" y="{low + 18}" font-size="12" text-anchor="middle" {TEXT}>{minute} min</text>')
    sizes, loads = [], []
    for t, load, size in rows[:: max(1, len(rows) // 500)]:
        if sizes and sizes[-1][1] != size:
            sizes.append((t, sizes[-1][1]))
        sizes.append((t, size))
        loads.append((t, load))
    return [*out, line(loads, x, y, "#e8833a", 1.2), line(sizes, x, y, "#2f6fb0", 1.8)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", type=Path, default=ROOT / "build/release/sim_scaling_test")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/pictures/a-pool-that-breathes.svg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.test, "--gtest_brief=1"], check=True, env={**os.environ, "KEELBACK_SCALING_SERIES": folder})
        height = TOP + PANEL * len(PANELS) + 6
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
            'aria-label="The size of a pool follows its load">',
            "<!-- A run of the simulator, drawn by tools/scaling_picture.py -->",
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="white" stroke="#cbd2d9"/>',
            f'<text x="24" y="32" font-size="16" font-weight="bold" {TEXT}>'
            '<tspan fill="#2f6fb0">Workers</tspan> of a pool and its <tspan fill="#e8833a">load</tspan>, in workers that are always busy</text>',
        ]
        for i, (name, title) in enumerate(PANELS):
            out += panel(TOP + i * PANEL, title, series(Path(folder) / f"{name}.txt"))
        options.out.write_text("\n".join([*out, "</svg>", ""]))


if __name__ == "__main__":
    main()
