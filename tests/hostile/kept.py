"""Work that git takes and the return refuses: (kind, name, error code, Python that runs inside; see agent.txt)."""

from __future__ import annotations

KEPT: tuple[tuple[str, str, str, str], ...] = (
    ("size", "name-of-300", "return.path-too-long", "with_tree((b'100644', b'x' * 300, b'x')); sh('git fetch local; git reset -q --hard')"),
    ("size", "message-of-a-million-lines", "return.too-large", "c, p = commit(message=b'a\\n' * 1000000); send(c, pack([p]))"),
    ("size", "ten-thousand-links", "return.too-large", "with_tree(*((b'120000', b'l%05d' % n, b'to %d' % n) for n in range(10001)))"),
    ("size", "link-of-5000", "return.too-large", "with_tree((b'120000', b'l', b'x' * 5000))"),
    ("size", "many-submodules", "return.too-large", "with_tree((b'100644', b'.gitmodules', b''), *((b'160000', b's%03d' % n, '%040x' % (n + 1)) for n in range(201)))"),
    ("size", "tree-of-1600-levels", "return.path-too-long", "t, p = tree((b'100644', b'x', blob(b'x')[0])); ps = [blob(b'x')[1], p]\nfor n in range(1600):\n    t, p = tree((b'40000', b'ddd', t)); ps.append(p)\nc, p = commit(t); send(c, pack([*ps, p]))"),
    ("size", "tree-of-ten-billion-paths", "return.too-large", "t, p = tree((b'100644', b'x', blob(b'x')[0])); ps = [blob(b'x')[1], p]\nfor n in range(10):\n    t, p = tree(*((b'40000', b'%d' % k, t) for k in range(10))); ps.append(p)\nc, p = commit(t); send(c, pack([*ps, p]))"),
)  # fmt: skip
