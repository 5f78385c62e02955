"""Small official sets, made here, and a place that offers them for download."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from elboscope.data.official import OfficialFile, OfficialSet


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def cifar_bytes(images: np.ndarray, labels: np.ndarray) -> bytes:
    rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], 1)
    return rows.astype(np.uint8).tobytes()


def tar_bytes(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def official_file(data: bytes) -> OfficialFile:
    return OfficialFile(len(data), hashlib.sha256(data).hexdigest())


def small_set(files: dict[str, bytes], mirrors: tuple[str, ...], archive: str | None = None):
    return OfficialSet(
        name="small",
        shape=(1, 2, 3),
        num_train=4,
        num_test=2,
        folders=("Small/raw", "small", ""),
        files={name: official_file(data) for name, data in files.items()},
        mirrors=mirrors,
        megabytes=1,
        archive=archive,
        pickled="small-py",
    )


@pytest.fixture
def contents() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {
        "a-images": idx_bytes(rng.integers(0, 256, (4, 2, 3))),
        "a-labels": idx_bytes(rng.integers(0, 10, (4,))),
    }


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a folder over HTTP on this machine and returns its address."""
    servers = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def mirror(tmp_path: Path, contents: dict[str, bytes], serve: Callable[[Path], str]) -> str:
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name, data in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    (folder / "small.tar.gz").write_bytes(tar_bytes(contents))
    return serve(folder)


@pytest.fixture(scope="session")
def full_data() -> Path:
    """The folder with the full sets, for tests marked ``full_data``."""
    return Path(os.environ["ELBOSCOPE_DATA"])
