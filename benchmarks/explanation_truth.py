"""Do explanations find what was planted: on a simulated hospital whose truth is known.

    .venv/bin/python benchmarks/explanation_truth.py runs/demo [--hospital runs/demo-hospital] [--subjects N]

For every held-out subject: the exact Shapley values of the modalities against those of the best possible
reader, who knows the scenario and sees the same modalities (signs of all that matter, order of all pairs
that differ); the strongest cell of the film against the planted opacity (pointing game, with the share of
cells that meet it as chance); the planted lab value and sentence among the three strongest of their
modality, with what three at random would hold. Then the same with all weights of the model shuffled.
Intervals: Wilson, 95 %.

Contributions are counted twice, each against the reader's own under the same rule: from no modality, and
from other patients. In `synergy` the rules disagree in sign for an opacity without inflammation: than
without a film the film lowers the risk, than in another patient it does not. Values below half a logit
are not called planted, because their sign hangs on the rule.

A finding is called found by the model where that modality alone moves its logit the way of the reader who
sees that alone. Which way it speaks beside the others is a question of the mix, so on the map a cell, a
sentence or a lab counts by the size of its score.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from clinimm.explain.baselines import BASELINES
from clinimm.explain.contribution import contributions, contributions_against, shapley
from clinimm.explain.localise import localise
from clinimm.explain.methods import METHODS
from clinimm.explain.problem import Setting
from clinimm.explain.randomise import randomise
from clinimm.explain.select import explained_class
from clinimm.explain.subject import Explainer
from clinimm.explain.training import with_training
from clinimm.model import FusionModel
from clinimm.nn.tokens import Batch
from clinimm.simulate.scenario import SCENARIOS, Scenario

#: Modality -> the hidden factor that it shows, and the optional input that must be there for it.
SHOWS: dict[str, tuple[str, str | None]] = {
    "radiology": ("lesion", None),
    "ehr": ("inflamed", "crp"),
    "notes": ("distress", "note"),
    "pathology": ("dense", "slide"),
}
#: Planted values below this are nothing, and values nearer than the second are no order, in logits.
_NOTHING, _TIE = 0.5, 0.5
_TOP = 3
#: Training subjects that contributions are counted from.
_REFERENCES = 16


@dataclass(frozen=True)
class Top:
    """Whether something planted is among the three strongest, the chance of that, and ``Found.seen``."""

    hit: bool
    chance: float
    seen: bool


@dataclass(frozen=True)
class Pointing:
    """How the film's map lies on the opacity, and ``Found.seen``."""

    hit: bool
    chance: float
    mass: float
    size: str
    seen: bool


@dataclass(frozen=True)
class Found:
    """What one subject's explanation found; None where there was nothing to find.

    Attributes:
        signs, order: whether the modalities' contributions, counted from no modality, have the planted
            signs and order.
        signs_against, order_against: the same counted from other patients.
        film, lab, sentence: whether the map shows what was planted; ``seen`` of each says whether the
            model found it: the modality alone moves the logit as it should.
    """

    signs: bool | None
    order: bool | None
    signs_against: bool | None
    order_against: bool | None
    film: Pointing | None
    lab: Top | None
    sentence: Top | None


@dataclass(frozen=True)
class Looker:
    """What explanations of one fit need: how to explain, the fit, and reference subjects."""

    explainer: Explainer
    model: FusionModel
    references: Batch


def planted_worth(
    scenario: Scenario, patient: Mapping[str, Any], names: Sequence[str], against: bool = False
) -> np.ndarray:
    """(coalition,) the logit of the reader who knows the scenario and sees these modalities.

    Args:
        against: what is outside a coalition shows another patient's factors, each a fair coin, instead
            of nothing. Two modalities that contradict each other on a factor tell nothing of it.
    """
    copies, shown = dict(scenario.copies), {}
    for bit, name in enumerate(names):
        factor, needs = SHOWS[name]
        if needs is None or patient["present"][needs]:
            shown[bit] = copies.get(factor, factor)
    factors = sorted(set(shown.values()))
    others = product((False, True), repeat=len(factors)) if against else [()]
    worth = [
        [_best_logit(scenario, _known(shown, coalition, patient["factors"], other)) for other in draws]
        for draws in [[dict(zip(factors, bits, strict=against)) for bits in others]]
        for coalition in range(2 ** len(names))
    ]
    return np.array(worth).mean(axis=1)


