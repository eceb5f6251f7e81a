"""Settings, hooks and helper programs that the agent plants: host git reads none of them."""

from __future__ import annotations

from tests.hostile.model import Case

_RUN = "sh -c 'touch @CANARY@'"
_SETTINGS = {
    "core.fsmonitor": _RUN,
    "core.hooksPath": "/workspace/evil-hooks",
    "core.sshCommand": _RUN,
    "core.pager": _RUN,
    "core.editor": _RUN,
    "core.askPass": "/workspace/evil-hooks/post-commit",
    "core.gitProxy": "/workspace/evil-hooks/post-commit",
    "core.alternateRefsCommand": _RUN,
    "core.attributesFile": "/workspace/.gitattributes",
    "core.worktree": "/etc",
    "credential.helper": "!touch @CANARY@",
    "diff.external": _RUN,
    "diff.evil.textconv": _RUN,
    "diff.evil.command": _RUN,
    "merge.evil.driver": _RUN,
    "filter.evil.clean": _RUN,
    "filter.evil.smudge": _RUN,
    "filter.evil.process": _RUN,
    "gpg.program": "/workspace/evil-hooks/post-commit",
    "gpg.ssh.program": "/workspace/evil-hooks/post-commit",
    "include.path": "/workspace/evil-config",
    "includeIf.onbranch:**.path": "/workspace/evil-config",
    "interactive.diffFilter": _RUN,
    "protocol.ext.allow": "always",
    "remote.local.receivepack": "touch @CANARY@; git-receive-pack",
    "remote.local.uploadpack": "touch @CANARY@; git-upload-pack",
    "remote.local.url": "ext::sh -c 'touch @CANARY@'",
    "sequence.editor": _RUN,
    "trailer.evil.command": _RUN,
    "transfer.fsckObjects": "false",
    "uploadpack.packObjectsHook": _RUN,
    "url.ext::sh -c touch% @CANARY@ .insteadOf": "git://",
}
_PLANT = (
    "mkdir -p evil-hooks; for h in post-commit pre-commit pre-push; do"
    " printf '#!/bin/sh\\ntouch @CANARY@\\n' > evil-hooks/$h; chmod +x evil-hooks/$h; done;"
    " echo '* filter=evil diff=evil merge=evil' > .gitattributes;"
    " printf '[core]\\n\\tfsmonitor = touch @CANARY@\\n' > evil-config; "
)
_HOOKS = (
    "applypatch-msg commit-msg fsmonitor-watchman post-applypatch post-checkout post-commit post-merge post-receive post-rewrite post-update"
    " pre-applypatch pre-auto-gc pre-commit pre-merge-commit pre-push pre-rebase pre-receive prepare-commit-msg proc-receive push-to-checkout"
    " reference-transaction sendemail-validate update"
)


def _set(key: str, value: str) -> str:
    return f"git config --add '{key}' \"{value}\" || true; "


CASES = (
    Case(
        name="every setting at once",
        script=f"echo kept > work; {_PLANT}" + "".join(_set(key, value) for key, value in _SETTINGS.items()),
    ),
    *(
        Case(name=f"setting {key}", script=f"echo kept > work; {_PLANT}{_set(key, value)}", slow=True)
        for key, value in _SETTINGS.items()
    ),
    Case(
        name="every hook",
        script=f"echo kept > work; mkdir -p .git/hooks; for h in {_HOOKS}; do"
        " printf '#!/bin/sh\\ntouch @CANARY@\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done",
    ),
    Case(name="settings that git cannot read", script="echo kept > work; printf '[core\\n\\000\\377' > .git/config"),
    Case(
        name="settings without end", script="echo kept > work; head -c 20000000 /dev/zero | tr '\\0' '[' > .git/config"
    ),
    Case(name="settings that include themselves", script="echo kept > work; git config include.path config"),
    Case(
        name="settings of a working tree",
        script="echo kept > work; git config extensions.worktreeConfig true;"
        " printf '[core]\\n\\tfsmonitor = touch @CANARY@\\n\\tbare = true\\n' > .git/config.worktree",
    ),
    Case(
        name="attributes of every kind",
        script="echo kept > work; printf '* filter=evil text=auto eol=crlf ident export-subst working-tree-encoding=UTF-16 diff=evil"
        " merge=evil delta=false\\n' > .git/info/attributes; git config filter.evil.clean 'touch @CANARY@; cat'; git config filter.evil.required true",
    ),
)
