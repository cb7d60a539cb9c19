from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from lit_invert.errors import ParameterTableError
from lit_invert.parameters import ParameterSpace, load_parameter_table, parse_parameter_table
from lit_invert.transforms import LogTransform, ScaledTransform, Scaler, SigmoidTransform, SoftplusTransform

TABLES = files("lit_invert") / "assets" / "parameters"
HEADER = "name,unit,description,prior,prior_sd,min,max,scale,fixed"


def parse(*rows, header=HEADER):
    return parse_parameter_table([header, *rows], "table.csv")


def space_of(table, transform=ScaledTransform, log=None):
    count = len(table)
    log = torch.zeros(count, dtype=torch.bool) if log is None else log
    scaler = Scaler(torch.full((count,), 0.4, dtype=torch.float64), torch.full((count,), 0.2, dtype=torch.float64), log)
    return ParameterSpace(table, transform(scaler, table.bounds))


def test_visit_table_as_published():
    table = load_parameter_table(TABLES / "visit_lhp_36.csv")
    assert len(table) == 36
    assert table.names[:2] == ("tree_alloc_ass", "tree_alloc_abg")
    assert table.names[-1] == "soil_f_co2_lr"
    assert {table.names[i]: table.names[table.bounds.upper_from[i]] for i in table.bounds.dependent} == {
        "tree_alloc_ass": "tree_alloc_abg",
        "c3_alloc_ass": "c3_alloc_abg",
    }
    lue = table.index("tree_lue")
    assert (table.bounds.lower[lue].item(), table.prior[lue].item(), table.bounds.upper[lue].item()) == (0.02, 0.052, 0.08)
    assert table.prior_sd[lue].item() == pytest.approx(0.015, abs=1e-15)
    # No default is published for the leaf allocation: the middle between 0.01 and the aboveground one.
    assert table.prior[table.index("tree_alloc_ass")].item() == pytest.approx((0.01 + 0.55) / 2, abs=1e-15)
    assert table.prior[table.index("c3_alloc_ass")].item() == pytest.approx((0.01 + 0.5) / 2, abs=1e-15)


@pytest.mark.parametrize("name", ["visit_lhp_36.csv", "simcycle_36.csv"])
def test_priors_of_shipped_tables_are_inside_their_bounds(name):
    table = load_parameter_table(TABLES / name)
    lower, upper = table.bounds.resolve(table.prior)
    assert bool(((lower <= table.prior) & (table.prior <= upper)).all())
    assert bool((lower < upper).all())
    assert bool((table.prior_sd > 0).all())


def test_empty_cells_are_filled_in_the_parameters_scale():
    table = parse("a,,,,,1,9,lin,", "b,,,,,1,16,log,", "c,,,2,,1,16,log,")
    assert table.prior.tolist() == [5.0, 4.0, 2.0]
    quarter = math.log(16) / 4  # of the range of log x; to first order sd(x) = x sd(log x)
    assert table.prior_sd.tolist() == pytest.approx([2.0, 4 * quarter, 2 * quarter], rel=1e-15)
    assert table.log.tolist() == [False, True, True]
    assert table.fixed.tolist() == [False, False, False]


def test_an_empty_prior_waits_for_the_prior_that_bounds_it():
    table = parse("low,,,,,0,middle,,", "middle,,,,,0,high,,", "high,,,0.8,,0.1,0.9,,")
    assert table.prior.tolist() == [0.2, 0.4, 0.8]


