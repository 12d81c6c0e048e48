"""What the doctor would have said of finished runs, with the thresholds of today.

    python docs/alarms.py studies/memory/runs/* runs/demo

Their logs are read line by line, as the monitor saw them; nothing is trained or embedded again.
"""

import sys
from collections import Counter
from pathlib import Path

import yaml

from pullpush.doctor import History, objective_of, replay
from pullpush.reports.run import Run
from pullpush.training.log import read_log

if __name__ == "__main__":
    runs = [Run(Path(name)) for name in sys.argv[1:] if (Path(name) / "log.jsonl").exists()]
    counts: Counter[str] = Counter()
    for run in runs:
        history = History(run.split("validation").table["label"].nunique())
        found = replay(read_log(run.path / "log.jsonl"), objective_of(yaml.safe_load(run.config_text)), history)
        counts.update(found.keys())
        for step, finding in found.values():
            print(f"{run.name}, step {step}: {finding}")
    print(f"{len(runs)} runs: {', '.join(f'{n} x {name}' for name, n in counts.items()) or 'no finding'}")
