"""A failed comparison of two large values is said in a few lines, soon, also where CI asks pytest
for everything.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from comparisons import LARGEST, digest, explain, size

HERE = Path(__file__).parent
CONFTEST = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from comparisons import register as pytest_configure
"""
LEFT = "".join(f"<tr><td>{i}</td><td>{i * i % 997}</td></tr>" for i in range(150_000))


def run(folder: Path, body: str) -> str:
    """What pytest prints of one failed assertion, told as in CI that nothing may be left out."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "left.txt").write_text(LEFT)
    read = (
        "from pathlib import Path\nleft = Path(__file__).with_name('left.txt').read_text()\nright ="
        " left[:9_000] + 'x' + left[9_000:]\n"
    )
    (folder / "test_sample.py").write_text(f"{read}def test_fails():\n    {body}\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        str(folder),
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        env={"CI": "true", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("assert left == right", "first difference at 9000: "),
        ("assert left.encode() == right.encode()", "first difference at 9000: "),
        ("assert {'page': left} == {'page': right}", "1 keys differ: ['page']"),
        ("assert left.split('<tr>') == right.split('<tr>')", "first difference at 277: "),
        ("assert '<td>74999</td>' not in left", "it stands at "),
    ],
)
def test_the_explanation_of_two_large_values_is_short(
    tmp_path: Path, body: str, sentence: str
) -> None:
    text = run(tmp_path, body)
    assert sentence in text
    assert len(text) < 6_000


def test_small_values_are_explained_by_pytest_itself(tmp_path: Path) -> None:
    text = run(tmp_path, "assert [1, 2, 3] == [1, 2, 4]")
    assert "At index 2 diff: 3 != 4" in text


def test_what_a_value_holds_counts() -> None:
    assert size("x" * 7) == size(b"x" * 7) == 7
    assert size(["x" * 7, "y"]) == 10
    assert size({"page": "x" * 7}) == 13
    assert size(3.0) == 1
    assert size([["x"] * 1000] * 1000) > LARGEST


def test_values_without_an_order_or_an_equality_are_named() -> None:
    assert (
        explain("==", set(range(9)), frozenset())[-1]
        == "no order to look for a first difference in"
    )
    assert explain("<", "a" * 50, "b")[2].startswith("left:  str of 50, sha256 ")


def test_a_digest_is_that_of_the_content() -> None:
    assert digest("é") == digest("é".encode()) == digest(bytearray("é".encode()))
    assert digest("a") != digest("b")
