"""Build the C kernels as one optional extension, `minigrad._kernels`.

The declarations that Python sees are read from `csrc/minigrad.h`, so the header is the only place
where the ABI is written. The extension uses CPython's stable ABI: one wheel serves every Python
from 3.11 on. Each file under `csrc/tables/` switches its own instruction set on, hence there are no
flags to choose: the library picks the best table that the processor supports when it is loaded.

Without a working C compiler the install still succeeds, and the package runs on numpy.
"""

import sys
from pathlib import Path

from cffi import FFI
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
NOTICE = """
minigrad: the C kernels were not built ({reason}).
minigrad works without them, on numpy, only slower. To have them, install a C compiler (gcc or clang) and
reinstall. `minigrad.show_config()` says which backend is in use.
"""


def kernels() -> Extension:
    """The cffi extension: `csrc/**/*.c` plus the wrapper that cffi generates from the header."""
    header = (ROOT / "csrc" / "minigrad.h").read_text()
    declarations = "\n".join(line for line in header.splitlines() if not line.startswith("#"))
    ffi = FFI()
    ffi.cdef(declarations)
    ffi.set_source(
        "minigrad._kernels",
        '#include "minigrad.h"',
        sources=sorted(
            p.relative_to(ROOT).as_posix() for p in (ROOT / "csrc").rglob("*.c") if "test" not in p.parts
        ),
        depends=sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "csrc").rglob("*.h")),
        include_dirs=["csrc"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        py_limited_api=True,
        extra_compile_args=[
            "-std=gnu11",
            "-O3",
            "-g0",
            "-fvisibility=hidden",
            "-fno-asynchronous-unwind-tables",  # a tenth of the file, for debuggers only
            "-ffp-contract=fast",
            "-fno-math-errno",
            "-fno-trapping-math",
            "-pthread",
            "-Wno-psabi",
        ],
        libraries=["m"],
        extra_link_args=["-pthread"] + (["-Wl,-s"] if sys.platform.startswith("linux") else []),
    )
    (ROOT / "build").mkdir(exist_ok=True)
    extension = ffi.distutils_extension(tmpdir="build")
    extension.optional = True
    return extension


class build_kernels(build_ext):
    """`build_ext` that says once, in plain words, why the kernels are missing."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            reason = str(error).splitlines()[0]
            if len(reason) > 100:  # a whole command: its name is enough, the rest stands above
                words = [word for word in reason.split("'") if word.strip("[, ")]
                reason = f"{words[1]} failed"
            print(NOTICE.format(reason=reason), file=sys.stderr, flush=True)
            raise


setup(
    ext_modules=[kernels()],
    cmdclass={"build_ext": build_kernels},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
