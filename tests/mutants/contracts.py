"""Labels, ids, configuration and the three contracts: shards, bundle, report."""

from tests.mutants.mutant import Mutant

LABELS = "tests/components/cxr/test_labels.py"
IDS = "tests/components/cxr/test_ids.py"

MUTANTS = [
    Mutant(
        "no-finding-becomes-negative-beside-a-device",
        file="components/cxr/labels.py",
        old="if name not in (NO_FINDING, SUPPORT_DEVICES)]",
        new="if name != NO_FINDING]",
        test=f"{LABELS}::test_no_finding_is_derived_from_findings_other_than_devices",
    ),
    Mutant(
        "ids-of-patient-and-study-share-a-hash",
        file="components/cxr/ids.py",
        old='return key.digest(kind.encode() + b"\\0" + raw.encode())',
        new="return key.digest(raw.encode())",
        test=f"{IDS}::test_kind_id_and_key_all_count",
    ),
    Mutant(
        "content-hash-forgets-where-its-parts-end",
        file="components/cxr/config.py",
        old='        digest.update(len(data).to_bytes(8, "big"))\n',
        new="",
        test="tests/components/cxr/test_config.py::test_hash_depends_on_the_borders_of_its_parts",
    ),
]
