"""``containai image build``: our images, on this machine's Docker."""

from __future__ import annotations

import argparse
from pathlib import Path

from containai.cli.environ import Surroundings
from containai.cli.output import Console, print_json, print_table, printable
from containai.errors import UsageError
from containai.images.build import DEFAULT_BASE_IMAGE, Options, build_images, find_registry


def main(args: argparse.Namespace, here: Surroundings, console: Console) -> int:
    """Build; the tags and identities on standard output, progress on standard error."""
    if args.base_image and args.rootfs:
        raise UsageError("--base-image and --rootfs contradict each other", remedy=["leave one of the two out"])
    options = Options(
        base_image=args.base_image or DEFAULT_BASE_IMAGE,
        rootfs_suite=args.rootfs or "",
        certificates=tuple(Path(path) for path in args.certificate),
        network=args.network or "",
        npm_registry=args.npm_registry or find_registry(here.variables),
    )
    built = build_images(args.image, options, lambda line: console.progress(printable(line)))
    if args.json:
        print_json({"images": built})
    else:
        print_table(("IMAGE", "ID"), built.items())
    return 0
