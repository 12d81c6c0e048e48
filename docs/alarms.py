"""What the doctor would have said of finished runs, with the thresholds of today.

    python docs/alarms.py studies/memory/runs/* runs/demo

Their logs are read line by line, as the monitor saw them; nothing is trained or embedded again.
"""

import sys
from collections import Counter
from pathlib import Path

import yaml

from pullpush.doctor import Finding, History, examine, objective_of
from pullpush.reports.run import Run
from pullpush.training.log import read_log


def replay(run: Run) -> dict[str, tuple[int, Finding]]:
    """Each finding with the step at which the monitor would have said it first."""
    objective = objective_of(yaml.safe_load(run.config_text))
    history, found = History(run.split("validation").table["label"].nunique()), {}
    for line in read_log(run.path / "log.jsonl"):
        history.add(line)
        if any(name.startswith(("monitor/", "validation/")) for name in line):
            for finding in examine(history.measures(), objective):
                found.setdefault(finding.finding, (line["step"], finding))
    return found


if __name__ == "__main__":
    runs = [Run(Path(name)) for name in sys.argv[1:] if (Path(name) / "log.jsonl").exists()]
    counts: Counter[str] = Counter()
    for run in runs:
        found = replay(run)
        counts.update(found.keys())
        for step, finding in found.values():
            print(f"{run.name}, step {step}: {finding}")
    print(f"{len(runs)} runs: {', '.join(f'{n} x {name}' for name, n in counts.items()) or 'no finding'}")
