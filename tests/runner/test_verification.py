"""`proofbox verify`: every way to change a release is found, and named by its file."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalsuite.gates import judge
from evalsuite.record_files import read_evidence, write_evidence, write_verdict
from runner.cli import guarded
from runner.commands.recomputation import gathered_again
from runner.commands.release import release as release_command
from runner.commands.verify import verify
from runner.digests import digest_of_json
from runner.release import checksums
from runner.run_folder import RunFolder
from runner.stages import gates_of
from runner.statement import CHECKSUMS, ENVELOPE, STATEMENT, statement_of
from runner.stored_json import read_json, write_json
from tests.conftest import ROOT
from tests.test_layering import HEAVY

Attack = Callable[[Path], None]


def sum_again(release: Path) -> None:
    """What anybody can do who changes a file."""
    (release / CHECKSUMS).write_text(checksums(release))


def state_again(release: Path) -> None:
    """What anybody can do who knows how proofbox works: only a signature is out of reach."""
    said = read_json(release / STATEMENT)["predicate"]["released"]
    again = statement_of(
        release,
        fit=said["fit"],
        adapter_files=said["adapterFiles"],
        tokenizer_files=said["tokenizerFiles"],
    )
    write_json(release / STATEMENT, again)
    sum_again(release)


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n")


def flip_adapter(release: Path) -> None:
    flip_byte(release / "adapter_model.safetensors")


def better_score(release: Path) -> None:
    """The loss of one example becomes half of what it was."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = release / "evaluation" / "adapter" / "loss.parquet"
    table = pq.read_table(path)
    values = table.column("nll").to_pylist()
    values[0] /= 2
    place = table.column_names.index("nll")
    pq.write_table(table.set_column(place, "nll", pa.array(values, pa.float64())), path)


def better_evidence(release: Path) -> None:
    """The score is changed, and the evidence follows it; the verdict does not."""
    better_score(release)
    path = release / "evidence.json"
    write_evidence(gathered_again(release, read_evidence(path)), path)


def loosen_recipe(release: Path) -> None:
    change_json(release / "recipe.json", lambda r: r["gates"][0].update(margin=0.05))


def loosen_lock(release: Path) -> None:
    def change(lock: Any) -> None:
        lock["recipe"]["gates"][0]["margin"] = 0.05
        lock["recipe_digest"] = digest_of_json(lock["recipe"])

    loosen_recipe(release)
    change_json(release / "lock.json", change)


def swap_report(release: Path) -> None:
    report = release / "report.html"
    report.write_text(report.read_text().replace("BLOCKED", "RELEASE") + "<!-- -->")


def swap_adapter(release: Path) -> None:
    """Another adapter under the same name, as the training record would have it."""
    flip_adapter(release)
    names = read_json(release / STATEMENT)["predicate"]["released"]["adapterFiles"]
    digest = digest_of_json(
        {n: hashlib.sha256((release / n).read_bytes()).hexdigest() for n in names}
    )
    change_json(release / "training.json", lambda t: t.update(adapter_digest=digest))


def drop_file(release: Path) -> None:
    (release / "evaluation" / "base" / "loss.parquet").unlink()


def add_file(release: Path) -> None:
    (release / "model.safetensors").write_bytes(b"x")


def add_records(release: Path) -> None:
    results = release / "evaluation" / "adapter"
    shutil.copy(results / "answers.parquet", results / "more.parquet")


def add_linked_folder(release: Path) -> None:
    (release / "more").symlink_to(release / "evaluation")


def forget_statement(release: Path) -> None:
    (release / STATEMENT).unlink()


def forget_checksums(release: Path) -> None:
    (release / CHECKSUMS).unlink()


def lower_verdict(release: Path) -> None:
    change_json(release / "verdict.json", lambda v: v["gates"][0].update(threshold=-9.0))


def other_sentence(release: Path) -> None:
    change_json(release / "verdict.json", lambda v: v.update(reason="All 99 gates pass."))


