"""The configuration of a run: a YAML file, dotted overrides, and every default written out.

.. code-block:: yaml

   data: mnist                        # a name or a file
   binarisation: {mode: dynamic}
   model: {class_path: mlp_vae, init_args: {latent_dim: 50}}
   objective: {class_path: ELBO}
   training: {epochs: 100, seed: 0}

``class_path`` is a name of elboscope's own, ``package.module:name`` or ``FILE.py:name``. Choosing
another class forgets the arguments of the old one. The keys are checked here, so that a wrong one
can be answered with the nearest right one; jsonargparse checks the values against the annotations
of the class or function that takes them.
"""

from __future__ import annotations

__all__ = ["SECTIONS", "SWEEP", "apply_overrides", "dump", "override", "parse_yaml", "read_config"]

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from elboscope.core.files import expanded

from .terminal import UsageError, did_you_mean

SECTIONS = ("data", "binarisation", "model", "objective", "training")
CLASSES = ("model", "objective")
SWEEP = "sweep"
Config = dict[str, Any]


def read_config(path: str | Path, sections: tuple[str, ...] = SECTIONS) -> Config:
    """Returns the sections of a YAML file, as they are written.

    Args:
        path: The file.
        sections: Those that it may have.

    Raises:
        UsageError: No such file, no YAML, or an unknown section.
    """
    path = expanded(path)
    if path.is_dir() and (path / "config.yaml").is_file():
        raise UsageError(
            str(path), expected="a YAML file", got="a run folder",
            do=f"To continue it: elboscope train {path / 'config.yaml'} --out {path} --resume",
        )  # fmt: skip
    if not path.is_file():  # a pipe is none either: reading it might never end
        names = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        got = "a folder" if path.is_dir() else "no such file"
        near = did_you_mean(path.name, names)
        raise UsageError(str(path), expected="a YAML file", got=got, do=near)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(str(path), expected="YAML", got=_yaml_problem(error)) from error
    content = parse_yaml(text, str(path), "YAML")
    if not isinstance(content, dict):
        expected = f"a YAML mapping with the keys {', '.join(sections)}"
        raise UsageError(str(path), expected=expected, got=_kind(content))
    for key in content:
        if key == SWEEP and SWEEP not in sections:
            raise UsageError(
                f"{path}, key {SWEEP}", expected="the configuration of one run", got="a sweep",
                do=f"To train its runs: elboscope sweep {path}",
            )  # fmt: skip
        require_key(str(key), sections, f"{path}, key {key}")
    return {key: _expanded(key, value) for key, value in content.items()}


MOST_VALUES, MOST_LEVELS = 10_000, 20
# What PyYAML lets out beside its own errors: a date of month 13, bytes that are no base64.
BESIDE_YAML = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def parse_yaml(text: str, what: str, expected: str) -> Any:
    """Returns what a text says as YAML: plain values, few, and none that contains itself.

    Args:
        text: The text.
        what: Where it stands.
        expected: What it should have been.

    Raises:
        UsageError: No YAML, or values that no one can have meant.

    Example:
        >>> parse_yaml("[1, 2020-13-45]", "--a", "a value")
        Traceback (most recent call last):
        elboscope.cli.terminal.UsageError: --a: expected a value; got month must be in 1..12.
        >>> parse_yaml("&a [*a]", "--a", "a value")
        Traceback (most recent call last):
        elboscope.cli.terminal.UsageError: --a: expected a value; got one that contains itself, ...
    """
    import yaml

    try:
        content = yaml.safe_load(text)
    except RecursionError as error:
        raise UsageError(what, expected=expected, got="brackets nested too deeply") from error
    except (yaml.YAMLError, *BESIDE_YAML) as error:
        raise UsageError(what, expected=expected, got=_yaml_problem(error)) from error
    if _num_values(content, 0) > MOST_VALUES:
        got = f"one that contains itself, or over {MOST_VALUES} values or {MOST_LEVELS} levels"
        raise UsageError(what, expected=expected, got=got, do="Write it without & and *.")
    return content


def _num_values(value: object, level: int, seen: int = 0) -> int:
    """Counts until it is too many: an alias (*a) may stand for thousands, or for itself."""
    seen += 1 if level <= MOST_LEVELS else MOST_VALUES
    parts: Iterable[object] = ()
    if isinstance(value, Mapping):
        parts = (part for pair in value.items() for part in pair)
    elif isinstance(value, list | tuple | set):
        parts = value
    for part in parts:
        if seen > MOST_VALUES:
            break
        seen = _num_values(part, level + 1, seen)
    return seen


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return f"{problem}{where}"


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"


