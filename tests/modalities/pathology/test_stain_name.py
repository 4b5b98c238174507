from __future__ import annotations

import pytest
from pydicom import Dataset

from clinimm.modalities.pathology.stain_name import block_of, stain_of, stain_of_dicom


@pytest.mark.parametrize(
    ("path", "stain", "block"),
    [
        ("slides/P1/A1_HE.svs", "HE", "A1"),
        ("slides/P1/A1_Ki-67.svs", "KI67", "A1"),
        ("P1__2B_PD-L1.tiff", "PDL1", "2B"),
        ("P1__A1_H&E.svs", "HE", "A1"),
        ("P1__A1.svs", None, "A1"),
        ("slides/P1/slide.svs", None, None),
        ("slides/P1/her2.svs", None, None),  # the whole name may be anything
        ("slides/P1/A1_KI67_2.svs", "KI67", "A1"),
        ("slides/P1/A1_Ki67_rescan.svs", "KI67", "A1"),
        ("slides/P1/A1_PDL1_22C3.svs", "PDL1", "A1"),
        ("slides/P1/A1_ER-IHC.svs", "ER", "A1"),
        ("P12__HE.svs", "HE", None),  # the patient's identifier is no block
        ("slides/P12/P12_HE.svs", "HE", None),
        ("slides/P1/S21-123456_KI67.svs", "KI67", None),  # an accession number is not kept
    ],
)
def test_name_states_stain_and_block(path: str, stain: str | None, block: str | None) -> None:
    assert (stain_of(path), block_of(path)) == (stain, block)


def _prepared(*substances: tuple[str, str]) -> Dataset:
    steps = []
    for value, meaning in substances:
        concept, code, item, step = Dataset(), Dataset(), Dataset(), Dataset()
        concept.CodeValue = "424361007"
        code.CodeValue, code.CodeMeaning = value, meaning
        item.ConceptNameCodeSequence, item.ConceptCodeSequence = [concept], [code]
        step.SpecimenPreparationStepContentItemSequence = [item]
        steps.append(step)
    specimen, slide = Dataset(), Dataset()
    specimen.SpecimenPreparationSequence = steps
    slide.SpecimenDescriptionSequence = [specimen]
    return slide


def test_specimen_preparation_states_the_stain() -> None:
    haematoxylin, eosin = ("12710003", "hematoxylin stain"), ("36879007", "water soluble eosin stain")
    assert stain_of_dicom(_prepared(haematoxylin, eosin)) == "HE"
    assert stain_of_dicom(_prepared(haematoxylin, ("x", "Ki-67 antibody"))) == "KI67"
    assert stain_of_dicom(_prepared(haematoxylin, ("y", "anti-Ki-67"))) == "KI67"
    assert stain_of_dicom(_prepared(haematoxylin, eosin, ("z", "GATA3 antibody"))) == "UNKNOWN"
    assert stain_of_dicom(_prepared(haematoxylin)) is None
    assert stain_of_dicom(Dataset()) is None