def rewrite(name: str, content: bytes) -> Attack:
    def attack(release: Path) -> None:
        (release / name).write_bytes(content)

    return attack


def other_proof(release: Path) -> None:
    change_json(release / "reload.json", lambda r: r.update(adapter_digest="0" * 64))


def hide_leaks(release: Path) -> None:
    (release / "listings" / "leaked.parquet").write_bytes(b"PAR1")


def then(*steps: Attack) -> Attack:
    def all_of_them(release: Path) -> None:
        for step in steps:
            step(release)

    return all_of_them


ATTACKS: dict[str, tuple[Attack, tuple[str, ...]]] = {
    "adapter, one byte": (
        flip_adapter,
        (f"adapter_model.safetensors: is not the file whose digest {CHECKSUMS} lists",),
    ),
    "adapter, summed again": (
        then(flip_adapter, sum_again),
        (f"adapter_model.safetensors: is not the file whose digest {STATEMENT} lists",),
    ),
    "adapter, stated again": (
        then(flip_adapter, state_again),
        ("adapter_config.json, adapter_model.safetensors: not the adapter that was judged",),
    ),
    "adapter, with its record": (
        then(swap_adapter, state_again),
        (
            "verdict.json: judges another adapter than the one on record",
            "evidence.json: adapter_digest is",
        ),
    ),
    "tokenizer": (
        then(lambda r: flip_byte(r / "tokenizer.json"), state_again),
        ("not the tokenizer that was judged",),
    ),
    "score": (better_score, ("evaluation/adapter/loss.parquet: is not the file",)),
    "score, summed again": (
        then(better_score, sum_again),
        (
            f"evaluation/adapter/loss.parquet: is not the file whose digest {STATEMENT} lists",
            "evidence.json: ",
        ),
    ),
    "score, stated again": (
        then(better_score, state_again),
        ("evidence.json: test.", "by the per-example records"),
    ),
    "score with evidence": (
        then(better_evidence, state_again),
        ("verdict.json: was given on other evidence", "verdict.json: "),
    ),
    "threshold": (
        loosen_recipe,
        ("recipe.json: is not the file", "recipe.json: gates is not what lock.json resolved"),
    ),
    "threshold, stated again": (
        then(loosen_recipe, state_again),
        (
            "recipe.json: gates is not what lock.json resolved",
            "verdict.json: was given by other gates than recipe.json declares",
        ),
    ),
    "threshold in the lock": (
        then(loosen_lock, state_again),
        ("verdict.json: was given by other gates than recipe.json declares",),
    ),
    "threshold in the verdict": (
        then(lower_verdict, state_again),
        ("verdict.json: gates[0].threshold is -9.0 but must be -0.1",),
    ),
    "sentence of the verdict": (
        then(other_sentence, state_again),
        ("verdict.json: reason is All 99 gates pass.",),
    ),
    "report": (swap_report, ("report.html: is not the file",)),
    "report, summed again": (
        then(swap_report, sum_again),
        (f"report.html: is not the file whose digest {STATEMENT} lists",),
    ),
    "missing file": (
        drop_file,
        (f"evaluation/base/loss.parquet: is missing; {CHECKSUMS} lists it",),
    ),
    "missing file, summed again": (
        then(drop_file, sum_again),
        (f"evaluation/base/loss.parquet: is missing; {STATEMENT} lists it",),
    ),
    "additional file": (add_file, (f"model.safetensors: was added; {CHECKSUMS} does not list it",)),
    "additional file, summed again": (
        then(add_file, sum_again),
        (f"model.safetensors: was added; {STATEMENT} does not list it",),
    ),
    "additional results": (
        then(add_records, state_again),
        ("base and adapter were evaluated on other generation tasks",),
    ),
    "linked folder": (add_linked_folder, ("more: was added",)),
    "no statement": (forget_statement, (f"{STATEMENT}: is missing",)),
    "no statement, summed again": (
        then(forget_statement, sum_again),
        (f"{STATEMENT}: is missing",),
    ),
    "no checksums": (forget_checksums, (f"{CHECKSUMS}: is missing",)),
    "additional file, stated again": (
        then(add_file, state_again),
        ("model.safetensors: is no part of a release",),
    ),
    "proof of another adapter": (
        then(other_proof, state_again),
        ("reload.json: is about another adapter than training.json",),
    ),
    "empty recipe": (
        then(rewrite("recipe.json", b"{}"), state_again),
        ("recipe.json: cannot be read by this version: recipe.json:1:1: dataset",),
    ),
    "no recipe in the lock": (
        then(lambda r: change_json(r / "lock.json", lambda v: v.update(recipe=None)), sum_again),
        ("lock.json: recipe cannot be read by this version",),
    ),
    "records without end": (
        then(rewrite("evidence.json", b"[" * 100_000), state_again),
        ("evidence.json: is not valid JSON",),
    ),
    "statement without end": (
        then(rewrite(STATEMENT, b"[" * 100_000), sum_again),
        (f"{STATEMENT}: is missing or damaged",),
    ),
    "leaks": (then(hide_leaks, state_again), ("listings/leaked.parquet: cannot be read",)),
}