def require_key(key: str, known: Iterable[str], what: str) -> None:
    """Raises a UsageError, with the nearest known key, unless the key is known."""
    known = tuple(known)
    if key not in known:
        listed = f"one of {', '.join(known)}" if known else "no key at all"
        raise UsageError(what, expected=listed, got=repr(key), do=did_you_mean(key, known))


def _expanded(section: str, value: Any) -> Any:
    """Allows ``model: mlp_vae`` and ``binarisation: dynamic`` for a section of one word."""
    if section in CLASSES:
        value = {"class_path": value} if isinstance(value, str) else value
        if not isinstance(value, Mapping):
            expected = "class_path and init_args"
            raise UsageError(section, expected=expected, got=_kind(value))
        for key in value:
            require_key(str(key), ("class_path", "init_args"), f"{section}.{key}")
        path = value.get("class_path", "")
        if not isinstance(path, str):
            raise UsageError(f"{section}.class_path", expected="a name", got=_kind(path))
        arguments = _mapping(f"{section}.init_args", value.get("init_args"))
        return {**value, "init_args": dict(arguments)}
    if section == "binarisation" and isinstance(value, str):
        return {"mode": value}
    return value if section == "data" else dict(_mapping(section, value))


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UsageError(name, expected="keys with values", got=_kind(value))
    return value


def apply_overrides(config: Config, overrides: Iterable[tuple[str, str]]) -> Config:
    """Returns the configuration with each ``key.key`` replaced by its value, read as YAML.

    ``model.latent_dim`` is short for ``model.init_args.latent_dim``. Another class forgets the
    old one's ``init_args``: they are another class's, though names may coincide.

    Raises:
        UsageError: A section that does not exist, or a value that is no YAML.

    Example:
        >>> config = {"model": {"class_path": "mlp_vae", "init_args": {"hidden": [9]}}}
        >>> apply_overrides(config, [("model", "conv_vae"), ("model.latent_dim", "3")])
        {'model': {'class_path': 'conv_vae', 'init_args': {'latent_dim': 3}}}
    """
    values = [(key, parse_yaml(text, f"--{key}", "a value")) for key, text in overrides]
    return override(config, values)


def override(config: Config, values: Iterable[tuple[str, Any]]) -> Config:
    """Returns the configuration with each ``key.key`` replaced by its value.

    Raises:
        UsageError: A section that does not exist.

    Example:
        >>> override({"training": {"epochs": 3}}, [("training.seed", 1)])
        {'training': {'epochs': 3, 'seed': 1}}
    """
    config = {key: _copied(value) for key, value in config.items()}
    for key, value in values:
        _override(config, key, value)
    return config


def _copied(value: Any) -> Any:
    return {k: _copied(v) for k, v in value.items()} if isinstance(value, dict) else value


def _override(config: Config, key: str, value: Any) -> None:
    section, *rest = key.split(".")
    require_key(section, SECTIONS, f"--{key}")
    if section in CLASSES and rest[:1] != ["init_args"] and rest not in ([], ["class_path"]):
        rest = ["init_args", *rest]
    if section in CLASSES and rest in ([], ["class_path"]):
        new = _expanded(section, value)
        same = new.get("class_path", "") == config.get(section, {}).get("class_path")
        old = config[section]["init_args"] if same else {}
        config[section] = new | {"init_args": old | new["init_args"]}
    elif not rest:
        config[section] = _expanded(section, value)
    elif rest == ["init_args"]:
        config.setdefault(section, {})["init_args"] = dict(_mapping(f"--{key}", value))
    else:
        inner = config.setdefault(section, {"init_args": {}} if section in CLASSES else {})
        if not isinstance(inner, dict):
            raise UsageError(f"--{key}", expected=f"{section} alone", got="a key below it")
        for part in rest[:-1]:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UsageError(f"--{key}", expected=f"a value for {part}", got="a key below it")
        inner[rest[-1]] = value


def dump(config: Config) -> str:
    """Returns the configuration as YAML, in the order of the sections.

    Example:
        >>> print(dump({"training": {"epochs": 3}, "data": "digits"}))
        data: digits
        training:
          epochs: 3
        <BLANKLINE>
    """
    import yaml

    ordered = {key: config[key] for key in SECTIONS if key in config}
    return str(yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True))
