"""`scripts/bench`: measures, prints, and writes docs/benchmarks.md."""

import argparse
import os
import sys

import bars
import clusters
import document
import laws
import laws_page
import machine
from clusters import Failed

PARTS = {"bars": document.of_bars, "laws": laws_page.of_laws}
ROUNDS = 5
ROUNDS_OF_LAWS = 3
FILES_MIN = 17_000


def main():
    args = arguments()
    if args.render:
        print(document.render(args.out or "docs", PARTS))
        return True
    if not sys.platform.startswith("linux"):
        raise Failed("processor time and memory of processes are read from /proc, which only Linux has")
    binary = os.environ["RINGCAST_BIN"]
    clusters.die_orderly()
    clusters.raise_file_limit(FILES_MIN)
    facts = machine.describe(binary)
    rounds = 1 if args.quick else args.rounds or (ROUNDS_OF_LAWS if args.laws else ROUNDS)
    part = laws if args.laws else bars
    found = part.measure(binary, rounds, args.quick)
    measured = {"machine": facts, "rounds": rounds, "quick": args.quick, "found": found}
    print(part.table(found))
    out = args.out or (None if args.quick else "docs")
    if out:
        document.store(out, "laws" if args.laws else "bars", measured)
        print(document.render(out, PARTS), file=sys.stderr)
    wrong = part.unclean(found)
    for line in wrong:
        print(f"not clean: {line}", file=sys.stderr)
    return not wrong and (args.quick or not part.missed(found))


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures what Ringcast costs against bars and against a bare server, and writes docs/benchmarks.md.",
    )
    parser.add_argument("--rounds", type=count, metavar="N", help="rounds, in turn over all runs (5; laws: 3)")
    parser.add_argument("--laws", action="store_true", help="how costs grow, instead of what they are")
    parser.add_argument("--quick", action="store_true", help="one short round; writes only with --out")
    parser.add_argument("--out", metavar="FOLDER", help="where benchmarks.md and benchmarks/ are written (docs)")
    parser.add_argument("--render", action="store_true", help="measure nothing; make the page again of its figures")
    return parser.parse_args()


def count(text):
    number = int(text)
    if not 1 <= number <= 100:
        raise argparse.ArgumentTypeError("must be 1 to 100")
    return number


if __name__ == "__main__":
    try:
        sys.exit(0 if main() else 1)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("ended before it was done; nothing was written", file=sys.stderr)
        sys.exit(130)
