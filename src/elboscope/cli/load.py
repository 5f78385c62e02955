"""From what a user typed to an object in their code: ``FILE.py:name`` or ``package.module:name``.

The file is executed, as ``python FILE.py`` would, with its folder on the search path and
``__name__`` not ``"__main__"``. Whatever it raises is the user's to fix: the message says which
exception, and the line of their file it came from.
"""

from __future__ import annotations

__all__ = [
    *(
        "EXPECTED",
        "call",
        "foreign_code",
        "import_object",
        "is_reference",
        "is_users",
        "require_trust",
    ),
]

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from elboscope.core import InputError
from elboscope.core.files import expanded

from .terminal import UsageError, did_you_mean, one_line, say

EXPECTED = "a run folder, FILE.py:name or package.module:name"


def is_reference(target: str) -> bool:
    """Whether the text names an object in code, rather than a folder.

    Example:
        >>> is_reference("my_file.py:model"), is_reference("runs/a")
        (True, False)
    """
    return ":" in target or target.endswith(".py")


def import_object(target: str) -> object:
    """Returns the object; its module is executed.

    Args:
        target: ``FILE.py:name`` or ``package.module:name``; the name may have dots.

    Raises:
        UsageError: No such file, module or name (with the nearest), or the code raised.

    Example:
        >>> import_object("math:tau")
        6.283185307179586
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        known = _names_in_file(target) if target.endswith(".py") else ""
        raise UsageError(target, expected="FILE.py:name or package.module:name",
                         got="no name after a colon", do=known)  # fmt: skip
    module = _from_file(place) if place.endswith(".py") else _from_package(place)
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise _no_attribute(target, place, part, found)
        found = getattr(found, part)
    return found


# A run folder of someone else is data: what its config.yaml names is imported only where asked for.


def foreign_code(section: object, key: str) -> Iterator[tuple[str, str]]:
    """Yields whatever in a section names code that would be imported: its key, and the name.

    Elboscope's own classes are chosen by names without a colon, and no other argument of theirs
    has one, so every text of that form counts, wherever it stands.

    Example:
        >>> section = {"class_path": "mlp_vae", "init_args": {"prior": "os:system", "hidden": [9]}}
        >>> list(foreign_code(section, "model"))
        [('model.init_args.prior', 'os:system')]
    """
    if isinstance(section, str) and is_reference(section):
        yield key, section
    elif isinstance(section, Mapping):
        for name, value in section.items():
            yield from foreign_code(value, f"{key}.{name}")
    elif isinstance(section, list | tuple):
        for index, value in enumerate(section):
            yield from foreign_code(value, f"{key}.{index}")


def require_trust(file: Path, sections: Mapping[str, object], *, trust: bool) -> None:
    """Refuses a run folder's configuration that names code, or says what will be imported.

    Args:
        file: The folder's config.yaml.
        sections: Those of its sections that would be built.
        trust: Whether the user said that the folder is trusted.

    Raises:
        UsageError: It names code, and is not trusted.
    """
    for section, content in sections.items():
        for key, name in foreign_code(content, section):
            if not trust:
                raise UsageError(
                    f"{file}, {key}",
                    expected="one of elboscope's own classes, by its name",
                    got=f"{name!r}, code that would run with your rights",
                    do="Nothing was imported. If you know what it does and trust the folder: the "
                    "same command and --trust.",
                )
            say(f"--trust: importing {name!r} ({key} in {file})")


def call(what: str, build: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Calls what the user named; whatever it raises is reported as theirs to fix.

    Raises:
        UsageError: It raised.
        InputError: It raised one: its text says all.
    """
    try:
        return build(**arguments)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{k}={v}" for k, v in arguments.items()) or "no arguments"
        raise UsageError(
            what, expected=f"a model for {given}", got=f"{type(error).__name__}: {one_line(error)}",
            do="Fix the arguments; --debug shows where it was raised.",
        ) from error  # fmt: skip


def _names_in_file(target: str) -> str:
    if not Path(target).is_file():
        return f"For example {target}:model."
    names = [n for n, value in vars(_from_file(target)).items() if hasattr(value, "decode")
             and not isinstance(value, str | bytes | type)]  # fmt: skip
    return f"For example {target}:{names[0] if names else 'model'}."


def _no_attribute(target: str, place: str, part: str, found: object) -> UsageError:
    names = [name for name in vars(found) if not name.startswith("_")] if hasattr(
        found, "__dict__") else []  # fmt: skip
    do = did_you_mean(part, names)
    if not do and names:
        do = f"It defines {', '.join(names[-8:])}."
    return UsageError(target, expected=f"a name defined in {place}", got=repr(part), do=do)


def _from_file(place: str) -> ModuleType:
    path = expanded(place)
    if not path.is_file():
        folder = path.parent
        names = [entry.name for entry in folder.glob("*.py")] if folder.is_dir() else []
        near = did_you_mean(path.name, names)
        got = "a folder" if path.is_dir() else "no such file"
        raise UsageError(place, expected="a Python file", got=got, do=near)
    name = f"elboscope_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None  # the suffix is .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _search(path.resolve().parent)
    sys.modules[name] = module  # dataclasses and pickles of the file look it up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise _raised(place, path.resolve(), error) from error
    return module


def _from_package(place: str) -> ModuleType:
    _search(Path.cwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise UsageError(
                place, expected="an importable module", got=f"no module named '{error.name}'",
                do=did_you_mean(error.name, _importable()) or "A file is named with its .py.",
            ) from error  # fmt: skip
        raise _raised(place, None, error) from error
    except (Exception, SystemExit) as error:
        raise _raised(place, None, error) from error


# Folders that were searched for what the user named; their files, and no others, are the user's.
_SEARCHED: set[str] = set()


def is_users(file: str) -> bool:
    """Whether a file lies where the user's code was searched: what it raises is theirs to fix.

    Example:
        >>> is_users(importlib.__file__)
        False
    """
    own = str(Path(__file__).parents[1])
    foreign = "site-packages" in file or file.startswith((own, "<"))
    return not foreign and any(file.startswith(f"{folder}{os.sep}") for folder in _SEARCHED)


def _search(folder: Path) -> None:
    _SEARCHED.add(str(folder))
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _importable() -> list[str]:
    """Returns the user's own modules here, and what is imported already."""
    here = [p.stem for p in Path.cwd().glob("*.py")] + [p.name for p in Path.cwd().glob("*/")]
    return [*here, *(name for name in sys.modules if "." not in name)]


def _raised(place: str, path: Path | None, error: BaseException) -> UsageError:
    kind, text = type(error).__name__, one_line(error)
    if isinstance(error, SyntaxError) and error.filename is not None:
        file, line, text = error.filename, error.lineno, error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if path is not None and f.filename == str(path)]
        last = (own or frames)[-1]
        file, line = last.filename, last.lineno
    where = place if path is not None and file == str(path) else file
    return UsageError(
        place,
        expected="code that can be imported",
        got=f"{kind}: {text} ({where}, line {line})",
        do="Run it with python first, or see the traceback with --debug.",
    )
