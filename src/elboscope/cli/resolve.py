"""From a configuration to the objects of a run: data, binarisation, model, objective, settings.

Each section is the arguments of one class or function. Its signature says which keys there are
and of which type; jsonargparse converts and checks the values, and fills in the defaults, so that
what is written into the run folder is complete.
"""

from __future__ import annotations

__all__ = [
    "MODELS",
    "OBJECTIVES",
    "POSTERIORS",
    "PRIORS",
    "Resolved",
    "build_model",
    "builder",
    "family",
    "find_objective",
    "resolve",
    "resolve_saved",
    "resolve_section",
]

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from elboscope import models, training
from elboscope.core import LatentVariableModel, Sampled, is_implicit
from elboscope.data import Binarisation
from elboscope.objectives import known_objectives
from elboscope.training import Game, Objective, TrainingSettings

from .config import Config, require_key
from .load import call, import_object, is_reference
from .terminal import UsageError, did_you_mean

WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}
# Arguments that come from the data and the other sections.
FILLED = {"model": ("data_shape",), "training": ("objective",)}


@dataclass(frozen=True)
class Resolved:
    """What a configuration describes, short of data and model.

    Attributes:
        config: The configuration, with every default.
        data: The name or path of the data.
        binarisation: How grey becomes binary.
        settings: Training, with the objective.
    """

    config: Config
    data: str
    binarisation: Binarisation
    settings: TrainingSettings

    def model(self, data_shape: tuple[int, ...]) -> Sampled:
        """Returns a new model for data of this shape."""
        return build_model(self.config["model"], data_shape)


def resolve(config: Config) -> Resolved:
    """Checks every key and value of a configuration and fills in the defaults.

    Raises:
        UsageError: An unknown key or class, a value of the wrong type, a missing section.
    """
    objective = _resolved_class("objective", _objective(config))
    kind = find_objective(objective["class_path"])
    made = call_objective(objective["class_path"], kind, objective["init_args"])
    return _resolved(config, objective, kind, made)


def resolve_saved(config: Config) -> Resolved:
    """Resolves the configuration of a run folder, of which the objective is never built.

    A diagnosis needs no objective. The settings of elboscope's own are checked and repeated in
    the report; another one is a name and nothing else.

    Raises:
        UsageError: As :func:`resolve`.
    """
    given = _objective(config)
    own = OBJECTIVES.get(str(given.get("class_path")).removeprefix("elboscope.training."))
    objective = given if own is None else _resolved_class("objective", given)
    return _resolved(config, objective, own, None)


def _objective(config: Config) -> Config:
    section: Config = {"class_path": "ELBO"} | config.get("objective", {})
    return section


def _resolved(
    config: Config, objective: Config, kind: object, made: Objective | Game | None
) -> Resolved:
    for section in ("data", "model"):
        if section not in config:
            example = "data: digits" if section == "data" else "model: {class_path: mlp_vae}"
            raise UsageError(section, expected="this key", got="none", do=f"For example {example}")
    if not isinstance(config["data"], str):
        got = repr(config["data"])
        raise UsageError("data", expected="the name or file of a data set", got=got)
    settings = resolve_section("training", TrainingSettings, config.get("training", {}))
    model = _resolved_class("model", config["model"])
    # A generator without likelihood makes grey images, which binary data would betray at a glance.
    generates = inspect.isclass(kind) and issubclass(kind, Game) and not kind.encodes
    default = {"mode": "none"} if generates else {}
    given = config.get("binarisation", default)
    binarisation = resolve_section("binarisation", Binarisation, given)
    complete: Config = {
        "data": config["data"],
        "binarisation": binarisation,
        "model": model,
        "objective": objective,
        "training": settings,
    }
    return Resolved(
        complete,
        config["data"],
        Binarisation(**binarisation),
        TrainingSettings(**settings | {"objective": made, "betas": tuple(settings["betas"])}),
    )


def _resolved_class(section: str, given: Mapping[str, Any]) -> Config:
    if not given.get("class_path"):
        known = ", ".join(MODELS if section == "model" else OBJECTIVES)
        expected = f"one of {known}, or package.module:name"
        raise UsageError(f"{section}.class_path", expected=expected, got="none")
    path = given["class_path"]
    find = builder if section == "model" else find_objective
    arguments = given.get("init_args") or {}
    return {"class_path": path, "init_args": resolve_section(section, find(path), arguments)}


