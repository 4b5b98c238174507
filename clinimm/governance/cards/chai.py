"""The Applied Model Card of the Coalition for Health AI, version 0.2, as XML.

Elements and their order follow https://mc.chai.org/v0.2/schema.xsd. Each result is an ``estimate_ci``
wherever the audit has an interval, and its label ends with the pointer that it was read through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from clinimm.audit.explain_policy import rule_test
from clinimm.audit.policy import Rule
from clinimm.governance.cards.fill import Source, figure_text
from clinimm.governance.cards.places import Shown

NAMESPACE = "https://mc.chai.org/v0.2/schema.xsd"
#: Element -> topics, for the parts that hold text alone.
_ABOUT: dict[str, dict[str, Sequence[str]]] = {
    "ReleaseInfo": {
        "ReleaseStage": ["release_stage"],
        "ReleaseDate": ["release_date"],
        "ReleaseVersion": ["release_version"],
        "GlobalAvailability": ["availability"],
        "RegulatoryApproval": ["regulatory"],
    },
    "UsesAndDirections": {
        "IntendedUseAndWorkflow": ["intended_use", "decision_role"],
        "PrimaryIntendedUsers": ["users"],
        "HowToUse": ["how_to_use"],
        "TargetedPatientPopulation": ["population"],
        "CautionedOutOfScopeSettings": ["out_of_scope"],
    },
    "AISystemFacts": {
        "OutcomesAndOutputs": ["outcome", "output"],
        "ModelType": ["model_type"],
        "FoundationModels": ["foundation_models"],
        "InputDataSource": ["data_source"],
        "OutputAndInputDataTypes": ["data_types"],
        "DevelopmentDataCharacterization": ["eligibility", "characteristics"],
        "BiasMitigationApproaches": ["bias_mitigation"],
        "OngoingMaintenance": ["maintenance", "validity_monitoring"],
        "Security": ["security"],
        "Transparency": ["transparency"],
    },
    "TransparencyInformation": {
        "FundingSource": ["funding"],
        "ThirdPartyInformation": ["third_parties"],
        "StakeholdersConsulted": ["stakeholders"],
    },
    "Resources": {
        "EvaluationReferences": ["outcome_studies"],
        "ClinicalTrial": ["clinical_trial"],
        "PeerReviewedPublications": ["publications"],
        "ReimbursementStatus": ["reimbursement"],
        "PatientConsentOrDisclosure": ["consent"],
    },
}
_TESTED_ON = {
    "internal": "Retrospective, on held-out subjects of the source that the model was made from.",
    "external": "Retrospective, on data of another source.",
    "local": "Retrospective, on data of the place of use.",
    "not_stated": "Retrospective; what the rows tested are to those of training was not stated.",
}
_TOGETHER = (
    "Intervals of the rules hold together, for all groups at once; those of single measures each alone."
)
#: What XML 1.0 cannot hold (section 2.2).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def chai_card(source: Source) -> bytes:
    """The card; equal audits and texts give equal bytes."""
    root = Element("AppliedModelCard", xmlns=NAMESPACE)
    _basic(SubElement(root, "BasicInfo"), source)
    _about(root, "ReleaseInfo", source)
    summary = SubElement(root, "ModelSummary")
    _text(summary, "Summary", source.text_or_empty("summary"))
    keywords = SubElement(summary, "Keywords")
    for word in filter(None, (word.strip() for word in source.text("keywords").split(","))):
        _text(keywords, "Keyword", word)
    _about(root, "UsesAndDirections", source)
    _warnings(SubElement(root, "Warnings"), source)
    trust = SubElement(root, "TrustIngredients")
    _about(trust, "AISystemFacts", source)
    _about(trust, "TransparencyInformation", source)
    _key_metrics(SubElement(root, "KeyMetrics"), source)
    _about(root, "Resources", source)
    _text(root, "Bibliography", source.text_or_empty("bibliography"))
    indent(root, " ")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="utf-8") + b"\n"


def value_json(shown: Shown, level: float) -> str:
    """A figure as the card's ``ValueJson``: with its interval where there is one."""
    content: Mapping[str, Any] = {"kind": "single", "value": shown.value}
    if shown.has_interval:
        content = {
            "kind": "estimate_ci",
            "estimate": shown.value,
            "lower": shown.low,
            "upper": shown.high,
            "level": round(100 * level, 6),
        }
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def _basic(parent: Element, source: Source) -> None:
    name = source.audit.content.get("run") or source.audit.resolve("/tested/file")
    _text(parent, "ModelName", str(name))
    _text(parent, "ModelDeveloper", source.text_or_empty("developer"))
    _text(parent, "DeveloperContact", source.text_or_empty("contact"))


