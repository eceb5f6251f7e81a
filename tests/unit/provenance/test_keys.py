"""Key files: made once, for their owner alone; refused when others could have had a hand in them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containai.errors import ProvenanceError
from containai.provenance.keys import load_signer, public_pem, trusted_keys

pytestmark = pytest.mark.user


@pytest.fixture
def config(tmp_path: Path) -> Path:
    load_signer(tmp_path / "config")
    return tmp_path / "config"


def private(config: Path) -> Path:
    return config / "keys/provenance.pem"


def test_it_is_made_once_for_its_owner_alone(config: Path) -> None:
    first = public_pem(config)
    assert stat.S_IMODE(private(config).stat().st_mode) == 0o600
    assert stat.S_IMODE(private(config).parent.stat().st_mode) == 0o700
    assert os.listdir(private(config).parent) == ["provenance.pem"]
    assert public_pem(config) == first


def test_its_id_is_what_openssl_says(config: Path, tmp_path: Path) -> None:
    (tmp_path / "own.pub").write_text(public_pem(config))
    words = f"openssl pkey -pubin -in {tmp_path}/own.pub -outform der | sha256sum"
    said = subprocess.run(["sh", "-c", words], capture_output=True, text=True, timeout=30, check=True).stdout
    assert said.split()[0] == load_signer(config).public_key.keyid


def test_many_at_once_make_one_key(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from containai.provenance.keys import load_signer; sys.stdin.read(); "
        "print(load_signer(pathlib.Path(sys.argv[1])).public_key.keyid)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path / "config"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(6)
    ]
    with ThreadPoolExecutor(6) as pool:  # closing their input lets them all go at once
        said = list(pool.map(lambda child: child.communicate(timeout=60)[0], children))
    assert len(set(said)) == 1
    assert len(said[0].strip()) == 64
    assert os.listdir(tmp_path / "config/keys") == ["provenance.pem"]


def _link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda key: key.chmod(0o640), "key-permissions"),
        (lambda key: key.chmod(0o604), "key-permissions"),
        (lambda key: key.chmod(0o620), "key-permissions"),
        (_link, "key-permissions"),
        (_fifo, "key-permissions"),
        (lambda key: key.parent.chmod(0o770), "key-permissions"),
        (lambda key: key.write_text("no key"), "key"),
        (lambda key: key.write_text("x" * 100_000), "key"),
    ],
)
def test_a_private_key_that_is_not_used(config: Path, change: Callable[[Path], None], code: str) -> None:
    before = private(config).read_bytes()
    change(private(config))
    for use in (lambda: load_signer(config), lambda: trusted_keys(config, [])):
        with pytest.raises(ProvenanceError) as refused:
            use()
        assert refused.value.code == f"provenance.{code}"
    if private(config).is_file():
        assert private(config).stat().st_size > 0
        assert private(config).read_bytes() == before or code == "key", "nothing was made in its place"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_somebody_else(config: Path) -> None:
    os.chown(private(config), 12345, -1)
    with pytest.raises(ProvenanceError, match="cannot be trusted") as refused:
        load_signer(config)
    assert refused.value.code == "provenance.key-permissions"


def test_keys_that_are_a_link_to_elsewhere(tmp_path: Path, config: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second/keys").symlink_to(config / "keys")
    with pytest.raises(ProvenanceError) as refused:
        load_signer(tmp_path / "second")
    assert refused.value.code == "provenance.key-unusable"


@pytest.mark.parametrize("change", [lambda path: path.chmod(0o666), _link, lambda path: path.write_text("x")])
def test_a_trusted_key_that_is_not_used(config: Path, change: Callable[[Path], None]) -> None:
    path = config / "trusted-keys/friend.pub"
    path.parent.mkdir()
    path.write_text(public_pem(config.with_name("friend")))
    path.chmod(0o644)
    assert len(trusted_keys(config, [])) == 2
    change(path)
    with pytest.raises(ProvenanceError) as refused:
        trusted_keys(config, [])
    assert refused.value.code in {"provenance.key-permissions", "provenance.key"}


def test_a_key_of_another_kind(config: Path, tmp_path: Path) -> None:
    for kind in ("RSA", "X25519"):
        words = f"openssl genpkey -algorithm {kind} -out {tmp_path}/k && openssl pkey -in {tmp_path}/k -pubout -out {tmp_path}/k.pub"
        subprocess.run(["sh", "-c", words], capture_output=True, timeout=60, check=True)
        with pytest.raises(ProvenanceError, match="cannot be read as a key"):
            trusted_keys(config, [tmp_path / "k.pub"])
    private(config).write_bytes((tmp_path / "k").read_bytes())
    with pytest.raises(ProvenanceError, match="cannot be read as a key"):
        load_signer(config)


def test_no_key_at_all(tmp_path: Path) -> None:
    with pytest.raises(ProvenanceError) as refused:
        trusted_keys(tmp_path, [])
    assert refused.value.code == "provenance.no-key"
    assert os.listdir(tmp_path) == []
