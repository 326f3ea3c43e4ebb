"""The MDPs' parameters, from a table with a row for each of them."""

import contextlib

import numpy as np

from bmrl.data.mapping import NONE, Mapping
from bmrl.data.sources import find_sources, open_reader


def read_parameters(mapping: Mapping) -> dict[str, dict[str, float]]:
    """{MDP's name: {column: its value}}, as ``parameters`` of the mapping says; empty where it says nothing.

    The table is read as CSV with commas, or as Parquet, whatever the logs are. Raises ``BmrlError``, naming the
    table's row or the mapping's line, where it cannot be read, a column or a value is missing, or an MDP has two rows.
    """
    if mapping.parameters is None:
        return {}
    file, name, columns = mapping.parameters
    plain = Mapping(mapping.path, {}, mapping.said, (), (), NONE)
    (source,) = find_sources([mapping.path.parent / file])
    if source.format not in ("csv", "parquet"):
        raise mapping.error("parameters", f"{source.path} is no table: save it as CSV or Parquet")
    found: dict[str, dict[str, float]] = {}
    with contextlib.closing(open_reader(source, plain)) as reader:
        mapping.pick("parameters", name, reader.names, str(source.path))
        others = [each for each in reader.names if each != name]
        picks = [p.name for spec in columns for p in mapping.pick("parameters", spec, others, str(source.path))]
        for chunk in reader.chunks({**dict.fromkeys(picks, "number"), name: "key"}):
            codes, names = chunk.columns[name]
            for row in range(chunk.size):
                where, mdp = reader.where(chunk.first + row), names[codes[row]] if codes[row] >= 0 else ""
                values = {pick: chunk.columns[pick][row] for pick in picks}
                odd = [pick for pick, value in values.items() if np.ndim(value) or not np.isfinite(value)]
                if not mdp or odd:
                    raise mapping.error("parameters", f"{where}: {(odd or [name])[0]!r} is not one finite value")
                if mdp in found:
                    raise mapping.error("parameters", f"{where}: a second row of {mdp!r}")
                found[mdp] = {pick: float(value) for pick, value in values.items()}
    return found
