"""Reconciles two published exchange-rate series: the mean of twelve months against the annual figure.

Reads /input/monthly.csv and /input/annual.csv (columns Date, Country, Exchange rate), writes breaks.csv,
summary.json and report.txt to the output directory, and the summary as the job's result.

Decimal throughout, so that the verdict on a break at the edge of the tolerance does not depend on how a
processor rounds.
"""

import csv
import json
import os
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

INPUT = Path(os.environ["CORDON_INPUT"])
OUTPUT = Path(os.environ["CORDON_OUTPUT"])


def read(name):
    """Yields (year, month, country, rate) of every row that has a rate."""
    with open(INPUT / name, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["Exchange rate"].strip():
                year, month, _ = row["Date"].split("-")
                yield int(year), int(month), row["Country"], Decimal(row["Exchange rate"])


def main():
    parameters = json.loads(Path(os.environ["CORDON_PARAMS"]).read_text(encoding="utf-8"))
    tolerance = Decimal(str(parameters["tolerance"]))

    months = defaultdict(dict)
    for year, month, country, rate in read("monthly.csv"):
        months[country, year][month] = rate

    agree, breaks, incomplete = 0, [], []
    for year, _, country, annual in read("annual.csv"):
        rates = months.get((country, year), {})
        if len(rates) < 12:
            incomplete.append((country, year, len(rates)))
            continue
        mean = sum(rates.values()) / 12
        difference = (mean - annual) / annual
        if abs(difference) <= tolerance:
            agree += 1
        else:
            breaks.append((country, year, annual, mean, difference))
    breaks.sort(key=lambda row: -abs(row[4]))

    summary = {
        "tolerance": str(tolerance),
        "agree": agree,
        "differ": len(breaks),
        "incomplete": len(incomplete),
        "compared": agree + len(breaks) + len(incomplete),
    }
    with open(OUTPUT / "breaks.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["country", "year", "annual", "mean_of_months", "difference_percent"])
        for country, year, annual, mean, difference in breaks:
            writer.writerow([country, year, annual, f"{mean:.6f}", f"{difference * 100:.4f}"])
    (OUTPUT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (OUTPUT / "report.txt").write_text(report(summary, breaks, incomplete), encoding="utf-8")
    Path(os.environ["CORDON_RESULT"]).write_text(json.dumps(summary), encoding="utf-8")
    print(f"compared {summary['compared']} country-years: {agree} agree, {len(breaks)} differ, "
          f"{len(incomplete)} lack months")


def report(summary, breaks, incomplete):
    lines = [
        "Exchange-rate reconciliation",
        "============================",
        "",
        f"Country-years compared      {summary['compared']:>6}",
        f"Agree within {Decimal(summary['tolerance']) * 100:.1f} %          {summary['agree']:>6}",
        f"Differ                      {summary['differ']:>6}",
        f"Lack months                 {summary['incomplete']:>6}",
        "",
        "Largest differences",
        "-------------------",
    ]
    for country, year, annual, mean, difference in breaks[:15]:
        lines.append(f"{country:<16} {year}  annual {annual:>14}  mean {mean:>16.6f}  {difference * 100:>+10.4f} %")
    lines += ["", "Years without twelve months", "---------------------------"]
    lines += [f"{country:<16} {year}  {count} months" for country, year, count in incomplete]
    return "\n".join(lines) + "\n"


main()
