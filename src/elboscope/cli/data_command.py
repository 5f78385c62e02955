"""``elboscope data``: what is available, where from, and whether the checksums hold."""

from __future__ import annotations

__all__ = ["run"]

from rich.console import Console
from rich.table import Table
from rich.text import Text

from elboscope.data import available, data_directory
from elboscope.data.availability import Availability

from .parser import Arguments

CHECKSUM = {True: "ok", False: "wrong", None: "—"}


def run(arguments: Arguments) -> int:
    """Prints one row a data set."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "shape", "train", "test", "checksum", "where"):
        table.add_column(name, overflow="fold", no_wrap=name != "where")
    for row in available(arguments.data_dir):
        table.add_row(*_cells(row))
    console = Console()
    console.print(table)
    console.print(Text(f"Data directory: {data_directory(arguments.data_dir)}"))
    console.print(Text("Your own: a .npy or .npz file, or a folder of images."))
    return 0


def _cells(row: Availability) -> list[Text]:
    shape = "×".join(map(str, row.shape))
    where = row.problem or row.where
    cells = (row.name, shape, row.num_train, row.num_test, CHECKSUM[row.checksum_ok], where)
    return [Text(str(cell)) for cell in cells]
