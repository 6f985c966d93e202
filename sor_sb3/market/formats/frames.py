"""Tables in memory (polars, pandas, Arrow) as files, since a market names its recording by its path."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sor_sb3.errors import UserError
from sor_sb3.files import write_bytes


def frame_file(frame: Any) -> Path:
    """The Parquet file of a table in memory, named by its content; written if it is not there.

    The table speaks Arrow's stream protocol (``__arrow_c_stream__``), as those of polars, pandas and Arrow do.

    It lies in ``sor_sb3/frames`` of the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``) and stays there, as
    runs read it again.

    Raises:
        UserError: the table cannot be written as Parquet.
    """
    table = pa.table(frame)
    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    table = table.cast(pa.schema([(field.name, views.get(field.type, field.type)) for field in table.schema]))
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(table, sink, compression="zstd")
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the DataFrame cannot be written as Parquet ({reason}); give columns of plain types"
        ) from error
    content = sink.getvalue().to_pybytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "sor_sb3" / "frames" / f"frame_{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    if not path.exists():
        write_bytes(path, content)
    return path
