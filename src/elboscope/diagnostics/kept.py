"""A diagnosis under way: each quantity is on disk as soon as it is done, and is read back later.

.. code-block:: text

   unfinished/
     diagnosis.json        of what: the model's weights, the data, the budget, the seed
     NAME.safetensors      one quantity: its tensors, and its structure as JSON in the header
     room                  given up before the report is written, so that a full disk still takes it

Reading makes elboscope's own result classes, four families of torch's distributions, tensors,
numbers and texts, and nothing else: no name in a file is imported, and nothing is unpickled. What
holds a network (a fitted prior, a classifier) is not written; it is computed again, from its seed.
"""

from __future__ import annotations

__all__ = [
    "FOLDER",
    "Kept",
    "UnwritableError",
    "decode",
    "discard",
    "encode",
    "give_room",
    "kept_in",
]

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributions import (
    Independent,
    MultivariateNormal,
    Normal,
    ReshapeTransform,
    TransformedDistribution,
)

from elboscope.core import GenerativeModel, modules_of, seeded
from elboscope.core.estimate import VERSION
from elboscope.core.files import only_process, replace_file, replace_with, require_same, unwritable
from elboscope.estimators.inference.flow_family import LocalFlowPosterior, local_flow

FOLDER, ABOUT, ROOM = "unfinished", "diagnosis.json", "room"
REPORT_LOCK = ".report.lock"  # of who writes the report, held longer than that of the quantities
ROOM_BYTES = 2**24  # three times the page, findings.json and diagnosis.nc of the largest budget
# What a file that is missing, cut short or written by someone else raises: it is computed again.
DAMAGED = (
    OSError, SafetensorError, ArithmeticError, AttributeError, LookupError, RecursionError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip
# Rooms whose dataclasses and named tuples may be made from a file: results, without side effects.
ROOMS = ("elboscope.core", "elboscope.diagnostics", "elboscope.estimators")


class UnwritableError(TypeError):
    """A value that is not made of tensors, numbers, texts and result classes alone."""


@dataclass(frozen=True)
class Kept:
    """The quantities of one diagnosis that are on disk.

    Attributes:
        folder: Where; ``None`` keeps nothing.
        failures: Why something could not be written, a sentence each; the diagnosis goes on.

    Example:
        >>> import tempfile
        >>> kept = Kept(Path(tempfile.mkdtemp()))
        >>> kept.write("scores", {8: (torch.ones(2), "nats", float("inf"))})
        {8: (tensor([1., 1.]), 'nats', inf)}
        >>> kept.read("scores")
        {8: (tensor([1., 1.]), 'nats', inf)}
    """

    folder: Path | None
    failures: list[str] = field(default_factory=list)

    def read(self, name: str) -> Any:
        """Returns a value, or ``None`` if it is not there, or damaged."""
        if self.folder is None:
            return None
        try:
            with safe_open(_path(self.folder, name), framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return decode(json.loads(file.metadata()["value"]), tensors)
        except DAMAGED:
            return None

    def write(self, name: str, value: object) -> Any:
        """Writes a value and returns it as it will be read: a later sitting sees the same.

        What cannot be written is returned as it is.
        """
        if self.folder is None:
            return value
        tensors: dict[str, Tensor] = {}
        try:
            header = {"value": json.dumps(encode(value, tensors))}
            path = _path(self.folder, name)
            replace_file(path, lambda aside: save_file(tensors, aside, metadata=header))
        except UnwritableError:
            return value
        except (OSError, SafetensorError) as error:
            self.failures.append(f"{name} could not be kept: {error}")
            return value
        found = self.read(name)
        return value if found is None else found


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


@contextmanager
def kept_in(
    out: Path | None,
    model: GenerativeModel,
    asked: Mapping[str, object],
    data: Mapping[str, Tensor | None],
    *,
    resume: bool,
) -> Iterator[Kept]:
    """Opens the unfinished diagnosis in a folder, or begins one, for one process at a time.

    Args:
        out: The folder of the report; ``None`` keeps nothing.
        model: Its weights may not change between two sittings; its code is not compared.
        asked: Nor may this: budget, seed.
        data: Nor these, by name.
        resume: Go on with what is there; otherwise it is removed.

    Raises:
        InputError: The folder cannot be written, has no room for a report, or holds the unfinished
            diagnosis of something else.
    """
    if out is None:
        yield Kept(None)
        return
    folder, identity = out / FOLDER, _identity(model, asked, data)
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_process(folder))
            _begin(folder, identity, resume)
        except OSError as error:
            room = f"a folder that can be written, with {2 * ROOM_BYTES // 2**20} MB of room"
            raise unwritable(out, error, room, "Choose another folder.") from error
        yield Kept(folder)


def _begin(folder: Path, identity: Mapping[str, object], resume: bool) -> None:
    if resume and (folder / ABOUT).is_file():
        _require_same(folder / ABOUT, identity)
    else:
        _empty(folder)
    replace_with(folder / ABOUT, json.dumps(identity, indent=1))
    _set_aside(folder / ROOM)


def give_room(out: Path) -> None:
    """Frees the space that was set aside for the report in its folder."""
    (out / FOLDER / ROOM).unlink(missing_ok=True)


def discard(out: Path) -> None:
    """Removes what was kept in a folder, once the report is written."""
    folder = out / FOLDER
    if folder.is_dir():
        _empty(folder)
        for name in (".lock", REPORT_LOCK):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # other files are in it
            folder.rmdir()


def _empty(folder: Path) -> None:
    for name in (ABOUT, ROOM):  # the first, so that a kill leaves nothing to go on with
        (folder / name).unlink(missing_ok=True)
    for path in (*folder.glob("*.safetensors"), *folder.glob(".*.part")):
        path.unlink(missing_ok=True)


def _set_aside(path: Path) -> None:
    try:
        with path.open("wb") as file:
            file.write(os.urandom(ROOM_BYTES))  # zeros may take no room
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _require_same(path: Path, identity: Mapping[str, object]) -> None:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        saved = None
    if not isinstance(saved, dict):
        saved = {}
    begun = f"the diagnosis in {path.parent}"
    do = "Resume with the same model, data and options, or begin again without resume."
    require_same(saved, identity, begun, do)


def _identity(
    model: GenerativeModel, asked: Mapping[str, object], data: Mapping[str, Tensor | None]
) -> dict[str, object]:
    """What must not change between two sittings, in words and checksums."""
    versions = {"elboscope": VERSION, "torch": torch.__version__}
    known = {name: "none" if t is None else _checksum([t]) for name, t in data.items()}
    return {"model": _checksum(_told_by(model)), **known, **asked, **versions}


def _told_by(model: GenerativeModel) -> list[Tensor]:
    """The weights, or some draws of a model that keeps its numbers elsewhere."""
    weights = [t for m in modules_of(model) for t in (*m.parameters(), *m.buffers())]
    if weights:
        return weights
    with seeded(0):
        z = model.prior().sample(torch.Size((4,)))
        return [z, model.decode(z).sample()]


def _checksum(tensors: list[Tensor]) -> str:
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(f"{tuple(t.shape)} {t.dtype} {t.device.type}".encode())
        digest.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


# The structure of a value as JSON; tensors are put beside it, by number.


def encode(value: object, tensors: dict[str, Tensor]) -> object:
    """Returns a value as JSON can hold it.

    Args:
        value: The value.
        tensors: Takes its tensors.

    Raises:
        UnwritableError: Something in it is neither data nor a result class.
    """

    def all_of(values: Any) -> list[object]:
        return [encode(v, tensors) for v in values]

    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor():
            key = str(len(tensors))
            tensors[key] = value.detach().cpu().contiguous().clone()
            return {"tensor": key, "on": str(value.device)}
        case Normal() | MultivariateNormal() | Independent() | TransformedDistribution():
            return _distribution(value, tensors)
        case LocalFlowPosterior() if not value.family.like_encoder:
            return {"flow": all_of([tuple(value.family.latent_shape), value.parameters])}
        case Mapping():
            return {"mapping": [all_of(pair) for pair in value.items()]}
        case list():
            return {"list": all_of(value)}
        case tuple() if not hasattr(value, "_fields"):
            return {"tuple": all_of(value)}
    return _result(value, tensors)


def _distribution(q: object, tensors: dict[str, Tensor]) -> object:
    match q:
        case Independent():
            return {"independent": encode((q.base_dist, q.reinterpreted_batch_ndims), tensors)}
        case Normal() if type(q) is Normal:
            return {"normal": encode((q.loc, q.scale), tensors)}
        case MultivariateNormal() if type(q) is MultivariateNormal:
            return {"multivariate": encode((q.loc, q.scale_tril), tensors)}
        case TransformedDistribution(transforms=[ReshapeTransform() as t]) if type(q) is (
            TransformedDistribution
        ):
            shapes = tuple(t.in_shape), tuple(t.out_shape)
            return {"reshaped": encode((q.base_dist, *shapes), tensors)}
    raise UnwritableError(type(q).__name__)


def _result(value: object, tensors: dict[str, Tensor]) -> object:
    kind = type(value)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if _result_class(name) is not kind:
        raise UnwritableError(name)
    parts = {key: encode(getattr(value, key), tensors) for key in _fields_of(kind)}
    return {"result": name, "fields": parts}


def _fields_of(kind: Any) -> list[str]:
    names = [f.name for f in fields(kind) if f.init] if is_dataclass(kind) else kind._fields
    return list(names)


def _result_class(name: str) -> Any:
    """Returns one of elboscope's dataclasses or named tuples, or None; nothing is imported."""
    module, _, qualname = name.partition(":")
    if not module.startswith(tuple(f"{room}." for room in ROOMS)):
        return None
    found = getattr(sys.modules.get(module), qualname, None)
    own = isinstance(found, type) and found.__module__ == module
    return found if own and (is_dataclass(found) or hasattr(found, "_fields")) else None


def decode(found: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Returns the value of :func:`encode`.

    Args:
        found: What JSON held.
        tensors: The tensors beside it.

    Raises:
        ValueError: It is not of that form, or names another class.
    """
    if not isinstance(found, dict):
        return found

    def all_of(values: Any) -> list[Any]:
        return [decode(v, tensors) for v in values]

    match found:
        case {"tensor": key, "on": device}:
            return tensors[key].to(device)
        case {"mapping": pairs}:
            return {decode(k, tensors): decode(v, tensors) for k, v in pairs}
        case {"list": values}:
            return all_of(values)
        case {"tuple": values}:
            return tuple(all_of(values))
        case {"result": str(name), "fields": dict(parts)} if kind := _result_class(name):
            return kind(**{key: decode(part, tensors) for key, part in parts.items()})
        case {"independent": {"tuple": [base, n]}}:
            return Independent(decode(base, tensors), n, validate_args=False)
        case {"normal": {"tuple": [loc, scale]}}:
            loc, scale = all_of([loc, scale])
            return Normal(loc, scale, validate_args=False)
        case {"multivariate": {"tuple": [loc, scale]}}:
            loc, scale = all_of([loc, scale])
            return MultivariateNormal(loc, scale_tril=scale, validate_args=False)
        case {"reshaped": {"tuple": [base, *shapes]}}:
            before, after = map(torch.Size, all_of(shapes))
            reshape = ReshapeTransform(before, after)
            return TransformedDistribution(decode(base, tensors), [reshape], validate_args=False)
        case {"flow": [shape, parameters]}:
            shape, parameters = all_of([shape, parameters])
            return LocalFlowPosterior(local_flow(shape, parameters[0]), parameters)
    raise ValueError(f"{list(found)[:3]} is nothing that is kept")