def test_synonyms_byte_order_mark_and_notes(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("\ufeffname,default,sd,min,max,meaning,source\na,2,0.5,1,3,a rate,a book\n", encoding="utf-8")
    table = load_parameter_table(path)
    assert (table.prior.item(), table.prior_sd.item(), table.descriptions) == (2.0, 0.5, ("a rate",))


def test_one_row_is_a_table():
    assert len(parse("a,,,2,,1,3,,")) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has a header but no row"),
        ([",,,2,,1,3,,"], "row 2: `name` is empty"),
        (["a,,,2,,1,3,,", "a,,,2,,1,3,,"], r"row 2, column 'name' \(a\): stands in 2 rows"),
        (["a,,,two,,1,3,,"], r"row 2, column 'prior' \(a\): expected a number, found 'two'"),
        (["a,,,inf,,1,3,,"], r"column 'prior' \(a\): expected a finite number, found 'inf'"),
        (["a,,,9,,1,3,,"], r"column 'prior' \(a\): 9\.0 is outside its bounds \[1\.0, 3\.0\]"),
        (["a,,,2,,3,1,,"], r"column 'min' \(a\): is 3\.0, expected less than max = 1\.0"),
        (["a,,,2,,2,2,,"], r"column 'min' \(a\): is 2\.0, expected less than max = 2\.0"),
        (["a,,,2,,1,,,"], r"column 'max' \(a\): is empty; expected a number or the name"),
        (["a,,,2,,1,nan,,"], r"column 'max' \(a\): expected a finite number, found 'nan'"),
        (["leaf,,,2,,1,wod,,", "wood,,,2,,1,3,,"], r"column 'max' \(leaf\): .*found 'wod'\. Did you mean 'wood'\?"),
        (["a,,,2,,1,a,,"], r"column 'max' \(a\): expected a number or the name of another parameter, found 'a'"),
        (["a,,,2,0,1,3,,"], r"column 'prior_sd' \(a\): expected a positive number, found 0\.0"),
        (["a,,,2,,0,3,log,"], r"column 'scale' \(a\): is 'log' but min = 0\.0"),
        (["a,,,2,,1,3,cubic,"], r"column 'scale' \(a\): expected one of lin, log, found 'cubic'"),
        (["a,,,2,,1,3,,maybe"], r"column 'fixed' \(a\): expected one of true, false, found 'maybe'"),
        (["a,,,2,,0,b,,", "b,,,2,,a,3,,"], r"table\.csv: bounds of static parameters number 1, 2 name each other in a circle"),
        (["a,,,0.6,,0.5,b,,", "b,,,0.8,,0.1,0.9,,"], r"column 'max' \(a\): min can be as high as 0\.5 and max as low as 0\.1"),
        (["a,,,0.6,,b,0.8,,", "b,,,0.5,,0.1,0.9,,"], r"column 'min' \(a\): min can be as high as 0\.9 and max as low as 0\.8"),
        (["a,,,0.2,,0,b,,true", "b,,,0.5,,0.1,0.9,,"], r"column 'max' \(a\): names the free 'b' though this one is fixed"),
        (["a,,rate, of leaves,2,,1,3,,"], "row 2: has 10 cells, the header has 9. Quote a text that contains a comma"),
    ],
)
def test_a_malformed_row_is_one_line_with_its_place(rows, message):
    with pytest.raises(ParameterTableError, match=message) as caught:
        parse(*rows)
    assert str(caught.value).startswith("table.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("name,min", r"column 'max' is missing; found: name, min\. Expected at least name, min, max"),
        ("", "column 'name' is missing; found: nothing"),
        ("name;min;max", "column 'name' is missing; found: name;min;max"),
        ("name,min,max,prior,default", "column 'prior' stands twice in the header"),
    ],
)
def test_a_malformed_header(header, message):
    with pytest.raises(ParameterTableError, match=message):
        parse("a,1,3", header=header)


def test_a_table_that_cannot_be_read(tmp_path):
    with pytest.raises(ParameterTableError, match=r"none\.csv: parameter table not found"):
        load_parameter_table(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("name,min,max\nä,1,2\n".encode("latin-1"))
    with pytest.raises(ParameterTableError, match=r"latin\.csv: cannot be read as UTF-8"):
        load_parameter_table(tmp_path / "latin.csv")


def test_order_of_the_surrogate():
    table = parse("a,m,,0.3,0.1,0,b,,", "b,s,,0.5,0.2,0.1,0.9,log,", "c,,,2,0.3,b,3,,", "d,,,7,0.4,1,9,,true")
    ordered = table.ordered_as(["d", "c", "b", "a"], "table.csv")
    assert ordered.names == ("d", "c", "b", "a")
    assert ordered.units == ("", "", "s", "m")
    assert ordered.prior.tolist() == [7.0, 2.0, 0.5, 0.3]
    assert ordered.prior_sd.tolist() == [0.4, 0.3, 0.2, 0.1]
    assert (ordered.log.tolist(), ordered.fixed.tolist()) == ([False, False, True, False], [True, False, False, False])
    values = torch.tensor([20.0, 2.0, 0.6, 0.8], dtype=torch.float64)
    assert ordered.bounds.clip(values).tolist() == table.bounds.clip(values.flip(0)).flip(0).tolist() == [9.0, 2.0, 0.6, 0.6]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pmax", "lue", "ek"], r"has 2 static parameters, the surrogate expects 3\. Missing: ek\."),
        (["pmax"], r"Unknown to the surrogate: lue\."),
        (["pmax", "lue_"], r"Missing: lue_\. Unknown to the surrogate: lue\. Did you mean 'lue_'\?"),
    ],
)
def test_rows_that_the_surrogate_does_not_take(names, message):
    table = parse("pmax,,,12,,5,30,,", "lue,,,0.05,,0.02,0.08,,")
    with pytest.raises(ParameterTableError, match=message):
        table.ordered_as(names, "table.csv")


def test_index_names_the_nearest():
    table = parse("pmax,,,12,,5,30,,")
    assert table.index("pmax") == 0
    with pytest.raises(ParameterTableError, match=r"'pmx' is not in the table\. Did you mean 'pmax'"):
        table.index("pmx")


