#!/usr/bin/env python3
"""Writes tests/oracle/oracle_data.h: what SciPy, an independent implementation, says of the statistics behind the performance laboratory's verdicts.

Run by hand where SciPy is installed; the tests only read the header. `tests/oracle/scipy_oracle.py > tests/oracle/oracle_data.h`
"""
import random

import numpy
import scipy
from scipy.optimize import nnls
from scipy.stats import mannwhitneyu, wilcoxon


def numbers(values):
    return "{" + ", ".join(repr(float(value)) for value in values) + "}"


def signed_rank(rng):
    for n in (5, 8, 12, 18, 26, 36, 50):
        for shift in (-0.3, 0.0, 0.2, 0.6):
            scores = [rng.gauss(shift, 1) for _ in range(n)]
            greater = wilcoxon(scores, alternative="greater", method="exact").pvalue
            less = wilcoxon(scores, alternative="less", method="exact").pvalue
            yield f"    {{{numbers(scores)}, {float(greater)!r}, {float(less)!r}}},"


def rank_sum(rng):
    for n, m in ((3, 4), (6, 6), (6, 15), (15, 15), (1, 8)):
        for shift in (0.0, 0.8, 2.0):
            first = [rng.gauss(0, 1) for _ in range(n)]
            second = [rng.gauss(shift, 1) for _ in range(m)]
            p = mannwhitneyu(first, second, alternative="two-sided", method="exact").pvalue
            yield f"    {{{numbers(first)}, {numbers(second)}, {float(p)!r}}},"


def scaling(rng):
    for law in ((480, 0.0, 0.0), (480, 0.05, 0.001), (1000, 0.6, 0.01), (50, 0.02, 0.0), (300, 0.0, 0.02)):
        n = numpy.array([1, 2, 3, 4, 6, 8, 12], dtype=float)
        ideal = law[0] * n / (1 + law[1] * (n - 1) + law[2] * n * (n - 1))
        x = ideal * numpy.array([1 + rng.gauss(0, 0.03) for _ in n])
        rows = numpy.stack([numpy.ones_like(n), n - 1, n * (n - 1)], axis=1) * (x / n)[:, None]
        a, b, c = nnls(rows, numpy.ones_like(n))[0]
        yield f"    {{{numbers(n)}, {numbers(x)}, {float(1 / a)!r}, {float(b / a)!r}, {float(c / a)!r}}},"


def main():
    rng = random.Random(20261125)
    print(f"// Made by tests/oracle/scipy_oracle.py with SciPy {scipy.__version__}. Do not edit.")
    print("#pragma once\n\n#include <vector>\n\nnamespace keelback::bench::oracle {\n\n// clang-format off")
    for name, fields, rows in (
        ("SignedRank", "std::vector<double> scores; double greater, less;", signed_rank(rng)),
        ("RankSum", "std::vector<double> first, second; double p;", rank_sum(rng)),
        ("Scaling", "std::vector<double> n, x; double lambda, sigma, kappa;", scaling(rng)),
    ):
        print(f"struct {name}Case {{ {fields} }};")
        print(f"inline const std::vector<{name}Case> k{name} = {{")
        print("\n".join(rows))
        print("};")
    print("// clang-format on\n\n}  // namespace keelback::bench::oracle")


if __name__ == "__main__":
    main()
