"""What the results of the lab say: means over seeds, paired differences, ranks, and a recipe chosen without the data
set on which it is judged; as tables, as a page, and in docs/lab.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.lab_settings import SETTINGS
from pullpush.files import read_text, write_text
from pullpush.reports.page import Page, Section
from pullpush.studies.page import tabled
from pullpush.studies.seeds import METRICS, Difference, figure_of_differences
from pullpush.studies.spread import Spread, meaning, paired

__all__ = ["BEGIN", "DOCS", "END", "Results", "current", "markdown", "tables", "write_docs", "write_page"]

REFERENCE = "default"
CHOSEN_BY = "validation/map@r"
FIXED = "\u00a0"  # a space at which no line of a narrow page breaks
DOCS = Path(__file__).resolve().parents[1] / "docs" / "lab.md"
BEGIN, END = "<!-- The tables of the lab: python benchmarks/lab.py --table -->", "<!-- End of the tables -->"


def current(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The results that can be compared: of each data set those with the budget (pixels, splits, steps) of the newest,
    and of each setting there those with its newest options. Of a run that is there twice the last counts."""
    budget = {each["set"]: each["budget"] for each in records}
    kept = [each for each in records if each["budget"] == budget[each["set"]]]
    key = {(each["set"], each["setting"]): each["key"] for each in kept}
    kept = [each for each in kept if each["key"] == key[each["set"], each["setting"]]]
    return list({(each["set"], each["setting"], each["seed"]): each for each in kept}.values())


@dataclass(frozen=True)
class Results:
    """The results that can be compared.

    Attributes:
        records: of `current`.
    """

    records: Sequence[Mapping[str, Any]]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a run: set, setting, seed, and the metrics as `validation/recall@1`, `test/map@r` and so on."""
        return pd.DataFrame(
            {
                **{name: each[name] for name in ("set", "setting", "seed")},
                **{f"{part}/{metric}": each[part][metric] for part in ("validation", "test") for metric in METRICS},
            }
            for each in self.records
        )

    @cached_property
    def sets(self) -> list[str]:
        """In the order in which they were first run."""
        return list(dict.fromkeys(self.frame["set"]))

    @cached_property
    def settings(self) -> list[str]:
        """In the order of the lab, then those that it no longer has."""
        there = list(dict.fromkeys(self.frame["setting"]))
        return sorted(there, key=lambda name: list(SETTINGS).index(name) if name in SETTINGS else len(SETTINGS))

    def of(self, name: str, setting: str, column: str) -> pd.Series:
        """A metric by seed; empty where there is no run."""
        rows = self.frame[(self.frame["set"] == name) & (self.frame["setting"] == setting)]
        return rows.set_index("seed")[column].sort_index()

    def less(self, name: str, setting: str, other: str, column: str) -> Spread:
        """`setting` less `other`, paired by seed."""
        return paired(self.of(name, other, column), self.of(name, setting, column))

    def means(self, column: str) -> pd.DataFrame:
        """The mean over seeds: a row a setting, a column a data set; NaN where there is no run."""
        table = self.frame.pivot_table(index="setting", columns="set", values=column, aggfunc="mean")
        return table.reindex(index=self.settings, columns=self.sets)

    def ranks(self, settings: Sequence[str], without: str = "") -> pd.Series:
        """Mean rank over data sets, 1 being the best, by MAP@R on the validation classes; the best first.

        Only settings that ran on all these data sets are ranked; equal ones share the mean of their places.
        """
        table = self.means(CHOSEN_BY).drop(columns=without or []).reindex(settings).dropna()
        return table.rank(ascending=False).mean(axis=1).sort_values(kind="stable")

    def of_ours(self) -> list[str]:
        """The settings among which a recipe is chosen: ours, at the batch of the data set."""
        return [
            name for name in self.settings if not name.startswith("pml-") and "@16" not in name and name != "untrained"
        ]

    def peers(self) -> list[str]:
        """PML's loops at the batch of the data set."""
        return [name for name in self.settings if name.startswith("pml-") and "@16" not in name]


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """All tables, by their titles."""
    found = {
        "Test recall@1 and MAP@R": scores(results, "test"),
        "Validation recall@1 and MAP@R, by which everything is chosen": scores(results, "validation"),
        f"{REFERENCE} less each loop of PML, test recall@1": beside_peers(results),
        "Pairs of settings, test recall@1": pairs(results),
        "One data set left out": left_out(results),
    }
    return {title: table for title, table in found.items() if len(table)}


def scores(results: Results, part: str) -> pd.DataFrame:
    """`0.405 / 0.176`: the means over seeds of both metrics; a row a setting, with its mean rank."""
    recall, precision = (results.means(f"{part}/{metric}") for metric in METRICS)
    table = pd.DataFrame({"setting": results.settings})
    for name in results.sets:
        both = zip(recall[name], precision[name], strict=True)
        table[name] = ["–" if np.isnan(one) else f"{one:.3f}{FIXED}/{FIXED}{other:.3f}" for one, other in both]
    if part == "validation" and len(results.sets) > 1:
        ranks = results.ranks(results.settings)
        table["mean rank"] = [f"{ranks[name]:.1f}" if name in ranks else "–" for name in results.settings]
    return table


def beside_peers(results: Results) -> pd.DataFrame:
    """What the reference has more than each loop of PML, paired by seed, and whether that is beyond its interval."""
    rows = [
        {
            "loop": peer,
            **{name: said(results.less(name, REFERENCE, peer, "test/recall@1")) for name in results.sets},
        }
        for peer in results.peers()
    ]
    return pd.DataFrame(rows)


