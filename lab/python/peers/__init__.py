"""What users would run instead, behind one small interface, for `keelback bench peers`: the same trivial function, the same measurements.

`python -m peers NAME` reads one JSON order a line and answers one JSON object a line:

    {"op": "start", "workers": 2}             {"ok": true, "version": "..."}   or {"ok": false, "error": "..."}: not installed
    {"op": "latency", "ms": 100}              {"ok": true, "calls": n, "p50_us": x, "p99_us": y}
    {"op": "throughput", "callers": 16, "ms": 200}   {"ok": true, "per_second": x}

HTTP peers answer "start" with {"port": n} and are measured from outside, by the client that measures Keelback's own server.
"""