@pytest.mark.parametrize("transform", [ScaledTransform, SigmoidTransform, SoftplusTransform, LogTransform])
def test_fixed_parameters_keep_their_prior_whatever_theta_says(transform):
    table = parse("free,,,0.3,,0.1,abg,,", "abg,,,0.55,,0.2,0.9,,true", "log,,,0.4,,0.1,0.9,log,true")
    space = space_of(table, transform, torch.tensor([False, False, True]))
    theta = torch.tensor([[0.3, -2.0, 4.0], [0.3, 5.0, -4.0]], dtype=torch.float64, requires_grad=True)
    physical = space.to_physical(theta)
    assert physical[:, 1:].tolist() == [[0.55, 0.4]] * 2
    assert physical[0, 0] == physical[1, 0]  # though `free` is bounded by a fixed parameter whose theta differs
    (gradient,) = torch.autograd.grad(physical.sum(), theta)
    assert bool((gradient[:, 0] > 0).all())
    assert gradient[:, 1:].tolist() == [[0.0, 0.0]] * 2


def test_prior_spread_in_the_surrogates_space():
    table = parse("a,,,0.5,0.1,0.1,0.9,,", "b,,,0.5,0.1,0.1,0.9,,")
    space = space_of(table, log=torch.tensor([False, True]))
    # (x - 0.4) / 0.2 has sd 0.1 / 0.2; log x has sd 0.1 / 0.5 to first order, scaled by 0.2
    assert space.prior_sd_scaled.tolist() == pytest.approx([0.5, 1.0], rel=1e-15)


def test_projection_leaves_what_is_inside_to_the_last_bit():
    table = parse("a,,,0.3,,0.1,b,,", "b,,,0.5,,0.2,0.9,,", "c,,,0.4,,0.1,0.9,log,")
    space = space_of(table, log=torch.tensor([False, False, True]))
    torch.manual_seed(0)
    theta = torch.randn(50, 3, dtype=torch.float64) * 3
    projected, clipped = space.project(theta)
    assert torch.equal(projected[~clipped], theta[~clipped])
    assert bool(clipped.any())
    assert not bool(clipped.all())
    physical = space.to_physical(projected)
    lower, upper = space.bounds.resolve(physical)
    assert bool((physical >= lower - 1e-15).all())
    assert bool((physical <= upper + 1e-15).all())
    torch.testing.assert_close(space.to_physical(space.project(projected)[0]), physical, rtol=0, atol=1e-15)


def test_space_follows_the_precision_of_its_scaler():
    table = parse("a,,,0.3,,0.1,0.9,,")
    single = ParameterSpace(table, ScaledTransform(Scaler(torch.tensor([0.4]), torch.tensor([0.2])), table.bounds))
    assert single.prior.dtype == single.prior_sd_scaled.dtype == torch.float32
    assert single.double().prior.dtype == torch.float64


def test_the_example_of_the_documentation_is_a_table():
    text = (Path(__file__).parents[1] / "docs" / "parameters.md").read_text(encoding="utf-8")
    table = parse_parameter_table(text.split("```csv\n")[1].split("```")[0].splitlines(), "docs")
    assert table.names == ("leaf", "wood", "turnover")
    assert table.prior.tolist() == pytest.approx([0.28, 0.55, 0.002])
    assert table.bounds.clip(torch.tensor([0.8, 0.3, 1.0], dtype=torch.float64)).tolist() == [0.3, 0.3, 0.01]


def test_members_have_priors_of_their_own_and_keep_fixed_ones():
    table = parse("a,u,2,1,9,lin,true", "b,u,3,1,9,lin,false", header="name,unit,prior,min,max,scale,fixed")
    scaler = Scaler(torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64), torch.tensor([False, True]))
    transform = SigmoidTransform(scaler, table.bounds)
    priors = torch.stack([table.prior, table.prior * torch.tensor([1.1, 1.2], dtype=torch.float64)])
    space = ParameterSpace(table, transform, priors)
    physical = space.to_physical(torch.zeros(2, 2, dtype=torch.float64))
    torch.testing.assert_close(physical[:, 0], priors[:, 0])
    second = space.rows(torch.tensor([1]))
    torch.testing.assert_close(second.to_physical(torch.zeros(1, 2, dtype=torch.float64)), physical[1:])
    torch.testing.assert_close(
        second.push(torch.zeros(1, 2, dtype=torch.float64)).physical,
        space.push(torch.zeros(2, 2, dtype=torch.float64)).physical[1:],
    )
    alone = ParameterSpace(table.with_prior(priors[1]), transform)
    torch.testing.assert_close(alone.prior_sd_scaled, space.prior_sd_scaled[1])


def test_a_log_scaled_priors_sd_keeps_its_ratio():
    table = parse_parameter_table(["name,prior,prior_sd,min,max,scale", "a,2,0.5,0.1,9,log", "b,2,0.5,0.1,9,lin"])
    assert table.with_prior(torch.tensor([4.0, 4.0], dtype=torch.float64)).prior_sd.tolist() == [1.0, 0.5]
