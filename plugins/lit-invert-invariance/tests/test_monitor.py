"""The command `monitor`: what it scores, keeps, prints and refuses."""

from __future__ import annotations

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

import numpy as np
import pandas as pd
import pytest
from lit_invert_invariance.baseline import build_baseline
from lit_invert_invariance.history import append_row
from lit_invert_invariance.look import Look
from lit_invert_invariance.monitor import monitor
from lit_invert_invariance.optimum import latest_parameters
from lit_invert_invariance.store import fingerprint, write_validation
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_invert import load_plugins, parse_fit, read_every_site
from lit_invert.errors import ConfigError, LitInvertError, ObservationError, ResultsError
from lit_invert.fit import fit
from lit_invert.results import to_json
from lit_invert.trust import Trust
from tests.toy_fit import write_toy_fit

DAYS = 366


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The config of a toy fit of one year."""
    monkeypatch.chdir(tmp_path)
    return write_toy_fit(tmp_path, DAYS)


@pytest.fixture
def validated(config):
    validate(config)
    return config


def validate(config):
    """Leave what a validation of the config's sites leaves."""
    registry = load_plugins()
    sites = list(read_every_site(parse_fit(["--config", str(config)], registry), registry))
    folder = config.parent / "logs" / "toy" / "validation" / "version_0"
    folder.mkdir(parents=True)
    kept = {inputs.site.name: build_baseline(inputs.problem, inputs.site) for inputs in sites}
    numbers = {"retention": 1.0, "spearman_rho": 0.99, "nan_ratio": 0.0}
    (folder / "baseline.json").write_text(to_json({"sites": kept, "numbers": numbers}))
    surrogate = {"fingerprint": fingerprint(sites[0].surrogate)}
    decision = {"confirmed": True, "sentence": "Scale invariance confirmed."}
    shown = {
        "created": "2016-12-31 12:00 UTC",
        "decision": decision,
        "numbers": numbers,
        "literal": {},
        "settings": {},
        "verdicts": [],
    }
    write_validation(folder, {"surrogate": surrogate, **shown})


def new_data(config, first="2017-01-01", days=365, **added):
    """Write the tower's file for another year, with something added to its columns; None takes a column out."""
    frame = pd.read_csv(config.parent / "tower.csv").iloc[:days].copy()
    frame["date"] = (np.datetime64(first) + np.arange(days)).astype(str)
    for name, value in added.items():
        frame = frame.drop(columns=name) if value is None else frame.assign(**{name: frame[name] + value})
    frame.to_csv(config.parent / "new.csv", index=False)
    return config.parent / "new.csv"


def run(config, data, *arguments):
    return monitor(["--config", str(config), "--data", str(data), *arguments], Trust())


def history(config):
    return pd.read_csv(config.parent / "logs" / "toy" / "monitor" / "history.csv")


def test_the_same_weather_in_another_year_is_quiet(validated, capsys):
    assert run(validated, new_data(validated)) == 0
    printed = capsys.readouterr().out
    assert "alert" not in printed
    assert "retention of predictions: 1 (at the validation 1)" in printed
    assert "(at the validation 0.99)" in printed
    (row,) = history(validated).to_dict("records")
    assert (row["site"], row["first"], row["last"], row["days"]) == ("tower", "2017-01-01", "2017-12-31", 365)
    assert (row["parameters"], row["validation"], row["alerts"]) == ("prior", "version_0", 0)
    assert row["retention"] == 1.0
    assert row["nan_ratio"] == 0.0
    assert row["spearman"] > 0.5
    assert abs(row["shift/tmp_2m"]) < 0.01


def test_a_driver_in_another_unit_alerts_by_name(validated, capsys):
    assert run(validated, new_data(validated, tmp_2m=8.0)) == 3
    alerts = [line for line in capsys.readouterr().out.splitlines() if line.startswith("alert: ")]
    assert len(alerts) == 1
    assert alerts[0].startswith("alert: tmp_2m has drifted from its season")
    (row,) = history(validated).to_dict("records")
    assert row["alerts"] == 1
    assert row["shift/tmp_2m"] == pytest.approx(1.0, abs=0.01)
    assert row["psi/tmp_2m"] > 0.2


