"""``containai provenance``: prove, show, and give others the key to prove with."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, printable
from containai.errors import ProvenanceError, UsageError
from containai.provenance.envelope import looks_like_envelope
from containai.provenance.keys import public_pem, trusted_keys
from containai.provenance.notes import NOTES_REF, read_notes
from containai.provenance.statement import MergeFacts, parse_object
from containai.provenance.verify import Proven, Verdict, Verifier
from containai.workspace.git import run_git, run_git_as_user

_GIT_VARIABLES = ("HOME", "XDG_CONFIG_HOME", "SUDO_UID")  # what git's ownership rules read


def main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Do one of the three; 1 when a commit is not proven."""
    config_dir = here.config_file.parent
    if args.action == "key":
        print(public_pem(config_dir), end="")
        return 0
    place = Path(args.repository)
    user = {name: here.variables[name] for name in _GIT_VARIABLES if name in here.variables}
    git_dir = _git_dir(place, user)
    if args.action == "show":
        return _show(git_dir, _commit(args.commit, place, user))
    keys = trusted_keys(config_dir, [Path(name) for name in args.key])
    commits = _commits(args.commit, place, git_dir, user)
    verdicts = Verifier(git_dir, keys, here.state_dir / "sessions").verify(commits)
    for verdict in verdicts:
        if args.json:
            print_json(_as_json(verdict))
        else:
            _tell(verdict)
    if not args.json:
        sys.stdout.flush()
        _tell_failures(verdicts, console)
    return 1 if any(verdict.problem for verdict in verdicts) else 0


def _git_dir(place: Path, user: dict[str, str]) -> Path:
    done = run_git_as_user(["rev-parse", "--path-format=absolute", "--git-common-dir"], place, user)
    if done.status != 0:
        raise UsageError(
            "--repository: there is no git repository that git would use",
            details=done.said,
            remedy=["give the command in a repository, or name one: --repository DIR"],
        )
    return Path(os.fsdecode(done.stdout.removesuffix(b"\n")))


def _commit(word: str, place: Path, user: dict[str, str]) -> str:
    if not word or word.startswith("-"):
        raise UsageError(f"{word!r} is no commit", remedy=["containai provenance verify HEAD"])
    done = run_git_as_user(["rev-parse", "--quiet", "--verify", f"{word}^{{commit}}"], place, user)
    if done.status != 0:
        raise ProvenanceError(
            "there is no such commit in the repository",
            code="provenance.no-commit",
            details=word,
            remedy=["git log --oneline --all   # which there are", "git fetch   # if it is elsewhere"],
        )
    return done.stdout.decode().strip()


def _commits(words: str, place: Path, git_dir: Path, user: dict[str, str]) -> list[str]:
    first, dots, last = words.partition("..")
    if not dots:
        return [_commit(words, place, user)]
    if last.startswith("."):
        raise UsageError("a range is A..B", remedy=["containai provenance verify main..HEAD"])
    ends = (_commit(first or "HEAD", place, user), _commit(last or "HEAD", place, user))
    done = run_git(["rev-list", "--topo-order", "--reverse", ends[1], f"^{ends[0]}"], git_dir=git_dir)
    commits = done.stdout.decode().split()
    if done.status != 0 or not commits:
        raise ProvenanceError(
            "there is no commit in that range",
            code="provenance.no-commit",
            details=done.said or words,
            remedy=["git log --oneline A..B   # what stands in B and not in A"],
        )
    return commits


def _tell(verdict: Verdict) -> None:
    if verdict.problem is not None:
        problem = verdict.problem
        print(f"{verdict.commit}: NOT VERIFIED: {problem.code}: {printable(problem.summary)}")
        for line in problem.details.splitlines():
            print(f"  {printable(line)}")
        return
    print(f"{verdict.commit}: verified")
    for proven in verdict.proven:
        for line in _lines(proven):
            print(f"  {printable(line)}")
    if verdict.passed_over:
        print(f"  not counted: statements by keys that are not trusted here: {verdict.passed_over}")


def _tell_failures(verdicts: Sequence[Verdict], console: Console) -> None:
    """What to do, once for each kind of failure: why each commit is not proven stands among the results."""
    kinds: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for verdict in verdicts:
        if verdict.problem is not None:
            kinds.setdefault((verdict.problem.code, verdict.problem.remedy), []).append(verdict.commit)
    for (code, remedy), commits in kinds.items():
        summary = f"{len(commits)} of {len(verdicts)} commits not verified"
        console.error(ProvenanceError(summary, code=code, details="\n".join(commits), remedy=remedy))


def _lines(proven: Proven) -> tuple[str, ...]:
    facts = proven.statement.facts
    signed = f"signed by key {proven.key.key_id} ({proven.key.origin})"
    if isinstance(facts, MergeFacts):
        acknowledged = ", ".join(facts.acknowledged) or "nothing had to be"
        return (
            f"merged from returned commit {facts.returned}, session {facts.session}, at {facts.finished}",
            f"acknowledged: {acknowledged}",
            signed,
        )
    return (
        f"returned by session {facts.session} (agent {facts.agent}, engine {facts.engine}) at {facts.finished}",
        f"to branch {facts.branch}, from base {facts.base_commit}",
        f"configuration {facts.config_sha256}",
        f"policy {facts.policy_sha256}",
        signed,
        proven.log,
    )


def _as_json(verdict: Verdict) -> dict[str, Any]:
    problem = verdict.problem
    return {
        "commit": verdict.commit,
        "verified": problem is None,
        "code": problem.code if problem else "",
        "reason": " ".join(filter(None, (problem.summary, problem.details))) if problem else "",
        "not_counted": verdict.passed_over,
        "statements": [
            {
                "kind": "merge" if isinstance(proven.statement.facts, MergeFacts) else "session",
                "key_id": proven.key.key_id,
                "key": proven.key.origin,
                "log": proven.log,
                "predicate": proven.statement.facts.as_predicate(),
            }
            for proven in verdict.proven
        ],
    }


def _show(git_dir: Path, commit: str) -> int:
    """Print the statements as they stand there. Nothing is checked, and the output says so."""
    import base64
    import json

    note = read_notes(git_dir, [commit]).texts.get(commit)
    if note is None:
        raise ProvenanceError(
            "the commit has no note, so nothing is stated about it",
            code="provenance.no-note",
            remedy=[f"git fetch REMOTE {NOTES_REF}:{NOTES_REF}"],
        )
    lines = list(filter(looks_like_envelope, note.split(b"\n")))
    if not lines:
        raise ProvenanceError("the commit's note holds no statement", code="provenance.no-statement")
    for line in lines:
        envelope = parse_object(line, "envelope")
        try:
            payload = base64.b64decode(envelope["payload"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise ProvenanceError("the envelope is not as it must be", code="provenance.envelope") from error
        print(json.dumps({"checked": False, "statement": parse_object(payload, "statement")}, indent=2))
    return 0