def _known(
    shown: Mapping[int, str], coalition: int, own: Mapping[str, bool], other: Mapping[str, bool]
) -> dict[str, bool]:
    says: dict[str, set[bool]] = defaultdict(set)
    for bit, factor in shown.items():
        inside = bool(coalition >> bit & 1)
        if inside or factor in other:
            says[factor].add(own[factor] if inside else other[factor])
    return {factor: values.copy().pop() for factor, values in says.items() if len(values) == 1}


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


def look(looker: Looker, target: int, subject: str, patient: Mapping[str, Any]) -> Found:
    """Explain one subject and compare with what was planted."""
    explainer, model = looker.explainer, looker.model
    batch, setting = explainer.batch(model, [subject])
    scenario = SCENARIOS[patient["scenario"]]
    found = contributions(model, batch, target)
    compared = contributions_against(model, batch, target, looker.references)
    planted = planted_worth(scenario, patient, found.names)
    planted_against = planted_worth(scenario, patient, found.names, against=True)
    seen = {
        name: bool(np.sign(own[1 << bit] - own[0]) == np.sign(planted[1 << bit] - planted[0]))
        for bit, name in enumerate(found.names)
        for own in [found.worth[0]]
    }
    maps = attribute(model, batch, target, explainer.method, setting.steps, setting)
    places = explainer.places(model, subject)
    scores = {name: one[0] for name, one in maps.scores.items()}
    labs = [f"{lab['code']} = {lab['usual_value']:g}" for lab in patient["labs"]]
    spans = [span for note in patient["notes"] for span in note["spans"] if span["factor"] == "distress"]
    return Found(
        *_mix(found.values[0], shapley(planted[None])[0][0]),
        *_mix(compared.values[0], shapley(planted_against[None])[0][0]),
        _film(scores, places, seen, patient),
        _top(scores, places, seen, "ehr", labs),
        _top(scores, places, seen, "notes", [span["text"] for span in spans]),
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
    seen: Mapping[str, bool],
    patient: Mapping[str, Any],
) -> Pointing | None:
    """The first film with an opacity; the model's map is read by the size of its scores."""
    for digest, film in patient["seen"].items():
        here = [i for i, place in enumerate(places.get("radiology", ())) if place.digest == digest]
        if film["lesions"] and here:
            cells = np.array([places["radiology"][i].box for i in here])
            truth = np.array([lesion["box"] for lesion in film["lesions"]], dtype=float)
            found = localise(np.abs(scores["radiology"][here]), cells, truth)
            return Pointing(found.hit, found.hit_by_chance, found.mass_inside, found.size, seen["radiology"])
    return None


def _top(
    scores: Mapping[str, np.ndarray],
    places: Mapping[str, Sequence[Place]],
    seen: Mapping[str, bool],
    name: str,
    planted: Sequence[str],
) -> Top | None:
    """Whether a planted text is one of the strongest, where the modality shows it among enough others."""
    known = places.get(name, ())
    says = np.array([_says(place.text, planted) for place in known], dtype=bool)
    if len(known) <= _TOP or not says.any():
        return None
    strongest = np.argsort(-np.abs(scores[name][: len(known)]))[:_TOP]
    none_by_chance = math.comb(int((~says).sum()), _TOP) / math.comb(len(says), _TOP)
    return Top(bool(says[strongest].any()), 1 - none_by_chance, seen[name])


def _says(text: str, planted: Sequence[str]) -> bool:
    return any(one in text or (len(text) > 12 and text in one) for one in planted)


def rows_of(found: Sequence[Found], title: str) -> Iterator[str]:
    """Lines of the table: share of subjects with its interval, and what chance would give."""
    names = {
        "signs": "signs of the mix, from no modality",
        "order": "order of the mix, from no modality",
        "signs_against": "signs of the mix, from other patients",
        "order_against": "order of the mix, from other patients",
    }
    for field, words in names.items():
        yield _line(title, words, [x for one in found if (x := getattr(one, field)) is not None])
    parts = {
        "film": "strongest cell meets the opacity",
        "lab": "planted lab in the top three",
        "sentence": "planted sentence in the top three",
    }
    for field, words in parts.items():
        known = [x for one in found if (x := getattr(one, field)) is not None]
        yield _line(title, words, [one.hit for one in known], [one.chance for one in known])
        told = [one for one in known if one.seen]
        told_words = f"{words}, found by the model"
        yield _line(title, told_words, [one.hit for one in told], [one.chance for one in told])
    films = [one.film for one in found if one.film is not None]
    for size in sorted({one.size for one in films}):
        of_size = [one for one in films if one.size == size]
        words = f"strongest cell meets the opacity, {size}"
        yield _line(title, words, [one.hit for one in of_size], [one.chance for one in of_size])
    if films:
        mass = float(np.mean([one.mass for one in films]))
        yield f"| {title} | share of the map's size on the opacity | {mass:.1%} | | {len(films)} |"


