"""CSV files whose cells, or names of columns, have line breaks within quotes."""

import numpy as np
import pytest

from bmrl.data.suggest import suggest
from bmrl.errors import BmrlError
from tests.data.logs import csv, run

MAPPING = """
observations = ["temp (C)"]
actions = "a"
rewards = "r"
outcome_of = "this action"
terminations = "none"
"""
HEADER = '"temp\n(C)",note,a,r\n'


def test_rows_beyond_one_piece_of_the_file(tmp_path):
    """Wherever Arrow's pieces end, in a note or not, every row is one."""
    rows = 100_000
    csv(tmp_path, HEADER + "".join(f'{i},"x\ny {"z" * (i % 7)}",0.5,1.5\n' for i in range(rows)))
    _, (batch,) = run(tmp_path, MAPPING)
    np.testing.assert_array_equal(batch.observations[:, 0], np.arange(rows))


def test_the_line_of_a_mistake(tmp_path):
    csv(tmp_path, HEADER + "".join(f'{i},"x\ny",0.5,{"bad" if i == 4 else 1.5}\n\n' for i in range(6)))
    with pytest.raises(BmrlError, match=r"log.csv, line 15, column 'r': no number"):
        run(tmp_path, MAPPING)


def test_the_draft_knows_the_names(tmp_path):
    csv(tmp_path, HEADER + '1,"x\ny",0.5,1.5\n' * 3)
    assert 'observations = ["temp (C)"' in suggest(str(tmp_path / "log.csv"))


def test_a_quote_that_is_not_closed(tmp_path):
    """The rest of the file would be one cell: refused, not lost."""
    csv(tmp_path, 'temp (C),note,a,r\n1,x,0.5,1.5\n2,"x,0.5,1.5\n3,x,0.5,1.5\n')
    with pytest.raises(BmrlError, match=r"log.csv"):
        run(tmp_path, MAPPING)
