"""The deployment plans without an account, and refuses what cannot work."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = """# HELP mcl_data_age_seconds seconds
mcl_data_age_seconds{alias="paper"} 12.5
mcl_data_age_seconds{alias="live"} 190
mcl_state{alias="paper",state="HALTED"} 0
mcl_state{alias="paper",state="TRADING"} 1
mcl_audit_unexplained{alias="paper"} NaN
"""


def test_it_is_formatted_valid_and_plans_as_meant(
    terraform: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    for args in (("fmt", "-check", "-recursive"), ("validate",), ("test",)):
        done = terraform(*args)
        assert done.returncode == 0, (args, done.stdout[-3000:], done.stderr[-2000:])


def test_nothing_listens_to_the_world(repository: Path) -> None:
    """Read from the text, so that it holds where terraform is missing."""
    text = "\n".join(p.read_text() for p in sorted((repository / "terraform").rglob("*.tf")))
    ingress = re.findall(
        r'resource "aws_vpc_security_group_ingress_rule" "(\w+)" \{(.*?)\n\}', text, re.S
    )
    assert [name for name, _ in ingress] == ["postgres"]
    assert "referenced_security_group_id" in ingress[0][1]
    assert "cidr_ipv4" not in ingress[0][1]
    assert "ingress {" not in text
    assert 'http_tokens                 = "required"' in text
    assert "key_name" not in text


def test_every_variable_and_output_says_what_it_is(repository: Path) -> None:
    for path in sorted((repository / "terraform").rglob("*.tf")):
        for kind, name, body in re.findall(
            r'^(variable|output) "(\w+)" \{(.*?)^\}', path.read_text(), re.S | re.M
        ):
            assert "description" in body, f"{path.name}: {kind} {name}"


def test_exceptions_from_the_scanner_have_reasons(repository: Path) -> None:
    skips = [
        line
        for path in (repository / "terraform").rglob("*.tf")
        for line in path.read_text().splitlines()
        if "checkov:skip" in line
    ]
    assert skips
    assert all(re.search(r"checkov:skip=CKV2?_AWS_\d+: \S.{5,}", line) for line in skips)


def fake_aws(folder: Path, body: str) -> dict[str, str]:
    """An `aws` of this test first on the PATH; what it is called with goes to calls.txt."""
    tool = folder / "bin" / "aws"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f'#!/usr/bin/env bash\necho "$*" >>{folder}/calls.txt\n{body}\n')
    tool.chmod(0o755)
    return {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}


def test_the_heartbeat_sends_the_worst_value_and_leaves_out_what_is_no_number(
    repository: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page"
    page.write_text(PAGE)
    script = repository / "terraform/modules/runner/files/heartbeat.sh"
    subprocess.run(
        ["bash", str(script), "acme", "cat", str(page)], check=True, env=fake_aws(tmp_path, "")
    )
    sent = re.findall(r"--metric-name (\S+) --value (\S+)", (tmp_path / "calls.txt").read_text())
    assert sent == [("heartbeat", "1"), ("mcl_halted", "0"), ("mcl_data_age_seconds", "190")]
    page.write_text(PAGE.replace('state="TRADING"} 1', 'state="TRADING"} 0'))
    (tmp_path / "calls.txt").unlink()
    subprocess.run(
        ["bash", str(script), "acme", "cat", str(page)], check=True, env=fake_aws(tmp_path, "")
    )
    assert "data_age" not in (tmp_path / "calls.txt").read_text()


@pytest.mark.parametrize(("state", "sent"), [("WAITING", False), ("TRADING", True)])
def test_the_heartbeat_leaves_out_the_result_of_a_session_that_is_over(
    repository: Path, tmp_path: Path, state: str, sent: bool
) -> None:
    page = tmp_path / "page"
    page.write_text(
        f'mcl_state{{alias="paper",state="{state}"}} 1\nmcl_session_pnl_usd{{alias="paper"}} -450\n'
    )
    script = repository / "terraform/modules/runner/files/heartbeat.sh"
    subprocess.run(
        ["bash", str(script), "acme", "cat", str(page)], check=True, env=fake_aws(tmp_path, "")
    )
    assert ("mcl_session_pnl_usd --value -450" in (tmp_path / "calls.txt").read_text()) is sent


def test_no_answer_is_no_heartbeat(repository: Path, tmp_path: Path) -> None:
    script = repository / "terraform/modules/runner/files/heartbeat.sh"
    done = subprocess.run(
        ["bash", str(script), "acme", "false"], env=fake_aws(tmp_path, ""), check=False
    )
    assert done.returncode != 0
    assert not (tmp_path / "calls.txt").exists()


def test_secrets_become_files_in_a_closed_folder_and_nothing_else(
    repository: Path, tmp_path: Path
) -> None:
    body = """case "$*" in
      *rds*) echo '{"username": "mlflow", "password": "pg-secret"}' ;;
      *empty*) echo ResourceNotFoundException >&2; exit 254 ;;
      *) echo hunter2-value ;;
    esac"""
    script = repository / "terraform/modules/runner/files/fetch_secrets.sh"
    folder = tmp_path / "secrets"
    done = subprocess.run(
        [
            "bash",
            str(script),
            str(folder),
            "database=arn:rds",
            "ib_password=arn:ib",
            "databento_api_key=arn:empty",
        ],
        env=fake_aws(tmp_path, body),
        capture_output=True,
        text=True,
        check=True,
    )
    assert {p.name: p.read_text().strip() for p in folder.iterdir()} == {
        "database_password": "pg-secret",
        "ib_password": "hunter2-value",
        "databento_api_key": "",
        "s3_user": "",
        "s3_password": "",
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o444}
    assert "hunter2" not in done.stdout + done.stderr + (tmp_path / "calls.txt").read_text()


def test_a_refused_secret_stops_the_start(repository: Path, tmp_path: Path) -> None:
    script = repository / "terraform/modules/runner/files/fetch_secrets.sh"
    done = subprocess.run(
        ["bash", str(script), str(tmp_path / "secrets"), "ib_password=arn:ib"],
        env=fake_aws(tmp_path, "echo AccessDeniedException >&2; exit 254"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot read secret ib_password" in done.stderr
    assert not list((tmp_path / "secrets").iterdir())


def test_the_readme_names_what_exists(repository: Path) -> None:
    """Its commands: known subcommands, files, variables, modules and outputs that are there, seen
    from the folder they are typed in.
    """
    folder = repository / "terraform"
    text = (folder / "README.md").read_text()
    lines = [
        line
        for block in re.findall(r"^```sh(?: \w+)?\n(.*?)^```", text, re.M | re.S)
        for line in re.split(r"\n| && ", block)
    ]
    declared = "\n".join(
        path.read_text() for path in (*folder.glob("*.tf"), *(folder / "bootstrap").glob("*.tf"))
    )
    seen, place = set(), repository
    for line in lines:
        words = shlex.split(line, comments=True)
        if not words:
            continue
        seen.add(words[0])
        if words[0] == "cd":
            place /= words[1]
        elif words[0] == "cp":
            assert (place / words[1]).is_file(), line
        elif words[0] == "terraform":
            asked = (
                place / words[1].removeprefix("-chdir=terraform/")
                if words[1].startswith("-chdir")
                else place
            )
            assert (
                repository / "terraform" / asked.name if asked.name == "bootstrap" else asked
            ).is_dir(), line
            assert {"init", "apply"} & set(words), line
            for name in re.findall(r"-target=module\.(\w+)|-var (\w+)=", line):
                assert f'"{name[0] or name[1]}"' in declared, line
        elif words[0] == "docker" and "-f" in words:
            assert (place / words[words.index("-f") + 1]).is_file(), line
            assert (place / words[-1]).resolve() == repository.resolve(), line
    assert seen >= {"terraform", "cd", "cp", "docker", "aws", "make"}
    for output in re.findall(r"`terraform output (\w+)`", text):
        assert f'output "{output}"' in declared, output
    for variable in ("stale_after_sec", "monthly_budget_usd"):
        assert variable in text
        assert f'variable "{variable}"' in declared
