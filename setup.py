"""Builds what Python cannot carry: the static shim, the supervisor's loop and the compiled seccomp filters.

All are written to ``containai/_native``: into the wheel for a normal install, into ``src`` for an
editable one. Everything else about the package is declared in ``pyproject.toml``.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.dist import Distribution
from setuptools.errors import CompileError, PlatformError

HERE = Path(__file__).resolve().parent
PROFILE = HERE / "src/containai/data/seccomp-containai-agent.json"
SHIM = "containai-shim"
SUPERVISE = "libcontainai-supervise.so"
FILTERS = ("agent.bpf", "housekeeping.bpf")
# Static, because the container's root may hold no C library of ours, and because a static PID 1
# takes neither LD_PRELOAD nor a loader from the agent's side.
STATIC = ("-static", "-pthread", "-Wl,--gc-sections")
# A library of the launcher's own process: loaded by ctypes, bound to no Python.
SHARED = ("-shared", "-fPIC", "-fvisibility=default")
CFLAGS = (
    "-std=gnu11 -O2 -Wall -Wextra -Werror -Wformat=2 -Wshadow -Wvla -fstack-protector-strong "
    "-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fno-strict-aliasing -ffunction-sections -fdata-sections "
    "-Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,now"
).split()


class BuildNative(Command):
    """Sub-command of ``build``: compiles ``native/`` and the seccomp profile."""

    description = "compile the containai-shim and the seccomp filters"
    user_options = [("build-lib=", "b", "directory to build to")]

    build_lib: str | None
    editable_mode: bool

    def initialize_options(self) -> None:
        self.build_lib = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        target = self._target()
        target.mkdir(parents=True, exist_ok=True)
        _compile(target / SHIM, sorted(HERE.glob("native/*.c")), STATIC)
        _compile(target / SUPERVISE, sorted(HERE.glob("native/supervise/*.c")), SHARED)
        _compile_filters(target)

    def get_source_files(self) -> list[str]:
        sources = [*HERE.glob("native/**/*.[ch]"), PROFILE, HERE / "scripts/compile_seccomp.py"]
        return [str(path.relative_to(HERE)) for path in sources]

    def get_outputs(self) -> list[str]:
        return [str(self._target() / name) for name in (SHIM, SUPERVISE, *FILTERS)]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def _target(self) -> Path:
        root = HERE / "src" if self.editable_mode else Path(str(self.build_lib))
        return root / "containai" / "_native"


class PlatformWheel(bdist_wheel):
    """Tags the wheel for this platform, and for every Python: nothing in it links against one."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform


class NativeDistribution(Distribution):
    """Says that the package is bound to a platform, so that it is installed in ``platlib``."""

    def has_ext_modules(self) -> bool:
        return True


def _compile(target: Path, sources: list[Path], flags: tuple[str, ...]) -> None:
    if not sources:
        raise CompileError("no C sources in native/: the checkout is incomplete")
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise PlatformError(
            "containai needs a C compiler to build its container shim.\n"
            "  Debian, Ubuntu:  apt-get install gcc libc6-dev\n"
            "  Fedora:          dnf install gcc glibc-static"
        )
    # Written beside the target and renamed: a shim that is running cannot be overwritten (ETXTBSY).
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    done = subprocess.run([*compiler.split(), *CFLAGS, *flags, "-o", fresh, *sources], check=False)
    if done.returncode != 0:
        fresh.unlink(missing_ok=True)
        raise CompileError(
            "the C compiler failed on native/ (its messages stand above).\n"
            "If it could not find headers or a static libc: apt-get install libc6-dev, or dnf install glibc-static"
        )
    fresh.chmod(0o755)
    fresh.replace(target)


def _compile_filters(target: Path) -> None:
    spec = importlib.util.spec_from_file_location("compile_seccomp", HERE / "scripts" / "compile_seccomp.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.compile_profile(PROFILE, target)


build.sub_commands.append(("build_native", None))

setup(
    cmdclass={"build_native": BuildNative, "bdist_wheel": PlatformWheel},
    distclass=NativeDistribution,
)
