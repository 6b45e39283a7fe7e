"""The bill of materials, the licences, and an audit that says what it does not know."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*args: str, path: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "sbom.py"), *args]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | ({"PATH": path} if path else {}),
    )


def test_the_bill_names_every_part_and_repeats(tmp_path: Path) -> None:
    assert run("--out", str(tmp_path / "a.json")).returncode == 0
    assert run("--out", str(tmp_path / "b.json")).returncode == 0
    bill = json.loads((tmp_path / "a.json").read_text())
    assert bill == json.loads((tmp_path / "b.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", bill["serialNumber"])
    parts = {part["name"]: part for part in bill["components"]}
    # the last one only through others
    assert {"mlflow", "hydra-core", "ib-async", "numpy", "sqlalchemy"} <= parts.keys()
    assert parts["numpy"]["version"] == metadata.version("numpy")
    assert parts["numpy"]["purl"] == f"pkg:pypi/numpy@{metadata.version('numpy')}"
    refs = [part["bom-ref"] for part in bill["components"]]
    assert len(refs) == len(set(refs))
    known = {"mcl", *refs}
    for edge in bill["dependencies"]:
        assert {edge["ref"], *edge["dependsOn"]} <= known
    assert (
        parts["mlflow"]["bom-ref"]
        in next(edge for edge in bill["dependencies"] if edge["ref"] == "mcl")["dependsOn"]
    )


def test_every_licence_goes_with_ours() -> None:
    done = run("--licences")
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    assert "every licence goes with Apache-2.0" in done.stdout
    assert re.search(r"^ib_async\s+\S+\s+BSD-2-Clause$", done.stdout, re.M)


def test_an_audit_counts_what_it_could_not_ask(tmp_path: Path) -> None:
    version = metadata.version("mlflow")
    hole = {"id": "PYSEC-1", "fix_versions": ["99"]}
    told = [
        {"name": "mlflow", "version": version, "vulns": [hole]},
        {"name": "numpy", "skip_reason": "not found"},
    ]
    path = tmp_path / "audit.json"
    path.write_text(json.dumps({"dependencies": told}))
    done = run("--audit", str(path))
    assert done.returncode == 1
    assert f"mlflow {version}: PYSEC-1, fixed in 99" in done.stdout
    assert re.search(r"^1 of \d+ packages asked about, 1 known vulnerabilities$", done.stdout, re.M)
    told[0] = {"name": "mlflow", "version": "0.1", "vulns": [hole]}
    path.write_text(json.dumps({"dependencies": told}))
    # another version: no hole of ours, and nothing known of the rest
    assert run("--audit", str(path)).returncode == 3


def test_an_audit_that_can_ask_nobody_says_so(tmp_path: Path) -> None:
    none = run("--audit", path=str(tmp_path))
    assert none.returncode == 3
    assert none.stdout.startswith("no advisory data reachable: pip-audit is not installed")
    tool = tmp_path / "pip-audit"
    program = (
        "import sys; sys.exit('ServiceError: ' + sys.argv[sys.argv.index('--vulnerability-service')"
        " + 1])"
    )
    tool.write_text(f"#!{sys.executable}\n{program}\n")
    tool.chmod(0o755)
    silent = run("--audit", path=str(tmp_path))
    assert silent.returncode == 3
    assert (
        "no advisory data reachable: pypi: ServiceError: pypi; osv: ServiceError: osv"
        in silent.stdout
    )
