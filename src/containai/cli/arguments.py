"""The command line's grammar. ``docs/cli.md`` is checked against it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from containai.errors import UsageError


class Parser(argparse.ArgumentParser):
    """A parser whose complaints have our error form. An option is written out: a later one may begin alike.

    Attributes:
        when_missing: What to do where an argument is missing, other than to read the help.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})
        self.when_missing = ""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exit."""
        missing = self.when_missing if "arguments are required" in message else ""
        raise UsageError(message, remedy=[*filter(None, [missing]), f"{self.prog} --help"])

    def command(self, words: Sequence[str]) -> Parser:
        """The parser of the command that ``words`` begin with, down to its sub-command; else this one."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for number, word in enumerate(words):
                    if word in action.choices:
                        found: Parser = action.choices[word]
                        return found.command(words[number + 1 :])
        return self


def build_parser() -> Parser:
    """The whole grammar of ``containai``."""
    parser = Parser(prog="containai", description="Run AI coding agents that you do not have to trust.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command_name", metavar="COMMAND", parser_class=Parser)
    run = commands.add_parser(
        "run",
        help="run an agent in a contained session",
        usage="%(prog)s [SOURCE] [OPTION ...] [-- COMMAND [ARG ...]]",
        description=_RUN,
        epilog=_RUN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run(run)
    doctor = commands.add_parser("doctor", help="check what this host can guarantee")
    doctor.add_argument("--engine", choices=("auto", "embedded", "docker"), default="auto", help=_ENGINE)
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    listing = commands.add_parser("list", help="list sessions")
    listing.add_argument("--json", action="store_true", help="print one JSON object a line")
    log = commands.add_parser("log", help="show what a session did")
    log.add_argument("session", nargs="?", metavar="SESSION", help="id, name or branch (default: the newest)")
    log.add_argument("--follow", action="store_true", help="go on as events happen, until the session ends")
    log.add_argument("--kind", metavar="KINDS", help="only these: exec,network,secret,git,session")
    log.add_argument("--json", action="store_true", help="print one JSON object a line")
    recover = commands.add_parser("recover", help="return the work of interrupted sessions and clean up")
    recover.add_argument("session", nargs="?", metavar="SESSION", help="only this one (default: all)")
    recover.add_argument("--json", action="store_true", help="print one JSON object a line")
    review = commands.add_parser("review", help="look at a session's work before you merge it")
    review.add_argument("session", nargs="?", metavar="SESSION", help="id, name or branch (default: list what waits)")
    review.add_argument("--json", action="store_true", help="print one JSON object")
    review.add_argument("--web", nargs="?", const="", metavar="FILE", help=_WEB)
    review.add_argument("--difftool", action="store_true", help="open the diff in your own git difftool")
    _add_decisions(commands)
    _add_provenance(commands.add_parser("provenance", help="prove which session a commit came from"))
    _add_image(commands.add_parser("image", help="build the images of Docker sessions"))
    selftest = commands.add_parser("selftest", help="attack your own sandbox from inside, and see what holds")
    selftest.add_argument("--engine", choices=("auto", "embedded", "docker"), default="auto", help=_ENGINE)
    selftest.add_argument("--json", action="store_true", help="print one JSON object")
    selftest.add_argument("--verbose", action="store_true", help="show every attack, not only those that got through")
    selftest.add_argument("--list", action="store_true", help="only list the attacks and the claims that they test")
    demo = commands.add_parser("demo", help="contain a scripted agent that tries to break out")
    demo.add_argument("--keep", action="store_true", help="keep the sample repository")
    return parser


_RUN = "Run an agent, or any command, in a container of its own, on a branch of its own."
_RUN_EXAMPLES = """\
Everything behind -- is the command, with its arguments, whatever it looks like:
  containai run -- make test
  containai run --agent claude --prompt "add a test"
"""
_HOW = (
    ("ff-only", "only if your branch has not moved on"),
    ("no-ff", "always make a merge commit"),
    ("squash", "make one commit of it"),
)
_WEB = "write one HTML page for a second reader, to FILE or into the session's directory, and print its path"
_ENGINE = "which engine (default: %(default)s)"


def _add_decisions(commands: argparse._SubParsersAction[Parser]) -> None:
    merge = commands.add_parser("merge", help="merge a session's work into your branch")
    merge.add_argument("session", metavar="SESSION", help="id, name or branch")
    merge.when_missing = "put SESSION first: containai merge SESSION --acknowledge ID [ID ...]"
    merge.add_argument(
        "--acknowledge",
        action="append",
        nargs="+",
        default=[],
        metavar="ID",
        help="triggers that you have looked at, one or several: ids of `containai review`, or a kind for all of it",
    )
    how = merge.add_mutually_exclusive_group()
    for name, text in _HOW:
        how.add_argument(f"--{name}", dest="how", action="store_const", const=name, help=text)
    merge.add_argument("--into", metavar="BRANCH", help="the branch that receives it (default: the one checked out)")
    merge.add_argument("--json", action="store_true", help="print one JSON object")
    drop = commands.add_parser("drop", help="decide against a session's work: its branch is archived")
    drop.add_argument("session", metavar="SESSION", help="id, name or branch")
    remove = commands.add_parser("remove", help="remove an ended session, its log, and its branch once that is merged")
    remove.add_argument("session", metavar="SESSION", help="id, name or branch")
    remove.add_argument("-y", "--force", action="store_true", help="also if it holds work that was never returned")


def _add_image(image: argparse.ArgumentParser) -> None:
    actions = image.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    build = actions.add_parser("build", help="build images from the files of this installation")
    build.add_argument(
        "image", nargs="*", metavar="IMAGE", help="base, claude, codex, copilot, or all (default): see docs/images.md"
    )
    build.add_argument(
        "--npm-registry",
        metavar="URL",
        help="where Node.js and the agents come from (default: what npm here is set to)",
    )
    build.add_argument("--base-image", metavar="REF", help="what containai-base stands on (default: ubuntu:24.04)")
    build.add_argument("--rootfs", metavar="SUITE", help="make that with mmdebstrap from this Debian release")
    build.add_argument(
        "--certificate", action="append", default=[], metavar="FILE", help="a certificate that your network needs"
    )
    build.add_argument("--network", metavar="NETWORK", help="the build's network, such as host")
    build.add_argument("--json", action="store_true", help="print one JSON object")


def _add_provenance(provenance: argparse.ArgumentParser) -> None:
    actions = provenance.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    verify = actions.add_parser("verify", help="check the signed statements about commits; 1 when one is not proven")
    verify.add_argument("commit", metavar="COMMIT|A..B", help="a commit, or all of a range")
    verify.add_argument(
        "--key", action="append", default=[], metavar="FILE", help="trust this public key, and no other"
    )
    show = actions.add_parser("show", help="print what is stated about a commit, checked or not")
    show.add_argument("commit", metavar="COMMIT", help="a commit")
    for action in (verify, show):
        action.add_argument("--repository", default=".", metavar="DIR", help="where (default: the current directory)")
    verify.add_argument("--json", action="store_true", help="print one JSON object a commit")
    actions.add_parser("key", help="print your public key, for those who verify")


def _add_run(run: argparse.ArgumentParser) -> None:
    add = run.add_argument
    add("source", nargs="?", default=".", metavar="SOURCE", help="the repository (default: the current directory)")
    add("--agent", metavar="NAME", help="claude, codex, copilot, ... (default with a COMMAND: shell)")
    add("--engine", choices=("auto", "embedded", "docker"), default="auto", help=_ENGINE)
    add("--image", metavar="REF", help="the image of a Docker session (default: containai-AGENT, else containai)")
    add("-b", "--branch", metavar="NAME", help="work on <agent>/NAME instead of <agent>/session-N")
    add("--use-current-branch", action="store_true", help="work on the branch that is checked out (see docs/review.md)")
    add("--name", metavar="NAME", help="name of the session")
    add("-y", "--force", action="store_true", help="archive an existing branch of that name")
    add("--network-proxy", choices=("squid", "restricted", "none"), help="where it may connect (default: squid)")
    add("--squid-domains", metavar="LIST", help='allowed hosts, as "a.example,*.b.example"; replaces the defaults')
    add("--credentials", choices=("mount", "none"), help="the agent's own credential files (default: mount)")
    add("--env", action="append", default=[], metavar="NAME", help="pass this variable; the agent can read it")
    add(
        "--allow-local",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="let it reach this one service on the host's loopback",
    )
    add(
        "--exec-policy",
        choices=("observe", "enforce"),
        help="record what [exec] denies, or deny it (default: enforce where there are rules)",
    )
    add("--with-changes", action="store_true", help="take uncommitted changes along, as one commit")
    add("--include", action="append", default=[], metavar="PATH", help="copy this ignored file or folder, such as .env")
    add("--sparse", action="append", default=[], metavar="PATH", help="check out only this folder; can be repeated")
    add("--submodules", action="store_true", help="give the submodules that are checked out")
    add("--lfs", action="store_true", help="give the content of Git LFS files that are on this machine")
    add("--cpu", type=float, metavar="N", help="processors")
    add("--memory", metavar="SIZE", help="memory, as 512m or 4g")
    add("--timeout", type=float, metavar="SECONDS", help="end the agent after this time (exit status 124)")
    add("--prompt", metavar="TEXT", help="give the agent this task and let it work alone")
    add("--no-push", action="store_true", help="keep the work in the session")
    add("--json", action="store_true", help="print the result as one JSON object")
