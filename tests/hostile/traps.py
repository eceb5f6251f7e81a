"""What an agent can leave in its repository: (kind, name, needs a session of its own, shell that runs inside).

``@CANARIES@`` is a folder of the host that does not exist inside: a file in it is a command that ran on the host.
"""

from __future__ import annotations

_T = "touch @CANARIES@/"

TRAPS: tuple[tuple[str, str, bool, str], ...] = (
    *(
        ("config", key.replace(".", "-"), False, f"git config {key} '{_T}{key}'")
        for key in (
            "core.fsmonitor core.sshCommand core.pager core.editor gpg.program core.askPass credential.helper diff.external "
            "uploadpack.packObjectsHook core.alternateRefsCommand diff.x.textconv filter.x.clean filter.x.smudge filter.x.process "
            "merge.x.driver alias.push alias.commit sequence.editor protocol.ext.allow gpg.ssh.program core.gitProxy"
        ).split()
    ),
    ("config", "hooks-path", False, "mkdir h; git config core.hooksPath h"),
    ("config", "signing", False, "git config commit.gpgSign true; git config push.gpgSign true"),
    ("config", "push-url", False, f"git config remote.local.pushurl 'ext::sh -c {_T}ext'"),
    *(
        ("hook", hook, False, f"mkdir -p .git/hooks; printf '#!/bin/sh\\n{_T}{hook}\\n' > .git/hooks/{hook}; chmod +x .git/hooks/{hook}")
        for hook in "pre-commit post-commit pre-push post-checkout reference-transaction post-index-change pre-receive update post-update".split()
    ),
    ("attributes", "filter", False, "echo '* filter=x diff=x merge=x' > .gitattributes"),
    ("attributes", "encoding", False, "mkdir e; echo '* working-tree-encoding=UTF-32 ident export-subst eol=crlf' > e/.gitattributes"),
    ("attributes", "info", False, "mkdir -p .git/info; echo '* filter=x' > .git/info/attributes"),
    ("pointer", "alternates", False, "mkdir -p .git/objects/info; echo /nonexistent/objects >> .git/objects/info/alternates"),
    ("pointer", "http-alternates", False, "echo http://a.example/ > .git/objects/info/http-alternates"),
    ("pointer", "grafts", False, "git rev-parse HEAD > .git/info/grafts"),
    ("pointer", "replace", False, "git replace -f HEAD $(git commit-tree -m replaced HEAD^{tree})"),
    ("pointer", "commondir", True, "echo /nonexistent > .git/commondir"),
    ("pointer", "git-file", True, "mv .git /tmp/g; echo 'gitdir: /nonexistent' > .git"),
    ("pointer", "git-link", True, "mv .git /tmp/g; ln -s /etc .git"),
    ("pointer", "no-git", True, "rm -rf .git"),
    ("pointer", "shallow", True, "echo nonsense > .git/shallow"),
    ("index", "garbage", True, "head -c 5000 /dev/urandom > .git/index"),
    ("index", "link", True, "rm .git/index; ln -s /etc/passwd .git/index"),
    ("index", "pipe", True, "rm .git/index; mkfifo .git/index"),
    ("index", "huge-count", True, "printf 'DIRC\\0\\0\\0\\2\\377\\377\\377\\377' > .git/index"),
    ("ref", "head-garbage", True, "echo garbage > .git/HEAD"),
    ("ref", "head-pipe", True, "rm .git/HEAD; mkfifo .git/HEAD"),
    ("ref", "head-elsewhere", True, "echo 'ref: refs/heads/../../../../etc/passwd' > .git/HEAD"),
    ("ref", "packed-garbage", True, "head -c 500 /dev/urandom > .git/packed-refs"),
    ("config", "garbage", True, "echo '[[[' > .git/config"),
    ("config", "include", True, "git config include.path /dev/zero"),
    ("lock", "every-lock", False, "touch .git/index.lock .git/HEAD.lock .git/config.lock .git/packed-refs.lock .git/shallow.lock"),
    ("file", "pipe", False, "mkfifo pipe"),
    ("file", "socket", False, "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'"),
    ("file", "hard-link", False, "echo x > h1; ln h1 h2"),
    ("file", "link-absolute", False, "ln -s /etc/passwd absolute"),
    ("file", "link-out", False, "ln -s ../../../../../etc outside"),
    ("file", "link-loop", False, "ln -s loop2 loop1; ln -s loop1 loop2"),
    ("file", "newline-escape-bidi", False, "touch \"$(printf 'a\\nb\\033[31mc\\342\\200\\256d')\""),
    ("file", "like-a-record-of-git", False, "touch ':100644 120000 x' ':::' ':(top)x'"),
    ("file", "name-of-255", False, "touch $(printf '%0255d' 0)"),
    ("file", "windows-names", False, "touch CON aux.txt 'trailing.' 'space ' 'a:b'"),
    ("file", "case-twins", False, "touch Twin twin readme.MD"),
    ("file", "repository-inside", False, "git init -q inner; echo x > inner/f"),
    ("submodule", "ext-url", False, f"printf '[submodule \"x\"]\\n path = x\\n url = ext::sh -c {_T}sub\\n' > .gitmodules"),
    ("stash", "work", True, "echo x > README.md; git -c user.name=a -c user.email=a@b stash"),
    ("worktree", "linked", True, "git worktree add -q /tmp/wt"),
)  # fmt: skip
