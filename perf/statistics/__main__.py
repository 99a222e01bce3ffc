"""`python -m perf.statistics`: size, coverage and power of every procedure as one table, by simulation with fixed seeds."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from perf.statistics import head_claims, intervals, sets
from perf.statistics.rows import Row

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
START, END = "<!-- measured: python -m perf.statistics --update -->", "<!-- end of measured -->"


def measure(scale: float) -> Iterator[Row]:
    """Every line of the table; `scale` multiplies the numbers of simulated cases."""

    def cases(number: int) -> int:
        return max(20, round(scale * number))

    yield from intervals.coverage(cases(60_000))
    yield from intervals.skewed_coverage(cases(10_000))
    yield from intervals.all_right(cases(2_000))
    yield from intervals.sign_flips(cases(1_000))
    yield from head_claims.false_positives(cases(600))
    yield from head_claims.one_class_heads(cases(600))
    yield from head_claims.power(cases(600))
    yield from head_claims.noise_heads(cases(100))
    yield from head_claims.suppressor_pair(cases(200))
    yield from sets.random_sets(cases(2_000))
    yield from sets.shared(cases(150))
    yield from sets.levels(cases(500))
    yield from sets.random_models(cases(20_000))


def table(rows: Iterator[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| procedure | where | what | share | ± | cases |", "|---|---|---|---|---|---|"]
    lines += [f"| {row.procedure} | {row.setting} | {row.quantity} | {row.value:.3f} | {row.error:.3f} | {row.cases:,} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Print the table; with `--update` put it into docs/statistics.md too."""
    parser = argparse.ArgumentParser(prog="python -m perf.statistics", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the numbers of simulated cases")
    parser.add_argument("--update", action="store_true", help="put the table into docs/statistics.md")
    options = parser.parse_args()
    text = table(measure(options.scale))
    print(text)
    if options.update:
        page = PAGE.read_text(encoding="utf-8")
        block = re.compile(f"{re.escape(START)}.*{re.escape(END)}", re.DOTALL)
        PAGE.write_text(block.sub(lambda _: f"{START}\n\n{text}\n\n{END}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
