"""What mcl is made of: `sbom.cdx.json` (CycloneDX 1.6) and a licence table, from the metadata of
the packages that are installed.

python scripts/sbom.py [--out FILE]            write the bill of materials
python scripts/sbom.py --licences              print the table; exit 1 when a licence asks for more
                                               than Apache-2.0 can give
python scripts/sbom.py --audit [FILE]          ask pip-audit, or compare with FILE (its JSON from
                                               another day) where there is no network
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CLASSIFIED = {  # the ends of trove classifiers, as SPDX says them
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
}
SPOKEN = {  # how older packages write it in their License field
    r"mit( license)?": "MIT",
    r"apache(-| license,? ?(version )?)?2(\.0)?|apache software license.*": "Apache-2.0",
    r"apache 2\.0 license|apache license, version 2\.0": "Apache-2.0",
    r"(new |3-clause |modified )bsd( license)?|bsd(-| )3-clause( license)?": "BSD-3-Clause",
    r"(2-clause |simplified )bsd|bsd-2-clause": "BSD-2-Clause",
    r"isc( license)?": "ISC",
    r"mpl-?2(\.0)?": "MPL-2.0",
    r"psf(-2\.0)?|python software foundation license": "PSF-2.0",
}
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|SSPL|EUPL|CC-BY-(NC|SA))", re.I)
UNKNOWN = "unknown"
UNREACHABLE = 3  # not 1, which is a finding, nor 2, which is wrong usage


def needed(extras: tuple[str, ...] = ("",)) -> Iterator[metadata.Distribution]:
    """mcl's requirements and theirs, each once, as installed. What a marker leaves out on this
    machine is left out.
    """
    waiting, seen = _requirements(), set()
    while waiting:
        need = waiting.pop()
        name = canonicalize_name(need.name)
        if name in seen or not any(
            need.marker is None or need.marker.evaluate({"extra": extra})
            for extra in (*extras, *need.extras, "")
        ):
            continue
        try:
            found = metadata.distribution(need.name)
        except metadata.PackageNotFoundError:
            continue
        seen.add(name)
        yield found
        for text in found.requires or ():
            below = Requirement(text)
            if below.marker is None or any(
                below.marker.evaluate({"extra": extra}) for extra in (*need.extras, "")
            ):
                waiting.append(Requirement(text.split(";")[0]))


def _requirements() -> list[Requirement]:
    return [
        Requirement(text)
        for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]


def licence(package: metadata.Distribution) -> str:
    """An SPDX expression as far as the package says one: its expression, its classifiers, its
    licence field.
    """
    told: Any = package.metadata
    if expression := told.get("License-Expression"):
        return str(expression)
    classes = [
        line.rsplit(" :: ", 1)[-1]
        for line in told.get_all("Classifier", [])
        if line.startswith("License :: ")
    ]
    named = sorted(
        {
            CLASSIFIED.get(name, name)
            for name in classes
            if name not in ("OSI Approved", "Other/Proprietary License")
        }
    )
    if named:
        return " OR ".join(named)
    spoken = str(told.get("License") or "").strip().split("\n")[0]
    known = next(
        (spdx for pattern, spdx in SPOKEN.items() if re.fullmatch(pattern, spoken, re.I)), ""
    )
    return known or _from_file(package) or spoken[:60] or UNKNOWN


def _from_file(package: metadata.Distribution) -> str:
    """By the words of its licence file, where the metadata are silent."""
    for path in package.files or ():
        if re.match(r"(licen[cs]e|copying)", path.name, re.I):
            text = Path(str(package.locate_file(path))).read_text(errors="ignore")[:3000]
            marks = {
                "Apache License": "Apache-2.0",
                "Permission is hereby granted, free": "MIT",
                "Neither the name": "BSD-3-Clause",
            }
            marks |= {"Redistribution and use in": "BSD-2-Clause"}
            if found := next(
                (spdx for words, spdx in marks.items() if words.lower() in text.lower()), ""
            ):
                return found
    return ""


def bill(packages: list[metadata.Distribution]) -> dict[str, Any]:
    """CycloneDX 1.6. The serial number follows from the content: the same packages give the same
    file.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    root = {
        "type": "application",
        "bom-ref": "mcl",
        "name": project["name"],
        "version": project["version"],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    parts = [_component(package) for package in packages]
    known: dict[str, str] = {
        canonicalize_name(package.name): part["bom-ref"]
        for package, part in zip(packages, parts, strict=True)
    }
    edges = [
        {"ref": part["bom-ref"], "dependsOn": _below(package, known)}
        for package, part in zip(packages, parts, strict=True)
    ]
    direct = sorted(
        {known[name] for need in _requirements() if (name := canonicalize_name(need.name)) in known}
    )
    serial = uuid.uuid5(
        uuid.NAMESPACE_URL, hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    )
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": root,
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "scripts/sbom.py",
                        "version": project["version"],
                    }
                ]
            },
        },
        "components": parts,
        "dependencies": [{"ref": "mcl", "dependsOn": direct}, *edges],
    }


