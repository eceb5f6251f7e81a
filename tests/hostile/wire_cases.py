"""Bytes on the return port that no git client sends."""

from __future__ import annotations

from tests.hostile.model import Case, Outcome, python

_W = "echo kept > work; "
_GOOD = (
    "T = tree_with(entry(b'100644', b'hostile', BLOB))\nC = commit(T)\n"
    "def raw(name): return subprocess.run(['git', 'cat-file', git('cat-file', '-t', name), name], capture_output=True).stdout\n"
    "ALL = [(1, b'', raw(C)), (2, b'', raw(T)), (3, b'', raw(BLOB))]\n"
)


def _pack(name: str, data: str) -> Case:
    body = f"{_GOOD}print(send_pack({data}, C)[:300])"
    return Case(name=f"pack: {name}", script=_W + python(body), outcome=Outcome.PARTLY, says="deny")


def _talk(name: str, body: str, says: str = "deny") -> Case:
    return Case(name=f"talk: {name}", script=_W + python(body), outcome=Outcome.PARTLY, says=says)


def _request(name: str, request: str) -> Case:
    return _talk(name, f"s = dial(); s.sendall(pkt({request})); s.shutdown(socket.SHUT_WR); print(read_all(s))")


CASES = (
    Case(name="pack: a good one by hand", script=_W + python(f"{_GOOD}print(send_pack(pack(ALL), C))")),
    _pack("a bad checksum", "pack(ALL)[:-1] + b'x'"),
    _pack("more objects promised", "pack(ALL, count=9)"),
    _pack("fewer objects promised", "pack(ALL, count=1)"),
    _pack("four billion objects promised", "pack(ALL, count=0xffffffff)"),
    Case(
        name="pack: bytes behind its end",
        script=_W + python(f"{_GOOD}print(send_pack(pack(ALL, end=b'junk'*1000), C)[:300])"),
    ),
    _pack("cut off", "pack(ALL)[:-40]"),
    _pack("nothing in it", "pack([])"),
    _pack("no pack at all", "b'P' * 4000"),
    _pack("version 9", "pack(ALL).replace(bytes([0,0,0,2]), bytes([0,0,0,9]), 1)"),
    _pack("an object of no type", "pack([*ALL, (5, b'', b'x')])"),
    _pack("a delta upon itself", "pack([*ALL, (7, bytes.fromhex('c'*40), b'\\1\\1\\1x')])"),
    _pack("a delta that lies behind it", "pack([(6, b'\\x7f', b'\\1\\1\\1x'), *ALL])"),
    _pack(
        "a delta upon an object of the host",
        "pack([*ALL, (7, bytes.fromhex(git('rev-parse', 'HEAD:README.md')), b'\\7\\7\\x90\\7')])",
    ),
    _pack("sizes that lie", "pack(ALL).replace(head(3, 8), head(3, 9), 1)"),
    _pack("the tree left out", "pack([ALL[0], ALL[2]])"),
    _request("a service that is none", "b'git-upload-archive /return.git\\0host=x\\0'"),
    _request("another repository", "b'git-upload-pack /../../etc\\0host=x\\0'"),
    _request("a repository by a longer name", "b'git-receive-pack /return.git/../x\\0host=x\\0'"),
    _request("options before the path", "b'git-receive-pack --upload-pack=x /return.git\\0'"),
    _request("a line feed in the path", "b'git-upload-pack /return.git\\nx\\0'"),
    _talk("a length that lies", "s = dial(); s.sendall(b'ffffgit'); s.shutdown(socket.SHUT_WR); print(read_all(s))"),
    _talk(
        "a length that is no number", "s = dial(); s.sendall(b'zzzzgit-upload-pack /return.git'); print(read_all(s))"
    ),
    _talk("lengths below four", "s = dial(); s.sendall(b'0003' * 9); print(read_all(s))"),
    _talk("HTTP", "s = dial(); s.sendall(b'GET /return.git/info/refs HTTP/1.1\\r\\n\\r\\n'); print(read_all(s))"),
    _talk(
        "a hundred refs at once",
        "s = dial(); s.sendall(pkt(b'git-receive-pack /return.git\\0')); s.recv(9999)\nfor i in range(100): s.sendall(pkt(b'0'*40 + b' ' + BASE.encode() + b' refs/heads/r%d' % i + (b'\\0report-status' if not i else b'')))\ns.sendall(b'0000'); print(read_all(s)[:200])",
    ),
    _talk("a ref with a second command inside", "print(send_pack(b'', BASE, 'refs/heads/x\\0' + BASE))"),
    _talk("a ref that climbs out", f"{_GOOD}print(send_pack(pack(ALL), C, 'refs/heads/../../config'))"),
    _talk(
        "wishing for a commit that was not shown",
        "s = dial(); s.sendall(pkt(b'git-upload-pack /return.git\\0host=x\\0')); s.recv(65536); s.sendall(pkt(b'want ' + b'd'*40 + b'\\n') + b'0000' + pkt(b'done\\n')); print(read_all(s))",
    ),
    _talk(
        "version 2, to ask for any object",
        "s = dial(); s.sendall(pkt(b'git-upload-pack /return.git\\0host=x\\0\\0version=2\\0')); d = s.recv(65536); assert b'version 2' not in d, d; s.sendall(pkt(b'command=fetch') + b'0001' + pkt(b'want ' + b'd'*40) + b'0000'); print(read_all(s))",
        says="",
    ),
    _talk("twenty connections that say nothing", "l = [dial() for _ in range(20)]\nl[0].close()", says=""),
    _talk(
        "one that hangs up in the middle of a pack",
        f"{_GOOD}\ns = dial(); s.sendall(pkt(b'git-receive-pack /return.git\\0')); s.recv(9999); s.sendall(pkt(BASE.encode() + b' ' + C.encode() + b' ' + REF.encode() + b'\\0report-status') + b'0000' + pack(ALL)[:60]); s.close()",
        says="",
    ),
)