def _warnings(parent: Element, source: Source) -> None:
    unknown = _lines(figure_text(shown) for shown in source.figures("unknown"))
    bad = [shown for shown in source.figures("fairness") if shown.verdict != "pass"]
    _text(parent, "KnownRisksAndLimitations", f"{source.text_or_empty('risks')}\n\n{unknown}".strip())
    found = f"{source.text_or_empty('biases')}\n\n{_lines(figure_text(shown) for shown in bad)}"
    _text(parent, "KnownBiasesOrEthicalConsiderations", found.strip())
    _text(parent, "ClinicalRiskLevel", source.text_or_empty("risk_level"))


def _key_metrics(parent: Element, source: Source) -> None:
    audit = source.audit
    rules = [Rule.model_validate(rule) for rule in audit.resolve("/policy/rules")]
    for element, sets, ruled, missing in (
        (
            "UsefulnessUsabilityEfficacy",
            ("useful",),
            [one for one in rules if one.stat == "value"],
            "objectives",
        ),
        (
            "FairnessEquity",
            ("fairness", "amplification"),
            [one for one in rules if one.attribute],
            "inequalities",
        ),
        ("SafetyReliability", ("safe",), [], "risk_management"),
    ):
        part = SubElement(parent, element)
        level = audit.resolve("/statistics/level")
        goals = [f"{rule_test(one, level)} [audit.json /policy/rules]" for one in ruled]
        _text(part, "MetricGoal", _lines(goals) or source.text_or_empty(missing))
        _results(SubElement(part, "Results"), source.figures(*sets), level, source.empty(missing).owner)
        words = [*source.figures("verdict"), *source.figures("unknown")]
        _text(part, "Interpretation", _lines(figure_text(shown) for shown in words))
        _text(part, "TestType", _TESTED_ON[source.tested_on])
        _text(
            part,
            "TestingDataDescription",
            _lines(map(figure_text, source.figures("tested", "representation"))),
        )
        how = _lines(map(figure_text, source.figures("methods", "identity")))
        _text(
            part,
            "ValidationProcessAndJustification",
            f"{source.text_or_empty('validation')} {_TOGETHER}\n\n{how}",
        )


def _results(parent: Element, figures: Sequence[Shown], level: float, owner: str) -> None:
    """At least one result, as the schema asks: where nothing was measured, one that says so."""
    for shown in figures:
        result = SubElement(parent, "MetricResult")
        verdict = f", {shown.verdict}" if shown.verdict else ""
        _text(result, "Label", f"{shown.label}{verdict} [audit.json {shown.pointer}]")
        _text(result, "ValueJson", value_json(shown, level))
    if not figures:
        result = SubElement(parent, "MetricResult")
        _text(result, "Label", f"Empty. Nothing was measured. Owner: {owner}")
        _text(result, "ValueJson", json.dumps({"kind": "single", "value": None}))


def _about(parent: Element, name: str, source: Source) -> None:
    part = SubElement(parent, name)
    for element, topics in _ABOUT[name].items():
        _text(part, element, source.text_or_empty(*topics))


def _text(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = _NOT_XML.sub("\ufffd", text)


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