def _line(title: str, words: str, known: Sequence[bool], chance: Sequence[float] = ()) -> str:
    if not known:
        return f"| {title} | {words} | – | | 0 |"
    low, high = wilson(sum(map(bool, known)), len(known), 0.95)
    share, expected = f"{np.mean(known):.1%} ({low:.0%} to {high:.0%})", ""
    if len(chance):
        expected = f"{np.mean(chance):.1%}"
    return f"| {title} | {words} | {share} | {expected} | {len(known)} |"


def _looker(explainer: Explainer, model: FusionModel, training: Sequence[str]) -> Looker:
    """The explainer with what it needs of training subjects, and those of them who have every modality."""
    corpus, random = explainer.corpus, np.random.default_rng(0)
    drawn = [str(one) for one in random.permutation(list(training))]
    having = {one: set(corpus.modalities_of(one)) & set(model.modalities) for one in drawn}
    whole = [one for one in drawn if having[one] == set().union(*having.values())]
    references = corpus.batch(whole[:_REFERENCES], model.statistics)
    setting = with_training(explainer, model, training, 0)
    return Looker(replace(explainer, setting=setting), model, references)


def _fits(run: Path, source: Path, split: str, cohort: pd.DataFrame) -> Iterator[tuple[Path, list[str]]]:
    """Folder of each fit, and the subjects that are asked for: of its own run those that it held out."""
    if source != run or split != "held_out":
        yield source / "train" / "model", sorted(map(str, cohort.loc[cohort["split"] == split, "subject_id"]))
        return
    targets = explained_class(pd.read_parquet(run / "predict" / "predictions.parquet"))
    for fold, group in targets.groupby("fold", sort=True):
        folder = run / "train" / "fits" / f"r0-f{fold}"
        subjects = sorted(map(str, group["subject_id"]))
        yield (folder if folder.is_dir() else run / "train" / "model"), subjects


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--hospital", type=Path, default=Path("runs/demo-hospital"))
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--method", default="integrated_gradients", choices=list(METHODS))
    parser.add_argument("--baseline", choices=list(BASELINES))
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--split", default="held_out", choices=["held_out", "tuning"])
    parser.add_argument("--model", type=Path, help="another run, whose model is explained on these subjects")
    options = parser.parse_args()
    if not (options.hospital / "truth.json").is_file():
        print(f"skipped: {options.hospital} holds no truth; `make demo` makes runs/demo-hospital.")
        return 0
    if not (options.run / "predict" / "predictions.parquet").is_file():
        print(f"skipped: {options.run} holds no finished run; `make demo` makes runs/demo.")
        return 0
    torch.set_num_threads(1)
    config = load_pipeline(options.run / "pipeline.yaml")
    corpus = Corpus.load(options.run / "encode", config.plugins)
    setting = Setting(options.baseline, options.steps)
    explainer = Explainer(corpus, config.plugins, options.method, setting, ExplanationPolicy())
    scenario = json.loads((options.hospital / "truth.json").read_text(encoding="utf-8"))["scenario"]
    patients = patients_of(options.run, options.hospital)
    cohort = pd.read_parquet(options.run / "cohort" / "cohort.parquet")
    training = [str(one) for one in cohort.loc[cohort["split"] == "train", "subject_id"]]
    source = options.model or options.run
    rows: dict[str, list[Found]] = defaultdict(list)
    for folder, subjects in _fits(options.run, source, options.split, cohort):
        model = FusionModel.from_pretrained(folder)
        *_, (_, shuffled) = randomise(model, 0)
        assert isinstance(shuffled, FusionModel)
        for title, one in (("trained", model), ("weights shuffled", shuffled)):
            looker = _looker(explainer, one, training)
            for subject in [s for s in subjects if s in patients][: options.subjects]:
                rows[title].append(look(looker, 0, subject, patients[subject] | {"scenario": scenario}))
    print(
        f"{options.run}, scenario {scenario}: {len(rows['trained'])} subjects ({options.split}), "
        f"model of {source}, {options.method} from {options.baseline or 'its usual baseline'}\n"
    )
    print("| model | found | share (95 %) | chance | n |\n" + "|---" * 5 + "|")
    for title, found in rows.items():
        for row in rows_of(found, title):
            print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
