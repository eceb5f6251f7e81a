"""The workspace's ``.git``, bent: pointers, links, state files, and what lies on the disk beside it."""

from __future__ import annotations

from tests.hostile.model import Case, Outcome

_W = "echo kept > work; "

CASES = (
    Case(
        name="alternates of the host",
        script=_W + "mkdir -p .git/objects/info; echo /etc > .git/objects/info/alternates",
    ),
    Case(name="alternates in a circle", script=_W + "echo ../objects > .git/objects/info/alternates"),
    Case(name="alternates over HTTP", script=_W + "echo http://127.0.0.1/ > .git/objects/info/http-alternates"),
    Case(name="a common directory elsewhere", script=_W + "echo /etc > .git/commondir"),
    Case(name="git directory behind a file", script=_W + "mv .git .real; echo 'gitdir: .real' > .git"),
    Case(name="git directory outside", script=_W + "rm -rf .git; echo 'gitdir: /etc' > .git"),
    Case(name="git directory behind a link", script=_W + "mv .git .real; ln -s .real .git"),
    Case(name="git directory is a link to the root", script=_W + "rm -rf .git; ln -s / .git"),
    Case(name="git directory is a pipe", script=_W + "rm -rf .git; mkfifo .git"),
    Case(name="no git directory", script=_W + "rm -rf .git"),
    Case(
        name="a new repository in its place",
        script=_W + "rm -rf .git; git init -q; git add -A; git -c user.name=a -c user.email=a@b commit -qm own",
    ),
    Case(name="objects behind a link", script=_W + "mv .git/objects /tmp/o; ln -s /tmp/o .git/objects"),
    Case(name="objects are gone", script=_W + "rm -rf .git/objects/*"),
    Case(
        name="an object changed on disk",
        script=_W
        + "git add -A; git commit -qm x; f=$(find .git/objects -type f -path '*/??/*' | head -1); chmod u+w $f; echo junk > $f",
    ),
    Case(name="HEAD is garbage", script=_W + "printf '\\000\\377junk' > .git/HEAD"),
    Case(name="HEAD names itself", script=_W + "echo 'ref: HEAD' > .git/HEAD"),
    Case(name="HEAD climbs out", script=_W + "echo 'ref: refs/heads/../../../../etc/passwd' > .git/HEAD"),
    Case(name="HEAD is a link", script=_W + "ln -sf /etc/passwd .git/HEAD"),
    Case(name="an index of garbage", script=_W + "head -c 5000 /dev/urandom > .git/index"),
    Case(
        name="an index that promises a billion entries",
        script=_W + "printf 'DIRC\\000\\000\\000\\002\\073\\232\\312\\000' > .git/index",
    ),
    Case(
        name="an index with paths outside",
        script=_W
        + "b=$(git hash-object -w work); printf '100644 %s\\tsub/x\\n' $b | git update-index --index-info; sed -i 's#sub/x#../.x#' .git/index",
    ),
    Case(
        name="locks everywhere",
        script=_W
        + "touch .git/index.lock .git/HEAD.lock .git/config.lock .git/packed-refs.lock .git/shallow.lock; find .git/refs -type f -exec touch {}.lock ';'",
    ),
    Case(
        name="grafts",
        script=_W + "git add -A; git commit -qm x; mkdir -p .git/info; git rev-parse HEAD > .git/info/grafts",
    ),
    Case(name="a false end of history", script=_W + "git add -A; git commit -qm x; git rev-parse HEAD > .git/shallow"),
    Case(name="replaced objects", script=_W + "git add -A; git commit -qm x; git replace HEAD HEAD~1"),
    Case(name="packed refs of garbage", script=_W + "head -c 3000 /dev/urandom > .git/packed-refs"),
    Case(
        name="a hundred thousand refs",
        script=_W
        + 'h=$(git rev-parse HEAD); i=0; while [ $i -lt 100000 ]; do echo "$h refs/tags/t$i"; i=$((i+1)); done > .git/packed-refs',
    ),
    Case(
        name="a merge that never was",
        script=_W + "head -c 40 /dev/zero | tr '\\0' a > .git/MERGE_HEAD; printf '\\033]0;x\\007' > .git/MERGE_MSG",
    ),
    Case(
        name="in the middle of a rebase",
        script=_W
        + "mkdir .git/rebase-merge; echo refs/heads/main > .git/rebase-merge/head-name; echo 'exec touch @CANARY@' > .git/rebase-merge/git-rebase-todo",
    ),
    Case(name="a linked working tree", script=_W + "git worktree add -q -b other wt; echo inner > wt/inner"),
    Case(name="the git directory cannot be written", script=_W + "chmod -R a-w .git"),
    Case(name="a pipe among the files", script=_W + "mkfifo pipe; mkdir d; mkfifo d/p"),
    Case(
        name="a socket among the files",
        script=_W + "/usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'",
    ),
    Case(name="links in a circle", script=_W + "ln -s a b; ln -s b a; ln -s . d"),
    Case(name="a link to the root, and a file behind it", script=_W + "ln -s / r; git add r; ls r/etc >/dev/null"),
    Case(
        name="names that a terminal obeys",
        script=_W
        + "touch \"$(printf 'e\\033]0;title\\007')\" \"$(printf 'n\\nl')\" \"$(printf '\\342\\200\\256b')\" \"$(printf '\\377bytes')\" -- -rf '*' ' '",
    ),
    Case(name="names of 255 bytes", script=_W + "touch $(head -c 255 /dev/zero | tr '\\0' n)"),
    Case(
        name="a path of more than 4,096 bytes",
        script=_W
        + '/usr/bin/python3 -c \'import os\nfor i in range(30): os.mkdir("d"*200); os.chdir("d"*200)\nopen("f","w").write("x")\'',
        outcome=Outcome.PARTLY,
    ),
    Case(name="twins by case", script=_W + "echo a > README; echo b > readme; mkdir A a; echo x > A/f; echo y > a/f"),
    Case(name="a set-user-id file", script=_W + "cp /bin/true s; chmod 6755 s; git add s; git commit -qm s"),
    Case(
        name="a submodule by its address: a command",
        script=_W
        + 'printf \'[submodule "x"]\\n\\tpath = x\\n\\turl = ext::sh -c "touch @CANARY@"\\n\' > .gitmodules; git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),x; git add -A; git commit -qm s',
        outcome=Outcome.PARTLY,
    ),
    Case(
        name="a submodule by its address: an option",
        script=_W
        + "printf '[submodule \"x\"]\\n\\tpath = x\\n\\turl = --upload-pack=touch @CANARY@\\n' > .gitmodules; git add -A; git commit -qm s",
        outcome=Outcome.REFUSED,
        says="gitmodules",
    ),
    Case(
        name="a submodule that climbs out by its name",
        script=_W
        + "printf '[submodule \"../../hooks\"]\\n\\tpath = x\\n\\turl = /x\\n' > .gitmodules; git add -A; git commit -qm s",
        outcome=Outcome.REFUSED,
        says="gitmodules",
    ),
    Case(
        name="a submodule whose path is an option",
        script=_W
        + "printf '[submodule \"x\"]\\n\\tpath = -x\\n\\turl = /x\\n' > .gitmodules; git add -A; git commit -qm s",
        outcome=Outcome.REFUSED,
        says="gitmodules",
    ),
    Case(
        name="twenty thousand small files",
        script=_W + "mkdir m; cd m; /usr/bin/python3 -c 'for i in range(20000): open(str(i),\"w\").write(str(i))'",
    ),
)
