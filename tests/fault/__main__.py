"""Many seeds, several at a time, then one positive control for each protection: `python -m tests.fault --seeds 50`."""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.fault.campaign import Campaign
from tests.fault.controls import CONTROLS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many seeds must count")
    parser.add_argument("--base", type=int, default=1, help="the first of them")
    parser.add_argument("--only", type=int, nargs="+", help="replay these seeds alone")
    parser.add_argument("--control", choices=sorted(CONTROLS), help="run this positive control alone")
    parser.add_argument("--at-once", type=int, default=6, help="runs at a time; most of a run is waiting")
    parser.add_argument("--folder", type=Path, help="where logs are kept (default: a new folder)")
    told = parser.parse_args()
    folder = told.folder or Path(tempfile.mkdtemp(prefix="steward-faults-"))
    begun = time.monotonic()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # brokers go away on purpose
    campaign = Campaign(folder, told.at_once)
    if told.control is not None:
        seeds, controls = [], [told.control]
    elif told.only is not None:
        seeds, controls = told.only, []
    else:
        seeds, controls = list(range(told.base, told.base + told.seeds)), sorted(CONTROLS)
    failed = asyncio.run(campaign.run(seeds, controls))
    print(f"{time.monotonic() - begun:.0f} s; logs in {folder}", flush=True)
    for sentence in failed:
        print(sentence)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