def test_every_number_of_an_alert_is_printed_in_80_columns_and_kept(validated, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run(validated, new_data(validated, tmp_2m=8.0))
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    row = history(validated).to_dict("records")[0]
    assert row["distance/tmp_2m"] == pytest.approx(1.0, abs=0.01)
    rounded = [f"{row[f'{key}/tmp_2m']:.3f}" for key in ("psi", "psi_limit", "ks", "shift", "shift_limit", "distance")]
    chance = f"{row['ks_chance/tmp_2m']:.2g}"
    (cells,) = (line.split() for line in lines if line.startswith("tmp_2m "))
    assert cells == ["tmp_2m", *rounded[:3], chance, *rounded[3:], "0.0%"]
    assert all(len(line) <= 80 for line in printed.partition("retention of predictions")[0].splitlines())
    (alert,) = (line for line in lines if line.startswith("alert: "))
    assert alert.endswith(f"and its anomalies are {row['distance/tmp_2m']:.3f} sd apart (limit 0.2).")


def test_one_month_is_compared_with_its_season(validated):
    july = pd.read_csv(validated.parent / "tower.csv").iloc[182:213]
    july.assign(date=(np.datetime64("2017-07-01") + np.arange(31)).astype(str)).to_csv("july.csv", index=False)
    assert run(validated, "july.csv") == 0
    assert abs(history(validated)["shift/tmp_2m"][0]) < 0.1  # against the year, July is 0.9 warmer


def test_each_look_is_a_row_and_a_point_on_the_curves(validated):
    data = new_data(validated)
    for _ in range(2):
        run(validated, data)
    run(validated, new_data(validated, tmp_2m=8.0))
    rows = history(validated)
    assert rows["alerts"].tolist() == [0, 0, 1]
    curves = EventAccumulator(str(validated.parent / "logs" / "toy" / "monitor")).Reload()
    assert {"retention", "spearman", "nan_ratio", "alerts", "psi/dswrf", "ks/dswrf", "outside/dswrf"} <= set(
        curves.Tags()["scalars"]
    )
    points = curves.Scalars("shift/tmp_2m")
    assert [point.step for point in points] == [0, 1, 2]
    assert [point.value for point in points] == pytest.approx(rows["shift/tmp_2m"].tolist(), abs=1e-6)


def test_weather_alone_is_enough(validated, capsys):
    assert run(validated, new_data(validated, nep=None, n_good=None)) == 0
    printed = capsys.readouterr().out
    assert "spearman is not measured, there are no observations" in printed
    assert "has no column 'nep'" in printed
    assert math.isnan(history(validated)["spearman"][0])


def test_the_newest_optimum_is_used(validated):
    data, registry = new_data(validated), load_plugins()
    run(validated, data)
    outcome = fit(parse_fit(["--config", str(validated)], registry), registry)
    (validated.parent / "logs" / "toy" / "version_1").mkdir()  # a run that has left nothing
    run(validated, data)
    assert history(validated)["parameters"].tolist() == ["prior", f"optimum of {outcome.folder.name}"]
    problem = next(read_every_site(parse_fit(["--config", str(validated)], registry), registry)).problem
    theta, _ = latest_parameters(validated.parent / "logs" / "toy", "tower", problem)
    assert problem.space.to_physical(theta)[0].tolist() == pytest.approx(outcome.result.optimum.tolist(), rel=1e-6)
    assert outcome.result.optimum.tolist() != pytest.approx([2.0, 2.0, 2.0], abs=0.01)
    parameters = (outcome.folder / "parameters.csv").read_text().replace("s2,", "other,")
    (outcome.folder / "parameters.csv").write_text(parameters)
    with pytest.raises(ResultsError, match="has no optimum of every parameter"):
        run(validated, data)


def test_without_a_validation_one_line_says_how_to_get_one(config):
    with pytest.raises(ResultsError, match=r"no validation of surrogate 'toy'. Run `lit-invert check-surrogate --config`"):
        run(config, new_data(config))
    assert not (config.parent / "logs").exists()


def test_a_validation_of_another_scaling_is_none(validated):
    spec = (validated.parent / "spec.json").read_text().replace('"mean": 280.0', '"mean": 281.0', 1)
    (validated.parent / "spec.json").write_text(spec)
    with pytest.raises(ResultsError, match="no validation of surrogate"):
        run(validated, new_data(validated))


@pytest.mark.parametrize("damage", ["half a row", "another column", "a column less", "nothing", "no text"])
def test_a_damaged_history_is_refused_and_left_alone(tmp_path, damage):
    row, path = {"data": "new.csv", "retention": 1.0, "psi/dswrf": 1 / 3}, tmp_path / "history.csv"
    append_row(tmp_path, row)
    whole = path.read_bytes()
    damaged = {
        "half a row": whole[:-10],
        "another column": whole.replace(b"psi/dswrf", b"psi/wind"),
        "a column less": whole.replace(b",psi/dswrf", b""),
        "nothing": b"",
        "no text": b"\xff\xfe",
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(ResultsError, match=r"history\.csv: .*Move it away to begin another") as caught:
        append_row(tmp_path, row)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == damaged


def test_a_history_keeps_text_and_has_empty_cells_for_what_is_not_known(tmp_path):
    row = {"data": 'a, "b"\nc', "retention": math.nan, "psi/x": 1 / 3}
    assert [append_row(tmp_path / "new", row), append_row(tmp_path / "new", row)] == [0, 1]
    frame = pd.read_csv(tmp_path / "new" / "history.csv")
    assert frame["data"].tolist() == ['a, "b" c'] * 2
    assert frame["retention"].isna().all()
    assert frame["psi/x"].tolist() == pytest.approx([1 / 3] * 2)


def test_a_history_of_other_columns_names_the_first(tmp_path):
    append_row(tmp_path, {"psi": 1.0, "ks": 2.0})
    with pytest.raises(ResultsError, match=r"expected as column 2 'distance', found 'ks'"):
        append_row(tmp_path, {"psi": 1.0, "distance": 2.0})
    with pytest.raises(ResultsError, match=r"expected as column 3 'distance', found none"):
        append_row(tmp_path, {"psi": 1.0, "ks": 2.0, "distance": 3.0})
    with pytest.raises(ResultsError, match=r"expected as column 2 none, found 'ks'"):
        append_row(tmp_path, {"psi": 1.0})


def test_processes_that_append_at_once_lose_no_row(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([append_row.__module__])
    with ProcessPoolExecutor(3, context) as processes:
        numbers = processes.map(append_row, repeat(tmp_path), [{"call": call} for call in range(60)])
        assert sorted(numbers) == list(range(60))
    assert sorted(pd.read_csv(tmp_path / "history.csv")["call"]) == list(range(60))


CATALOGUE = "site,path,latitude\nA,tower.csv,48.0\nB,tower.csv,50.0\n"


def test_one_site_of_several_has_to_be_named(config):
    (config.parent / "sites.csv").write_text(CATALOGUE)
    config.write_text(config.read_text().replace("  path: tower.csv\n", "  sites: sites.csv\n"))
    validate(config)
    data = new_data(config)
    with pytest.raises(ConfigError, match=r"the config names 2 sites. Say whose data these are: --site NAME"):
        run(config, data)
    with pytest.raises(ConfigError, match=r"`--site`: 'b' is not a site of the config"):
        run(config, data, "--site", "b")
    assert run(config, data, "--site", "B") == 0
    assert history(config)["site"].tolist() == ["B"]


def test_mistakes_of_the_user_are_one_line(validated):
    with pytest.raises(ObservationError, match=r"`--data`: nowhere\.csv: no such file"):
        run(validated, "nowhere.csv")
    with pytest.raises(ObservationError, match=r"`--data`: \.: is a folder"):
        run(validated, ".")
    with pytest.raises(LitInvertError, match="tmp_2m"):
        run(validated, new_data(validated, tmp_2m=None))
    with pytest.raises(ConfigError, match="sed"):
        run(validated, new_data(validated), "--sed", "3")
    with pytest.raises(ConfigError, match="--data"):
        monitor(["--config", str(validated)], Trust())


def test_a_damaged_baseline_leaves_no_row(validated):
    path = validated.parent / "logs" / "toy" / "validation" / "version_0" / "baseline.json"
    path.write_text(path.read_text().replace('"spearman_rho": 0.99', '"spearman_rho": "high"'))
    with pytest.raises(ResultsError, match=r"baseline\.json: is damaged, expected `numbers\.spearman_rho`.* found 'high'"):
        run(validated, new_data(validated))
    assert not (validated.parent / "logs" / "toy" / "monitor").exists()


def test_help_names_what_a_look_needs(capsys):
    with pytest.raises(SystemExit) as caught:
        monitor(["--help"], Trust())
    assert caught.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "lit-invert monitor --config FILE --data FILE [--site NAME] [--KEY VALUE ...]" in printed
    assert "`lit-invert check-surrogate --help`" in printed


@pytest.mark.parametrize(("days", "is_enough"), [(20, False), (21, True)])
def test_a_file_has_to_be_longer_than_the_warm_up(config, days, is_enough):
    spec = (config.parent / "spec.json").read_text().replace('"warmup_days": 0', '"warmup_days": 20')
    (config.parent / "spec.json").write_text(spec)
    validate(config)
    data = new_data(config, days=days)
    if is_enough:
        assert run(config, data) == 0
        return
    with pytest.raises(ConfigError, match=r"new\.csv: has 20 days, but the surrogate's warm-up takes 20"):
        run(config, data)


@pytest.mark.parametrize(
    ("numbers", "alerts", "advice"),
    [
        ({"retention": 0.94}, 0, 0),
        ({"retention": 0.9399}, 1, 0),
        ({"retention": math.nan}, 0, 0),
        ({"nan_ratio": 0.0499}, 0, 0),
        ({"nan_ratio": 0.05}, 1, 0),
        ({"spearman": 0.9001}, 0, 0),
        ({"spearman": 0.9}, 0, 1),
        ({"spearman": math.nan}, 0, 0),
    ],
)
def test_thresholds_hold_on_both_sides(numbers, alerts, advice):
    look = Look(drifts=[], **{"retention": 1.0, "spearman": 1.0, "nan_ratio": 0.0, **numbers})
    assert (len(look.alerts), len(look.advice)) == (alerts, advice)