def test_a_release_verifies(release_copy: Path, capsys: Any) -> None:
    assert guarded(lambda: verify(release_copy, key=None)) == 0
    said = capsys.readouterr()
    assert "verified. Verdict PASS: The only gate passes. Signature: not checked" in said.out
    assert said.err == ""


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_found(name: str, release_copy: Path, capsys: Any) -> None:
    attack, expected = ATTACKS[name]
    attack(release_copy)
    assert guarded(lambda: verify(release_copy, key=None)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "NOT VERIFIED" in said.err
    assert "Traceback" not in said.err
    for words in expected:
        assert words in said.err


def test_what_git_and_the_hub_leave_is_no_part_of_a_release(release_copy: Path) -> None:
    (release_copy / ".gitattributes").write_text("*.safetensors filter=lfs")
    (release_copy / ".cache" / "huggingface").mkdir(parents=True)
    (release_copy / ".cache" / "huggingface" / "x.lock").touch()
    assert guarded(lambda: verify(release_copy, key=None)) == 0
    (release_copy / "evaluation" / ".gitattributes").write_text("hidden")
    assert guarded(lambda: verify(release_copy, key=None)) == 1


def test_other_folders_are_a_wrong_use(
    released_run: RunFolder, tmp_path: Path, capsys: Any
) -> None:
    assert guarded(lambda: verify(tmp_path, key=None)) == 2
    assert guarded(lambda: verify(released_run.path, key=None)) == 2
    assert f"Its release is {released_run.release}" in capsys.readouterr().err


def test_nothing_heavy_is_imported_and_no_socket_is_opened(release_copy: Path) -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise SystemExit('a socket was opened')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from runner.cli import main\n"
        "sys.argv = ['proofbox', 'verify', sys.argv[1]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"sys.exit(' '.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, release_copy], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout


class TestSigned:
    @pytest.fixture(scope="class")
    def keys(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
        pytest.importorskip("cryptography")
        return make_keys(tmp_path_factory.mktemp("keys"))

    @pytest.fixture
    def signed(self, run_copy: RunFolder, keys: tuple[Path, Path]) -> Path:
        assert guarded(lambda: release_command(run_copy.path, final=False, sign=keys[0])) == 0
        return run_copy.release

    def test_a_signed_release_verifies(
        self, signed: Path, keys: tuple[Path, Path], capsys: Any
    ) -> None:
        assert guarded(lambda: verify(signed, key=keys[1])) == 0
        assert "Signature: valid." in capsys.readouterr().out
        assert guarded(lambda: verify(signed, key=None)) == 0

    def test_packing_the_same_again_keeps_the_signature(
        self, run_copy: RunFolder, signed: Path, keys: tuple[Path, Path]
    ) -> None:
        assert guarded(lambda: release_command(run_copy.path, final=False)) == 0
        assert guarded(lambda: verify(signed, key=keys[1])) == 0
        change_json(run_copy.path / "data.json", lambda d: d.update(notes=["another note"]))
        assert guarded(lambda: release_command(run_copy.path, final=False)) == 0
        assert not (signed / ENVELOPE).exists()  # it would be over another statement

    def test_an_unsigned_release_is_refused_where_a_key_is_given(
        self, release_copy: Path, keys: tuple[Path, Path], capsys: Any
    ) -> None:
        assert guarded(lambda: verify(release_copy, key=keys[1])) == 1
        assert f"{ENVELOPE}: is missing: this release is not signed" in capsys.readouterr().err

    def test_another_key_is_refused(self, signed: Path, tmp_path: Path, capsys: Any) -> None:
        assert guarded(lambda: verify(signed, key=make_keys(tmp_path / "other")[1])) == 1
        assert "holds no valid signature by the key" in capsys.readouterr().err

    def test_a_changed_signature_is_refused(
        self, signed: Path, keys: tuple[Path, Path], capsys: Any
    ) -> None:
        def change(envelope: Any) -> None:
            signature = envelope["signatures"][0]["sig"]
            envelope["signatures"][0]["sig"] = signature[::-1].lstrip("=") + "=="

        change_json(signed / ENVELOPE, change)
        sum_again(signed)
        assert guarded(lambda: verify(signed, key=keys[1])) == 1
        assert f"{ENVELOPE}: " in capsys.readouterr().err

    def test_a_statement_of_another_release_is_refused(
        self, signed: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: Any
    ) -> None:
        """Truly signed by the same key, but about other files."""
        other = tmp_path / "other"
        shutil.copytree(signed, other)
        flip_adapter(other)
        state_again(other)
        for name in (STATEMENT, ENVELOPE):
            shutil.copy(signed / name, other / name)
        sum_again(other)
        assert guarded(lambda: verify(other, key=keys[1])) == 1
        said = capsys.readouterr().err
        assert f"adapter_model.safetensors: is not the file whose digest {STATEMENT} lists" in said
        assert ENVELOPE not in said

    def test_only_the_signature_tells_a_release_that_was_made_up_whole(
        self, signed: Path, keys: tuple[Path, Path], capsys: Any
    ) -> None:
        """Better scores, with evidence, verdict, statement and sums that follow from them."""
        better_evidence(signed)
        recipe = RunFolder(signed).recipe
        from runner.recipe_reading.recipe_file import read_recipe

        evidence = read_evidence(signed / "evidence.json")
        write_verdict(judge(gates_of(read_recipe(recipe).gates), evidence), signed / "verdict.json")
        (signed / ENVELOPE).unlink()
        state_again(signed)
        assert guarded(lambda: verify(signed, key=None)) == 0  # docs/verification.md says so
        assert guarded(lambda: verify(signed, key=keys[1])) == 1
        assert "this release is not signed" in capsys.readouterr().err

    def test_an_envelope_of_another_statement_is_found_without_a_key(
        self, signed: Path, capsys: Any
    ) -> None:
        change_json(signed / STATEMENT, lambda s: s.update(subject=s["subject"][::-1]))
        sum_again(signed)
        assert guarded(lambda: verify(signed, key=None)) == 1
        assert "signs another statement than the one beside it" in capsys.readouterr().err


def test_a_base_that_the_run_quantized_is_the_one_that_was_judged(release_copy: Path) -> None:
    stored = read_evidence(release_copy / "evidence.json")
    lock = read_json(release_copy / "lock.json")
    assert gathered_again(release_copy, stored).base_digest == lock["model"]["digest"]
    write_json(release_copy / "lock.json", {**lock, "quantized": {"digest": "7" * 64}})
    assert gathered_again(release_copy, stored).base_digest == "7" * 64


def make_keys(folder: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    folder.mkdir(exist_ok=True)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pem").write_bytes(private)
    (folder / "key.pub.pem").write_bytes(public)
    return folder / "key.pem", folder / "key.pub.pem"