def _component(package: metadata.Distribution) -> dict[str, Any]:
    name, version, spoken = canonicalize_name(package.name), package.version, licence(package)
    simple = re.fullmatch(r"[A-Za-z0-9.+-]+", spoken) and spoken != UNKNOWN
    expression = " OR " in spoken or " AND " in spoken or " WITH " in spoken
    licences = (
        [{"expression": spoken}]
        if expression
        else [{"license": {"id" if simple else "name": spoken}}]
    )
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "licenses": licences,
    }


def _below(package: metadata.Distribution, known: dict[str, str]) -> list[str]:
    names = {canonicalize_name(Requirement(text).name) for text in package.requires or ()}
    return sorted(known[name] for name in names if name in known)


def licences(packages: list[metadata.Distribution]) -> int:
    rows = [(package.name, package.version, licence(package)) for package in packages]
    wide = max(len(name) for name, _, _ in rows)
    for name, version, spoken in rows:
        print(f"{name:<{wide}}  {version:<16}  {spoken}")
    wrong = [
        f"{name} ({spoken})"
        for name, _, spoken in rows
        if COPYLEFT.search(spoken) or spoken == UNKNOWN
    ]
    print(
        f"{len(rows)} packages; "
        + (
            "every licence goes with Apache-2.0"
            if not wrong
            else f"to be looked at: {', '.join(wrong)}"
        )
    )
    return 1 if wrong else 0


def audit(packages: list[metadata.Distribution], stored: Path | None) -> int:
    """Known vulnerabilities of exactly these versions: exit code 0 none, 1 some, 3 where nobody
    could be asked about all of them.
    """
    told = json.loads(stored.read_text()) if stored else advisories(packages)
    if told is None:
        return UNREACHABLE
    here = {canonicalize_name(package.name): package.version for package in packages}
    found = [
        (entry["name"], entry["version"], hole)
        for entry in told["dependencies"]
        for hole in entry.get("vulns", ())
        if here.get(canonicalize_name(entry["name"])) == entry["version"]
    ]
    for name, version, hole in found:
        print(
            f"{name} {version}: {hole['id']}, fixed in"
            f" {', '.join(hole.get('fix_versions') or ['no version yet'])}"
        )
    asked = {
        canonicalize_name(entry["name"])
        for entry in told["dependencies"]
        if "skip_reason" not in entry
    }
    silent = sorted(here.keys() - asked)
    print(
        f"{len(here) - len(silent)} of {len(here)} packages asked about, {len(found)} known"
        " vulnerabilities"
    )
    if silent:
        print(
            f"nothing is known about {', '.join(silent[:5])}{' …' if len(silent) > 5 else ''}: the"
            " data base did not answer for them"
        )
    return 1 if found else UNREACHABLE if silent else 0


def advisories(packages: list[metadata.Distribution]) -> dict[str, Any] | None:
    """What pip-audit learns, from PyPI's advisories or else from OSV's; None after a sentence that
    says why nobody answered.
    """
    program = shutil.which("pip-audit")
    if program is None:
        print(
            "no advisory data reachable: pip-audit is not installed (pip install pip-audit), and no"
            " file of its JSON was given"
        )
        return None
    wanted = "\n".join(f"{package.name}=={package.version}" for package in packages)
    flags, why = (
        ["-r", "/dev/stdin", "--no-deps", "--disable-pip", "-f", "json", "--timeout", "10"],
        [],
    )
    for service in ("pypi", "osv"):
        command = [program, *flags, "--vulnerability-service", service]
        done = subprocess.run(command, input=wanted, capture_output=True, text=True, check=False)
        if done.stdout.strip():
            told: dict[str, Any] = json.loads(done.stdout)
            if any("skip_reason" not in entry for entry in told["dependencies"]):
                return told
            why.append(f"{service} has no page of any of these versions")
        else:
            why.append(
                f"{service}: {(done.stderr.strip().splitlines() or ['no answer'])[-1][:100]}"
            )
    print(f"no advisory data reachable: {'; '.join(why)}")
    print(
        "where there is a network: pip-audit -f json > advisories.json; here: python"
        " scripts/sbom.py --audit advisories.json"
    )
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "sbom.cdx.json")
    parser.add_argument("--licences", action="store_true")
    parser.add_argument("--audit", nargs="?", const="", metavar="FILE")
    args = parser.parse_args()
    packages = sorted(needed(), key=lambda package: canonicalize_name(package.name))
    if args.licences:
        return licences(packages)
    if args.audit is not None:
        return audit(packages, Path(args.audit) if args.audit else None)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(bill(packages), indent=1, ensure_ascii=False) + "\n")
    print(f"{args.out}: {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
