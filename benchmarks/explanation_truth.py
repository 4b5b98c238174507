"""Do explanations find what was planted: on a simulated hospital whose truth is known.

    .venv/bin/python benchmarks/explanation_truth.py runs/demo [--hospital runs/demo-hospital] [--subjects N]

For every held-out subject: the exact Shapley values of the modalities against those of the best possible
reader, who knows the scenario and sees the same modalities (signs of all that matter, order of all pairs
that differ); the strongest cell of the film against the planted opacity (pointing game, with the share of
cells that meet it as chance); the planted lab value and sentence among the three strongest of their
modality. Then the same with all weights of the model shuffled. Intervals: Wilson, 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from clinimm.audit.explanation_policy import ExplanationPolicy
from clinimm.config import load_pipeline
from clinimm.core.attribution import Place
from clinimm.core.record import digest_file
from clinimm.corpus import Corpus
from clinimm.evaluate.metrics import wilson
from clinimm.explain.attribute import attribute
from clinimm.explain.contribution import contributions, shapley
from clinimm.explain.localise import localise
from clinimm.explain.methods import METHODS
from clinimm.explain.problem import Setting
from clinimm.explain.randomise import randomise
from clinimm.explain.select import explained_class
from clinimm.explain.subject import Explainer
from clinimm.model import FusionModel
from clinimm.simulate.scenario import SCENARIOS, Scenario

#: Modality -> the hidden factor that it shows, and the optional input that must be there for it.
SHOWS: dict[str, tuple[str, str | None]] = {
    "radiology": ("lesion", None),
    "ehr": ("inflamed", "crp"),
    "notes": ("distress", "note"),
    "pathology": ("dense", "slide"),
}
#: Planted values below this are nothing, and values nearer than the second are no order, in logits.
_NOTHING, _TIE = 0.2, 0.5
_TOP = 3


@dataclass(frozen=True)
class Found:
    """What one subject's explanation found; None where there was nothing to find.

    Attributes:
        signs, order: whether the modalities' contributions have the planted signs and order.
        pointing: whether the strongest cell of the film meets the opacity.
        chance: share of the film's cells that meet it.
        mass: share of the supporting score on the opacity.
        size: its size band.
        seen: whether the model told the opacity as it should: the film's contribution has its sign.
        lab, sentence: whether a planted one is among the three strongest of its modality.
    """

    signs: bool | None
    order: bool | None
    pointing: bool | None
    chance: float | None
    mass: float | None
    size: str | None
    seen: bool
    lab: bool | None
    sentence: bool | None


def planted_contributions(scenario: Scenario, patient: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """Shapley values of the reader who knows the scenario and sees these modalities of the patient."""
    worth = []
    for coalition in range(2 ** len(names)):
        known = {}
        for bit, name in enumerate(names):
            factor, needs = SHOWS[name]
            if coalition >> bit & 1 and (needs is None or patient["present"][needs]):
                known[factor] = patient["factors"][factor]
        worth.append(_best_logit(scenario, known))
    return shapley(np.array([worth]))[0][0]


def _best_logit(scenario: Scenario, known: Mapping[str, bool]) -> float:
    """Log odds given some factors, every other one a fair coin; a copy tells its original."""
    known = dict(known) | {original: known[copy] for copy, original in scenario.copies if copy in known}
    copies = dict(scenario.copies)
    free = [name for name in ("lesion", "inflamed", "distress", "dense", "woman") if name not in copies]
    drawn = [name for name in free if name not in known]
    chances = []
    for bits in product((False, True), repeat=len(drawn)):
        kind = (
            {"sick": False, "late": False, "main_site": False} | known | dict(zip(drawn, bits, strict=True))
        )
        kind |= {copy: kind[original] for copy, original in scenario.copies}
        chances.append(scenario.probability(kind))
    chance = float(np.mean(chances))
    return math.log(chance / (1 - chance))


def patients_of(run: Path, hospital: Path) -> dict[str, dict[str, Any]]:
    """Subject -> its patient in the truth, by the digest of the index film."""
    truth = json.loads((hospital / "truth.json").read_text(encoding="utf-8"))["patients"]
    films = {
        digest_file(hospital / film["file"]): (patient, film)
        for patient in truth.values()
        for film in patient["films"]
    }
    rows = pd.read_parquet(run / "encode" / "radiology" / "tokens.parquet", columns=["subject_id", "digest"])
    found: dict[str, dict[str, Any]] = {}
    for subject, digest in rows.drop_duplicates().itertuples(index=False):
        if digest in films:
            patient, film = films[digest]
            known = found.setdefault(str(subject), dict(patient) | {"seen": {}})
            known["seen"][digest] = film
    return found


def look(
    explainer: Explainer, model: FusionModel, target: int, subject: str, patient: Mapping[str, Any]
) -> Found:
    """Explain one subject and compare with what was planted."""
    batch, setting = explainer.batch(model, [subject])
    scenario = SCENARIOS[patient["scenario"]]
    values = contributions(model, batch, target)
    planted = planted_contributions(scenario, patient, values.names)
    maps = attribute(model, batch, target, explainer.method, setting=setting)
    places = explainer.places(model, subject)
    scores = {name: one[0] for name, one in maps.scores.items()}
    direction = dict(zip(values.names, np.sign(planted), strict=True))
    return Found(
        *_mix(values.values[0], planted),
        *_film(scores, places, direction, patient),
        _seen(values.names, values.values[0], planted),
        _top(scores, places, "ehr", [f"{lab['code']} = {lab['usual_value']:g}" for lab in patient["labs"]]),
        _top(
            scores,
            places,
            "notes",
            [
                span["text"]
                for note in patient["notes"]
                for span in note["spans"]
                if span["factor"] == "distress"
            ],
        ),
    )


def _mix(found: np.ndarray, planted: np.ndarray) -> tuple[bool | None, bool | None]:
    real = np.abs(planted) >= _NOTHING
    signs = bool((np.sign(found) == np.sign(planted))[real].all()) if real.any() else None
    gap, own = planted[:, None] - planted, found[:, None] - found
    apart = gap >= _TIE
    return signs, (bool((own[apart] > 0).all()) if apart.any() else None)


def _film(
    scores: Mapping[str, np.ndarray],
    places: Mapping[str, Sequence[Place]],
    direction: Mapping[str, float],
    patient: Mapping[str, Any],
) -> tuple[bool | None, float | None, float | None, str | None]:
    """The first film with an opacity, in the direction in which the opacity tells here."""
    for digest, film in patient["seen"].items():
        here = [i for i, place in enumerate(places.get("radiology", ())) if place.digest == digest]
        if film["lesions"] and here:
            cells = np.array([places["radiology"][i].box for i in here])
            truth = np.array([lesion["box"] for lesion in film["lesions"]], dtype=float)
            found = localise(direction["radiology"] * scores["radiology"][here], cells, truth)
            return found.hit, found.hit_by_chance, found.mass_inside, found.size
    return None, None, None, None


def _seen(names: Sequence[str], found: np.ndarray, planted: np.ndarray) -> bool:
    place = list(names).index("radiology") if "radiology" in names else None
    return place is not None and bool(np.sign(found[place]) == np.sign(planted[place]))


def _top(
    scores: Mapping[str, np.ndarray],
    places: Mapping[str, Sequence[Place]],
    name: str,
    planted: Sequence[str],
) -> bool | None:
    """Whether a planted text is one of the strongest, where the modality shows it among enough others."""
    known = places.get(name, ())
    if len(known) <= _TOP or not any(_says(place.text, planted) for place in known):
        return None
    strongest = np.argsort(-np.abs(scores[name][: len(known)]))[:_TOP]
    return any(_says(known[i].text, planted) for i in strongest)


def _says(text: str, planted: Sequence[str]) -> bool:
    return any(one in text or (len(text) > 12 and text in one) for one in planted)


def rows_of(found: Sequence[Found], title: str) -> Iterator[str]:
    """Lines of the table: share of subjects with its interval."""
    names = {
        "signs": "signs of the modality mix",
        "order": "order of the modality mix",
        "pointing": "strongest cell meets the opacity",
        "lab": "planted lab in the top three",
        "sentence": "planted sentence in the top three",
    }
    for field, words in names.items():
        known = [getattr(one, field) for one in found if getattr(one, field) is not None]
        yield _line(title, words, known)
    told = [one.pointing for one in found if one.pointing is not None and one.seen]
    yield _line(title, "the same where the model told it right", told)
    sizes = defaultdict(list)
    for one in found:
        if one.size is not None:
            sizes[one.size].append(one.pointing)
    for size, hits in sorted(sizes.items()):
        yield _line(title, f"strongest cell meets the opacity, {size}", hits)
    chance = [one.chance for one in found if one.chance is not None]
    mass = [one.mass for one in found if one.mass is not None]
    if chance:
        yield f"| {title} | share of cells that meet it (chance) | {np.mean(chance):.1%} | {len(chance)} |"
        yield f"| {title} | share of the supporting score on it | {np.mean(mass):.1%} | {len(mass)} |"


def _line(title: str, words: str, known: Sequence[bool | None]) -> str:
    if not known:
        return f"| {title} | {words} | – | 0 |"
    low, high = wilson(sum(map(bool, known)), len(known), 0.95)
    return f"| {title} | {words} | {np.mean(known):.1%} ({low:.0%} to {high:.0%}) | {len(known)} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--hospital", type=Path, default=Path("runs/demo-hospital"))
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--method", default="integrated_gradients", choices=list(METHODS))
    options = parser.parse_args()
    if not (options.hospital / "truth.json").is_file():
        print(f"{options.hospital} holds no truth: `make demo` makes runs/demo-hospital.", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    config = load_pipeline(options.run / "pipeline.yaml")
    corpus = Corpus.load(options.run / "encode", config.plugins)
    explainer = Explainer(corpus, config.plugins, options.method, Setting(), ExplanationPolicy())
    scenario = json.loads((options.hospital / "truth.json").read_text(encoding="utf-8"))["scenario"]
    patients = patients_of(options.run, options.hospital)
    targets = explained_class(pd.read_parquet(options.run / "predict" / "predictions.parquet"))
    rows: dict[str, list[Found]] = defaultdict(list)
    for fold, group in targets.sort_values("subject_id").head(options.subjects).groupby("fold"):
        folder = options.run / "train" / "fits" / f"r0-f{fold}"
        model = FusionModel.from_pretrained(folder if folder.is_dir() else options.run / "train" / "model")
        *_, (_, shuffled) = randomise(model, 0)
        for target in group.itertuples():
            patient = patients.get(str(target.subject_id))
            if patient is None:
                continue
            index = list(model.classes).index(str(target.class_name))
            known = dict(patient) | {"scenario": scenario}
            for title, one in (("trained", model), ("weights shuffled", shuffled)):
                rows[title].append(look(explainer, one, index, str(target.subject_id), known))
    print(f"{options.run}, scenario {scenario}: {len(rows['trained'])} held-out subjects\n")
    print("| model | found | share (95 %) | n |\n" + "|---" * 4 + "|")
    for title, found in rows.items():
        for row in rows_of(found, title):
            print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