def resolve_section(
    section: str, target: Callable[..., object], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns all arguments of a callable, typed and with defaults, as plain values.

    Args:
        section: What messages call the arguments.
        target: A class or function with annotations.
        given: Some of its arguments, as YAML gives them.

    Raises:
        UsageError: An unknown argument, or a value that its annotation does not allow.

    Example:
        >>> from elboscope import training
        >>> resolve_section("objective", training.IWAE, {"num_samples": 50})
        {'num_samples': 50}
    """
    filled = FILLED.get(section, ())
    names = [name for name in _parameters(target) if name not in filled]
    prefix = f"{section}.init_args" if section in ("model", "objective") else section
    for key in given:
        require_key(str(key), names, f"{prefix}.{key}")
    return _typed(prefix, target, given, names, filled)


def _parameters(target: Callable[..., object]) -> dict[str, inspect.Parameter]:
    if not (inspect.isclass(target) or inspect.isroutine(target)):
        return {}  # a ready-made model takes no arguments
    try:
        return dict(inspect.signature(target).parameters)
    except ValueError:  # written in C, without telling: calling it will say what it is
        return {}


def _typed(
    prefix: str,
    target: Callable[..., object],
    given: Mapping[str, Any],
    names: list[str],
    filled: tuple[str, ...],
) -> dict[str, Any]:
    from jsonargparse import ArgumentParser

    if not names:
        return {}
    typed: dict[str, Any] = {}
    parameters = _parameters(target)
    for name in names:  # one at a time, so that a message can name the key
        known = _families(parameters[name])
        if known:
            typed[name] = _resolved_family(f"{prefix}.{name}", given.get(name), known)
            continue
        parser = ArgumentParser(exit_on_error=False)
        skip: set[str | int] = {*(other for other in parameters if other != name), *filled}
        add = (
            parser.add_class_arguments if inspect.isclass(target) else parser.add_function_arguments
        )
        try:
            add(target, skip=skip)
        except ValueError as error:
            got = "none, so that no value can be checked"
            do = "Write def build(units: int) in your file."
            what = f"{prefix}.{name}"
            raise UsageError(what, expected="an annotation", got=got, do=do) from error
        default = parameters[name].default
        if name not in given and default is inspect.Parameter.empty:
            got = f"none, which {getattr(target, '__name__', target)} needs"
            raise UsageError(f"{prefix}.{name}", expected="a value", got=got)
        typed[name] = _value(parser, name, given, prefix, target)
    return typed


def _families(parameter: inspect.Parameter) -> tuple[str, ...]:
    """The families that an argument may name: classes of their own within the model's."""
    annotation = str(parameter.annotation)
    if models.PosteriorFamily.__name__ in annotation:
        return POSTERIORS
    return PRIORS if models.PriorFamily.__name__ in annotation else ()


def _resolved_family(what: str, given: Any, known: tuple[str, ...]) -> Config | None:
    """``RealNVP``, or ``{class_path: RealNVP, init_args: {…}}``, with every default."""
    if given is None:
        return None
    value = {"class_path": given} if isinstance(given, str) else given
    if not isinstance(value, Mapping) or not isinstance(value.get("class_path"), str):
        expected = f"one of {', '.join(known)}, with class_path and init_args"
        raise UsageError(what, expected=expected, got=repr(given))
    for key in value:
        require_key(str(key), ("class_path", "init_args"), f"{what}.{key}")
    path: str = value["class_path"]
    arguments: Any = value.get("init_args") or {}
    filled = resolve_section(f"{what}.init_args", family(path, what, known), arguments)
    return {"class_path": path, "init_args": filled}


def _value(
    parser: Any, name: str, given: Mapping[str, Any], prefix: str, target: Callable[..., object]
) -> Any:
    from argparse import ArgumentError

    try:
        parsed = parser.parse_object({name: given[name]} if name in given else {})
    except ArgumentError as error:
        expected, value = _annotation(target, name), given[name]
        choices = expected.removeprefix("one of ").split(", ") if "one of" in expected else ()
        do = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise UsageError(f"{prefix}.{name}", expected=expected, got=repr(value), do=do) from error
    return _plain(parsed[name])


def _annotation(target: Callable[..., object], name: str) -> str:
    """Returns the type in words: the choices of a Literal, a tuple as a list of numbers."""
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    return _in_words(hints.get(name, Any))


def _in_words(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in (Union, UnionType):
        return " or ".join(_in_words(part) for part in parts)
    if origin in (tuple, list):
        inner = _in_words(parts[0])
        some = "" if len(parts) > 1 and parts[1] is Ellipsis else f"{len(parts)} "
        return f"a list of {some}× {inner}" if some else f"a list, each {inner}"
    return WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _plain(value: Any) -> Any:
    """Tuples become lists: what YAML can hold."""
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def build_model(section: Mapping[str, Any], data_shape: tuple[int, ...]) -> Sampled:
    """Returns the model of a configuration's ``model`` section.

    A class or function is called with its ``init_args``, and with ``data_shape`` if it takes
    that; an object that has ``decode`` already is the model itself.

    Raises:
        UsageError: The class or function could not be called.
    """
    path = section["class_path"]
    model = _made(path, section["init_args"], data_shape)
    if not (isinstance(model, LatentVariableModel) or is_implicit(model)):
        raise UsageError(
            f"model ({path})", expected="a model, with prior(), decode(z) and encode(x)",
            got=f"{type(model).__name__} without them",
            do="Wrap an encoder and a decoder: es.from_modules(encoder, decoder).",
        )  # fmt: skip
    return cast(Sampled, model)


def _made(path: str, init_args: Mapping[str, Any], data_shape: tuple[int, ...]) -> object:
    target = builder(path)
    if not (inspect.isclass(target) or inspect.isroutine(target)):
        return target
    arguments = {k: _argument(path, k, v) for k, v in init_args.items()}
    if "data_shape" in _parameters(target):
        arguments["data_shape"] = data_shape
    return call(f"model ({path})", target, arguments)


def _argument(path: str, name: str, value: Any) -> Any:
    """A list as a tuple; a family of posteriors or priors as an object."""
    if not (isinstance(value, Mapping) and "class_path" in value):
        return _tuples(value)
    what = f"{name} ({value['class_path']})"
    settings = {k: _tuples(v) for k, v in value["init_args"].items()}
    return call(what, family(value["class_path"], f"model ({path}).{name}"), settings)


def call_objective(path: str, kind: Any, settings: Mapping[str, Any]) -> Objective | Game:
    """Returns the objective or game of a configuration, or raises a UsageError: it is none."""
    what, settings = f"objective ({path})", {k: _tuples(v) for k, v in settings.items()}
    made = call(what, kind, settings) if callable(kind) else kind
    if not isinstance(made, Objective | Game):
        expected = "an Objective or a Game of elboscope.training"
        raise UsageError(what, expected=expected, got=type(made).__name__)
    return made


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


# The classes that a configuration may name: elboscope's own by name, any other by place.

MODELS = (
    *("mlp_vae", "conv_vae", "pixelcnn_vae"),
    *("mlp_gan", "color_mnist_gan", "dcgan"),
    *("mlp_hybrid", "color_mnist_hybrid", "dcgan_hybrid", "mlp_avb"),
)
POSTERIORS = (
    *("FullCovariance", "RealNVP", "MAF", "IAF", "Planar", "AuxiliaryRealNVP"),
    "CommittedGaussian",
)
PRIORS = ("MixturePrior", "VampPrior", "FlowPrior")
GAMES = (
    *("GANGame", "WGANGP", "AAE", "WAEGAN", "WAEMMD", "VGH", "VGHPlusPlus"),
    *("AVB", "VEEGAN", "MatchedELBO"),
)
# An objective is an option by its signature: known_objectives() finds it in elboscope.objectives.
OBJECTIVES = known_objectives() | {name: getattr(training, name) for name in GAMES}


def builder(path: str) -> Any:
    """Returns the function, class or model that a ``class_path`` names."""
    if is_reference(path):
        return import_object(path)
    name = path.removeprefix("elboscope.models.")
    if name in MODELS:
        return getattr(models, name)
    raise _unknown("model.class_path", path, MODELS)


def find_objective(path: str) -> Any:
    """Returns the class of an objective or of a game."""
    if is_reference(path):
        return import_object(path)
    name = path.removeprefix("elboscope.training.")
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    raise _unknown("objective.class_path", path, tuple(OBJECTIVES))


def _unknown(what: str, path: str, known: tuple[str, ...]) -> UsageError:
    expected = f"one of {', '.join(known)}, or package.module:name, or FILE.py:name"
    return UsageError(what, expected=expected, got=repr(path), do=did_you_mean(path, known))


def family(path: str, what: str, known: tuple[str, ...] = POSTERIORS + PRIORS) -> Any:
    """Returns the class of a family of posteriors or priors.

    Args:
        path: Its name, or its place.
        what: The argument that names it.
        known: The names that are allowed.

    Raises:
        UsageError: None of the known ones.
    """
    if is_reference(path):
        return import_object(path)
    name = path.removeprefix("elboscope.models.")
    if name in known:
        return getattr(models, name)
    raise _unknown(f"{what}.class_path", path, known)
