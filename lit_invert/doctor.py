"""What is installed, whether it works together, and what to do where it does not.

Broken environments fail far from their cause: a torchvision built for another torch, for one, breaks `import lightning`. So every
package is looked at in a process of its own, and this module imports none of them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

#: Seconds after which an import counts as hanging.
_PATIENCE = 180
_PROBE_TORCH = """
import json, torch
gpu = torch.cuda.is_available()
print(json.dumps({
    "threads": torch.get_num_threads(),
    "gpu": torch.cuda.get_device_name() if gpu else None,
    "built": torch.version.cuda,
    "cudnn": torch.backends.cudnn.version() if gpu else None,
}))
"""
_PROBE_KERNEL = """
import json
from lit_invert.errors import KernelError
from lit_invert.kernels.native import has_bfloat16
try:
    print(json.dumps({"bfloat16": has_bfloat16(), "fault": None}))
except KernelError as error:
    print(json.dumps({"bfloat16": False, "fault": str(error)}))
"""
_PROBE_TORCHVISION = "import torch, torchvision; torch.ops.torchvision.nms"
_PROBE_PLUGINS = """
import json
from lit_invert.plugins import load_plugins
print(json.dumps(load_plugins().versions()))
"""


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor looked at."""

    what: str
    found: str
    is_good: bool = True
    remedy: str = ""
    """What to do if it is bad."""


def diagnose() -> list[Finding]:
    """Look at Python, packages, torchvision, devices, the compiled kernel, extras and plugins.

    Returns:
        One finding each; where one is bad, its remedy.
    """
    return [_python(), *_packages(), _torchvision(), *_torch(), _kernel(), *_extras(), _plugins()]


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    return Finding("python", platform.python_version(), good, "" if good else "Make a virtual environment with Python 3.11.")


def _packages() -> list[Finding]:
    """Hold what is installed against what lit-invert's own metadata asks for."""
    return [_package(r) for r in requires("lit-invert") or [] if "extra ==" not in r]


def _package(requirement: str) -> Finding:
    name, limits = parse_requirement(requirement)
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "not installed", False, f'pip install "{requirement}"')
    good = is_within(found, limits)
    return Finding(name, found, good, "" if good else f'pip install "{name}{",".join(limits)}"')


def parse_requirement(requirement: str) -> tuple[str, list[str]]:
    """Return the name of a package and its limits.

    Example:
        >>> parse_requirement("lightning<2.7,>=2.6.6")
        ('lightning', ['<2.7', '>=2.6.6'])
        >>> parse_requirement("jsonargparse[signatures]>=4.53")
        ('jsonargparse', ['>=4.53'])
    """
    name, _, limits = re.fullmatch(r"([\w.-]+)(\[[^\]]*\])?\s*(.*)", requirement).groups()  # type: ignore[union-attr]
    return name, [limit.strip() for limit in limits.split(",") if limit.strip()]


def is_within(found: str, limits: list[str]) -> bool:
    """Say whether a version keeps all limits of the forms `>=` and `<`.

    Example:
        >>> is_within("2.13.0+cpu", [">=2.10", "<3"]), is_within("2.7", [">=2.6.6", "<2.7"])
        (True, False)
    """
    ours = _numbers(found)
    return all(ours >= _numbers(limit[2:]) if limit.startswith(">=") else ours < _numbers(limit[1:]) for limit in limits)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def _torchvision() -> Finding:
    """Say whether torchvision is absent (best), works, or would break `import lightning`."""
    try:
        found = version("torchvision")
    except PackageNotFoundError:
        return Finding("torchvision", "absent, as it should be")
    error = _run(_PROBE_TORCHVISION)[1]
    if not error:
        return Finding("torchvision", found)
    return Finding("torchvision", f"{found}, broken: {error}", False, "pip uninstall torchvision (lit-invert does not need it)")


def _torch() -> list[Finding]:
    output, error = _run(_PROBE_TORCH)
    if error:
        return [Finding("import torch", error, False, "pip install --force-reinstall torch")]
    torch = json.loads(output)
    threads = Finding("threads", f"{torch['threads']} of {os.cpu_count()} cores")
    if torch["gpu"] is not None:
        return [threads, Finding("GPU", f"{torch['gpu']}, CUDA {torch['built']}, cuDNN {torch['cudnn']}")]
    built = f"torch was built for CUDA {torch['built']} but sees no GPU" if torch["built"] else "torch was built for the CPU alone"
    return [threads, Finding("GPU", f"none; {built}")]


def _kernel() -> Finding:
    """Say whether the compiled kernel can be built here; without it fits only take longer."""
    output, error = _run(_PROBE_KERNEL)
    if error:
        return Finding("compiled kernel", error, False, "Set `inversion.kernel: none` in the config.")
    kernel = json.loads(output)
    if kernel["fault"]:
        return Finding("compiled kernel", f"none, fits take longer: {kernel['fault']}")
    return Finding("compiled kernel", "native, with bfloat16" if kernel["bfloat16"] else "native, float32")


def _extras() -> list[Finding]:
    """Optional packages; their absence is no fault."""
    return [Finding(f"extra `{extra}`", _extra(extra, name)) for extra, name in {"parquet": "pyarrow", "numba": "numba"}.items()]


def _extra(extra: str, name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f'{name} not installed; if you need it: pip install "lit-invert[{extra}]"'


def _plugins() -> Finding:
    output, error = _run(_PROBE_PLUGINS)
    if error:
        return Finding("plugins", error, False, "Mend, upgrade or uninstall the plugin, or set LIT_INVERT_DISABLE_PLUGINS.")
    return Finding("plugins", ", ".join(f"{name} ({label})" for name, label in json.loads(output).items()))


def _run(code: str) -> tuple[str, str]:
    """Run Python code in a process of its own; return what it printed last, and the last line of its error, if there was one."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_PATIENCE} s"
    if done.returncode == 0:
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "", ""
    lines = done.stderr.strip().splitlines()
    return "", lines[-1] if lines else f"exit code {done.returncode}"
