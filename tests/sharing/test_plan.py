"""Who shares what, against plain loops over sites."""

from __future__ import annotations

import pytest
import torch

from lit_invert.errors import ConfigError, ShapeError
from lit_invert.parameters import parse_parameter_table
from lit_invert.sharing import SharingSettings, plan_sharing
from lit_invert.testing import toy_table
from tests.sharing.towers import plan_of

KINDS = ["group", "site", "global", "group", "hierarchical"]
GROUPS = ["oak", "pine", "oak", "fir"]
#: By hand: one value of s3, then fir, oak and pine of s1, then of s4.
INDEX = {2: [0, 0, 0, 0], 0: [2, 3, 2, 1], 3: [5, 6, 5, 4]}


@pytest.fixture
def plan():
    return plan_of(KINDS, GROUPS)


def test_the_shared_vector_has_global_values_first_and_then_those_of_groups(plan):
    assert plan.labels == ("s3", "s1[fir]", "s1[oak]", "s1[pine]", "s4[fir]", "s4[oak]", "s4[pine]")
    assert plan.size == 7
    assert [plan.names[place] for place in plan.component.tolist()] == ["s3", "s1", "s1", "s1", "s4", "s4", "s4"]
    assert plan.counts.tolist() == [4, 1, 2, 1, 1, 2, 1]
    assert plan.hierarchical.tolist() == [4]
    assert plan.is_shared.tolist() == [True, False, True, True, False]


def test_spreading_gives_each_site_its_value(plan):
    gamma, local = torch.arange(7.0) + 10, torch.rand(4, 5)
    theta = plan.spread(gamma, local)
    for site in range(4):
        for place in range(5):
            expected = gamma[INDEX[place][site]] if place in INDEX else local[site, place]
            assert theta[site, place] == expected


def test_gathering_sums_over_the_sites_that_share(plan):
    gradient, curvature = torch.rand(4, 5).double(), torch.rand(4, 5, 5).double()
    vector, matrix = torch.zeros(7).double(), torch.zeros(7, 7).double()
    for site in range(4):
        for i, of_i in INDEX.items():
            vector[of_i[site]] += gradient[site, i]
            for j, of_j in INDEX.items():
                matrix[of_i[site], of_j[site]] += curvature[site, i, j]
    torch.testing.assert_close(plan.gather(gradient), vector)
    torch.testing.assert_close(plan.gather_matrix(curvature), matrix)


def test_the_average_of_what_was_spread_is_what_it_was(plan):
    gamma = torch.rand(7).double()
    torch.testing.assert_close(plan.average(plan.spread(gamma, torch.zeros(4, 5).double())), gamma)


def test_rows_still_share_with_those_that_are_elsewhere_and_a_site_that_is_gone_does_not(plan):
    assert plan.rows(torch.tensor([0])).counts.tolist() == plan.counts.tolist()
    assert plan.without(0).counts.tolist() == [3, 1, 1, 1, 1, 1, 1]
    assert plan.without(0).group.tolist() == plan.group[1:].tolist()
    assert plan.shared_by.tolist() == [[2, 1, 4, 2, 1], [1, 1, 4, 1, 1], [2, 1, 4, 2, 1], [1, 1, 4, 1, 1]]


def test_a_site_of_a_known_group_gets_its_values(plan):
    values = plan.values_for(torch.arange(7.0), "pine", torch.full((5,), -1.0))
    assert values.tolist() == [3.0, -1.0, 0.0, 6.0, -1.0]


def test_a_group_without_a_site_has_no_values(plan):
    with pytest.raises(ConfigError, match=r"no site of group 'oka' was fitted.* Did you mean 'oak'"):
        plan.values_for(torch.arange(7.0), "oka", torch.zeros(5))
    only_global = plan_of(["global", "site"], ["oak"])
    assert only_global.values_for(torch.tensor([5.0]), "elm", torch.zeros(2)).tolist() == [5.0, 0.0]


def test_a_fixed_parameter_is_not_shared():
    rows = ["name,prior,min,max,fixed", "s1,1,0,2,true", "s2,1,0,2,false"]
    plan = plan_sharing(parse_parameter_table(rows), SharingSettings("global"), ["a", "b"])
    assert plan.kinds == ("site", "global")
    assert plan.labels == ("s2",)


@pytest.mark.parametrize(
    ("settings", "groups", "error", "message"),
    [
        ({"parameters": {"s9": "global"}}, ["a"], ConfigError, "'s9' is not a static parameter. Known: s1, s2, s3"),
        ({}, [], ShapeError, "one or more sites, found none"),
    ],
)
def test_what_cannot_be_planned_is_refused(settings, groups, error, message):
    with pytest.raises(error, match=message):
        plan_sharing(toy_table(), SharingSettings(**settings), groups)


def test_words_are_checked():
    with pytest.raises(ConfigError, match=r"`sharing.parameters.s1` is 'globl'. Did you mean 'global'\?"):
        SharingSettings(parameters={"s1": "globl"})
    with pytest.raises(ConfigError, match=r"`sharing.default` is 'sites'"):
        SharingSettings(default="sites")


def test_sites_are_tied_together_by_anything_but_site():
    assert not SharingSettings(parameters={"s1": "site"}).shares
    assert SharingSettings(parameters={"s1": "global"}).shares


def test_a_bound_must_be_shared_as_widely_as_what_it_bounds():
    table = parse_parameter_table(["name,prior,min,max", "leaf,0.2,0.01,wood", "wood,0.5,0.1,0.9"])
    with pytest.raises(ConfigError, match=r"'leaf' is global, but its bound 'wood' is group. Share the bound as widely"):
        plan_sharing(table, SharingSettings(parameters={"leaf": "global", "wood": "group"}), ["a"])
    assert plan_sharing(table, SharingSettings(parameters={"wood": "group"}), ["a"]).labels == ("wood[a]",)
