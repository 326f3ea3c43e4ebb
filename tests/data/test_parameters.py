"""Parameters of MDPs from a table beside the mapping."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bmrl.errors import BmrlError
from tests.data.logs import PLAIN, run

LOGS = "s;a;r;house\n1,5;0,5;1;north\n2;0;1;north\n3;0,5;1;south\n4;0;1;south\n"
HOUSES = "house,area,u_wall,u_roof,city\nsouth,80.5,0.5,0.25,Graz\nnorth,120,1,0.75,Wien\nwest,1,1,1,Linz\n"
MAPPING = (
    PLAIN
    + 'separator = ";"\ndecimal = ","\nmdp = "house"\n'
    + 'parameters = {file = "tables/houses.csv", mdp = "house", columns = ["area", "u_*"]}'
)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "logs.csv").write_text(LOGS)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/houses.csv").write_text(HOUSES)
    return tmp_path


def test_every_mdp_has_those_of_its_row(place):
    imported, batches = run(place, MAPPING, "logs.csv")
    assert list(imported.mdps) == ["north", "south"]
    assert [batch.manifest["mdp"] for batch in batches] == [
        {"area": 120.0, "u_wall": 1.0, "u_roof": 0.75},
        {"area": 80.5, "u_wall": 0.5, "u_roof": 0.25},
    ]


@pytest.mark.parametrize(
    ("houses", "mapping", "says"),
    [
        (HOUSES.replace("north", "nord"), MAPPING, r"line 10 \(parameters\): tables/houses.csv has no row of 'north'"),
        (HOUSES.replace("80.5", ""), MAPPING, r"houses.csv, line 2: 'area' is not one finite value"),
        (HOUSES.replace("south", ""), MAPPING, r"houses.csv, line 2: 'house' is not one finite value"),
        (HOUSES.replace("west", "south"), MAPPING, r"houses.csv, line 4: a second row of 'south'"),
        (HOUSES, MAPPING.replace('"u_*"', '"city"'), r"houses.csv, line 2, column 'city': no number"),
        (HOUSES, MAPPING.replace('"u_*"', '"v_*"'), r"\(parameters\): .*houses.csv has no column 'v_\*'; it has area"),
        (HOUSES, MAPPING.replace('"house", columns', '"home", columns'), r"no column 'home'; did you mean 'house'"),
        (HOUSES, MAPPING.replace("houses.csv", "homes.csv"), r"homes.csv: there is no such file"),
        (HOUSES, MAPPING.replace(', columns = ["area", "u_*"]', ""), r"line 10 \(parameters\): a table, as {file = "),
        (HOUSES, MAPPING.replace('["area", "u_*"]', '"area"'), r"line 10 \(parameters\): a table, as {file = "),
    ],
)
def test_what_does_not_fit_is_named(place, houses, mapping, says):
    (place / "tables/houses.csv").write_text(houses)
    with pytest.raises(BmrlError, match=says):
        run(place, mapping, "logs.csv")
    assert not (place / "batches").exists()


def test_a_column_of_lists_is_no_parameter(place):
    table = {"house": ["north", "south"], "area": [[1.0, 2.0], [3.0, 4.0]]}
    pq.write_table(pa.table(table), place / "tables/houses.parquet")
    mapping = MAPPING.replace("houses.csv", "houses.parquet").replace(', "u_*"', "")
    with pytest.raises(BmrlError, match=r"houses.parquet, row 0: 'area' is not one finite value"):
        run(place, mapping, "logs.csv")