def pairs(results: Results) -> pd.DataFrame:
    """Each setting less the one that it is meant to be compared with: with the memory less without, and so on."""
    rows = []
    for record in {each["setting"]: each for each in results.records}.values():
        if other := record["options"].get("against"):
            spreads = {n: results.less(n, record["setting"], other, "test/recall@1") for n in results.sets}
            if any(one.runs for one in spreads.values()):
                rows.append(
                    {"setting": f"{record['setting']} less {other}", **{n: said(one) for n, one in spreads.items()}}
                )
    return pd.DataFrame(rows)


def said(one: Spread) -> str:
    """`+0.012 (0.003 to 0.021) above`: above or below where all of the interval, or every seed, is on that side."""
    if not one.runs:
        return "–"
    side = "above" if one.low > 0 else "below" if one.high < 0 else "within"
    mean, *runs = one.formatted("+.3f").split(" ", 1)
    return " ".join([mean, *(each.replace(" ", FIXED) for each in runs), *[side] * (len(one.runs) > 1)])


def left_out(results: Results) -> pd.DataFrame:
    """For each data set the recipe that the other sets choose, and its test recall@1 here beside that of the default,
    of the setting that this data set would have chosen, and of the best loop of PML (both by validation)."""
    rows = []
    own, peers = results.of_ours(), results.peers()
    for name in results.sets if len(results.sets) > 2 else ():
        ranks = results.ranks(own, without=name)
        here = results.means(CHOSEN_BY)[name]
        if not len(ranks) or here[list(ranks.index)].isna().any():
            continue
        recipe, best = ranks.index[0], here[own].idxmax()
        row = {"left out": name, "recipe of the others": recipe, **recall(results, name, "it", recipe)}
        row |= recall(results, name, "default", REFERENCE) | {"best here": best} | recall(results, name, "best", best)
        if here[peers].notna().any():
            peer = here[peers].idxmax()
            row |= {"best of PML": peer} | recall(results, name, "PML", peer)
            row["it less PML"] = said(results.less(name, recipe, peer, "test/recall@1"))
        rows.append(row)
    return pd.DataFrame(rows).fillna("–")


def recall(results: Results, name: str, title: str, setting: str) -> dict[str, str]:
    values = results.of(name, setting, "test/recall@1")
    return {f"recall@1, {title}": f"{values.mean():.3f}"} if len(values) else {}


def lead(results: Results) -> str:
    """What there is, in two sentences."""
    seeds = results.frame.groupby(["set", "setting"]).size()
    many = f"{seeds.min()} to {seeds.max()}" if seeds.min() < seeds.max() else str(seeds.max())
    many += " seed each" if many == "1" else " seeds each"
    budgets = sorted({f"{each['steps']} steps at {each['size']} pixels" for each in results.records})
    return (
        f"{len(results.settings)} settings on {len(results.sets)} data sets ({', '.join(results.sets)}), {many}, "
        f"{', '.join(budgets)}. Classes are disjoint; weights and recipes are chosen on validation classes; the "
        "test classes are read once at the end of a run."
    )


def write_page(records: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """The page of the results, page.html in a folder, with the figures beside it."""
    results = Results(current(records))
    sections = [Section(title, [tabled(table)]) for title, table in tables(results).items()]
    figures = [
        Section(f"{name}: differences to {REFERENCE}", [figure_of_differences(shown, folder / "figures" / name)])
        for name in results.sets
        if (shown := differences(results, name))
    ]
    repeats = results.frame.groupby(["set", "setting"]).size()
    options = Section("Settings", [tabled(described(results))])
    footer = [meaning(repeats), "Page and tables are made of the results by `python benchmarks/lab.py --table`."]
    return Page("study", "The lab", lead(results), [*sections, *figures, options], footer).write(folder / "page.html")


def differences(results: Results, name: str) -> list[Difference]:
    """Every setting at the usual batch less the reference, on one data set."""
    shown = []
    for setting in results.settings:
        of = {metric: results.less(name, setting, REFERENCE, f"test/{metric}") for metric in METRICS}
        if setting != REFERENCE and "@16" not in setting and of["recall@1"].runs:
            shown.append(Difference(setting.replace("+", " +").replace("@", " @"), of))  # where long names may break
    return shown


def described(results: Results) -> pd.DataFrame:
    """What each setting is."""
    last = {each["setting"]: each for each in results.records}
    rows = []
    for setting in results.settings:
        options = {k: v for k, v in last[setting]["options"].items() if k != "against"}
        text = ", ".join(f"{name} {value}" for name, value in options.items()) or "the default recipe"
        seconds = results.frame["setting"].eq(setting)
        rows.append(
            {"setting": setting, "options": text, "recipe": last[setting].get("recipe", "–"), "runs": seconds.sum()}
        )
    return pd.DataFrame(rows)


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """The tables as they stand in docs/lab.md."""
    results = Results(current(records))
    parts = [lead(results), meaning(results.frame.groupby(["set", "setting"]).size())]
    for title, table in tables(results).items():
        rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
        parts += [f"### {title}", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    return "\n\n".join(parts).replace(FIXED, " ")


def write_docs(records: Sequence[Mapping[str, Any]], path: Path = DOCS) -> Path:
    """Puts the tables between their marks in docs/lab.md."""
    text = read_text(path)
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    write_text(path, f"{before}{BEGIN}\n\n{markdown(records)}\n\n{END}{after}")
    return path
