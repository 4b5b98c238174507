from __future__ import annotations

from pathlib import Path

import pytest

from clinimm.core.errors import ConfigError
from clinimm.governance.cards.card import all_topics, load_card, resolved
from clinimm.governance.cards.fill import load_items
from clinimm.governance.cards.pointer import AuditDocument
from clinimm.governance.owners import load_owners

ROOT = Path(__file__).parents[3]
HEAD = "schema: clinimm.card/1\ntopics:\n"


def write(tmp_path, text, name="card.yaml"):
    path = tmp_path / name
    path.write_text(HEAD + text)
    return path


@pytest.mark.parametrize(
    "written", ["AUROC was 0.81", "we missed 12 %", "12% of women", "5 per cent", "0.5 at least", "7,5 %"]
)
def test_a_figure_that_is_written_out_is_refused_with_its_line(tmp_path, written):
    path = write(tmp_path, f"  funding: {{text: ours}}\n  risks: {{text: {written!r}}}\n")
    with pytest.raises(ConfigError, match=r"card\.yaml:4: topics\.risks: the figure .* is written out"):
        load_card([path])


@pytest.mark.parametrize(
    "written", ["ISO 14971:2019", "version v0.2", "FHIR R4", "45 CFR 170.315", "two sites", "2026"]
)
def test_what_is_no_figure_may_stand(tmp_path, written):
    assert load_card([write(tmp_path, f"  risks: {{text: {written!r}}}\n")])["risks"].text == written


def test_a_topic_that_nobody_asks_about_is_named_with_its_nearest(tmp_path):
    with pytest.raises(
        ConfigError, match=r"card\.yaml:3: no document asks about fundin; did you mean `funding`"
    ):
        load_card([write(tmp_path, "  fundin: {text: ours}\n")])


def test_a_reference_is_read_from_the_audit_and_says_where(tmp_path, audit):
    texts = load_card(
        [write(tmp_path, "  flow: {text: 'We saw {{subjects}}, and {{/groups/1/n}} women.'}\n")]
    )
    text = resolved(texts["flow"].text, AuditDocument(audit, ""))
    assert text == "We saw 400 [audit.json /tested/subjects], and 200 [audit.json /groups/1/n] women."


def test_a_reference_to_no_place_or_to_many_values_is_refused(tmp_path, audit):
    with pytest.raises(ConfigError, match=r"card\.yaml:3: topics\.flow: subject is no name"):
        load_card([write(tmp_path, "  flow: {text: '{{subject}}'}\n")])
    for text in ("{{/groups}}", "{{/nothing}}"):
        with pytest.raises(ConfigError):
            resolved(text, AuditDocument(audit, ""))


def test_the_texts_of_a_model_come_before_the_general_ones(tmp_path):
    general = write(tmp_path, "  funding: {text: ours}\n  risks: {text: some}\n")
    model = write(tmp_path, "  funding: {text: a grant}\n  risks: {text: ''}\n", "model.yaml")
    texts = load_card([general, model])
    assert (texts["funding"].text, texts["risks"].text) == ("a grant", "some")


def test_the_repository_s_texts_are_without_mistake():
    assert load_card([ROOT / "governance" / "card.yaml"])


def test_every_topic_has_an_owner_with_a_role_and_is_asked_about():
    roles = load_owners(ROOT / "governance" / "owners.yaml").roles
    assert {topic.owner for topic in all_topics().values()} <= set(roles)
    asked = {
        topic
        for name in ("hti1", "annex_iv", "tripod_ai")
        for item in load_items(name).items
        for topic in item.topics
    }
    only_chai = (
        "release_stage release_date regulatory keywords risk_level foundation_models data_types transparency "
        "maintenance publications clinical_trial reimbursement bibliography"
    )
    assert asked | set(only_chai.split()) == set(all_topics())


def test_the_lists_are_as_long_as_their_standards():
    hti1 = [item.id for item in load_items("hti1").items]
    counts = [sum(name.startswith(f"({part})") for name in hti1) for part in range(1, 10)]
    assert counts == [4, 4, 2, 4, 2, 4, 5, 4, 2]
    tripod = [item.id for item in load_items("tripod_ai").items]
    assert len(tripod) == len(set(tripod)) == 52
    assert {int("".join(filter(str.isdigit, name))) for name in tripod} == set(range(1, 28))
    annex = [item.id for item in load_items("annex_iv").items]
    assert [name[0] for name in annex] == sorted(name[0] for name in annex)
    assert {name[0] for name in annex} == set("123456789")
