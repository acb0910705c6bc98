"""Where torch's wheel comes from: the pip find-links in force when they hold it, else PyTorch's own CPU index.

uv reads neither pip's settings nor its environment variables, so they are read here and handed over.
"""

import subprocess
from pathlib import Path

__all__ = ["find_links_of", "pip_settings", "torch_arguments"]


def pip_settings(python):
    """pip's settings in force, names without their section: files first, then environment variables, which win."""
    out = subprocess.run([python, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True)
    settings, from_environment = {}, {}
    for line in out.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        # `[install]` outranks `[global]`; other commands' sections do not concern an install.
        if section == ":env:":
            from_environment[name] = value.strip("'\"")
        elif section in ("global", "install"):
            settings[name] = value.strip("'\"")
    settings.update(from_environment)
    return settings


def find_links_of(settings):
    """The find-links as a list: pip separates several by white space or (in a file) by new lines."""
    return settings.get("find-links", "").replace("\\n", " ").split()


def torch_arguments(version, index, find_links):
    """uv's arguments for torch of exactly this version.

    version: '2.13.0+cpu'; index: where to look when no folder of find_links has the wheel ('' = the default index).
    """
    requirement = f"torch=={version}"
    name = f"torch-{version}-"
    for place in find_links:
        folder = Path(place[len("file://") :] if place.startswith("file://") else place)
        if folder.is_dir() and any(file.name.startswith(name) for file in folder.iterdir()):
            return ["--no-index", "--find-links", str(folder), requirement]
    # A find-links page on the web cannot be listed cheaply: let uv look there as well.
    pages = [argument for place in find_links if "://" in place for argument in ("--find-links", place)]
    return [*(["--index-url", index] if index else []), *pages, requirement]
