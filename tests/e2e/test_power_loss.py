"""A loss of power: a copy of the disk as it is at a moment, without what the kernel has not written yet."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.moments import WORK, Moment, Watched, wait_for
from tests.support.product import Product, make_repository

pytestmark = [pytest.mark.needs("root", "loop"), pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(180)]

NET = ("--network-proxy", "none")


def _do(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, timeout=60, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path, product: Product) -> Iterator[Path]:
    """A file system in a file, mounted where repository and state are."""
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(96 << 20)
    # Data and names reach the disk independently of each other, as on the disks that lose most.
    _do("mkfs.ext4", "-q", "-F", image)
    place.mkdir()
    _do("mount", "-o", "loop,data=writeback,commit=300", image, place)
    try:
        yield place
    finally:
        _do("umount", place)


def _event(name: str) -> Moment:
    return lambda w: name in w.events()


MOMENTS: dict[str, Moment] = {
    "pushed": _event("push"),
    "returning": lambda w: w.phase() == "returning",
    "branch moved": _event("git-return"),
    "returned": _event("returned"),
    "ended": lambda w: w.phase() == "ended",
    "over": lambda w: w.child.poll() is not None,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_was_pushed_survives_a_loss_of_power(product: Product, disk: Path, tmp_path: Path, moment: str) -> None:
    make_repository(disk / "repository")
    user = Product(home=product.home, repository=disk / "repository", variables={"XDG_STATE_HOME": str(disk / "state")})
    _do("sync", "-f", disk)
    watched = Watched(product=user, child=user.start(WORK, *NET), _sessions=disk / "state" / "containai" / "sessions")
    assert wait_for(watched, MOMENTS[moment])
    home = moment in ("branch moved", "returned", "ended", "over")
    watched.look()
    pushed = watched.commits() if home else watched.commits()[:2]  # git itself does not sync what is only committed
    torn = tmp_path / "torn.img"
    _do("cp", "--sparse=always", tmp_path / "disk.img", torn)  # of the file, so without the mounted file system's cache
    watched.child.communicate(timeout=90)
    _do("umount", disk)
    try:
        _do("mount", "-o", "loop", torn, disk)
        recovered = user.command("recover")
        assert user.git("fsck", "--strict", "--no-dangling") == ""
        assert len(pushed) >= 2
        for commit in pushed:
            assert user.git("for-each-ref", "--contains", commit, "refs/heads", check=False), (commit, recovered)
        if home:
            # The torn workspace may have been committed on top: a later commit, which hides nothing.
            history = user.git("rev-list", "shell/session-1").splitlines()
            assert "left" in [user.git("show", f"{commit}:left", check=False) for commit in history]
    finally:
        _do("umount", disk)
        _do("mount", "-o", "loop", tmp_path / "disk.img", disk)
