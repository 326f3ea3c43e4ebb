"""Tables of the pages."""

from bmrl.reproduce.markdown import table


def test_a_table_has_its_head_rules_and_lines():
    assert (
        table(("seed", "return"), [("0", "−5"), ("1", "−7")]) == "| seed | return |\n|---|---|\n| 0 | −5 |\n| 1 | −7 |"
    )


def test_numbers_are_aligned_to_the_right_of_their_names():
    assert table(("method", "A", "B"), [], right=True) == "| method | A | B |\n|---|---:|---:|"
