"""How often `lit-invert monitor` alerts about the weather of a site that has not changed, and whether it does where it has.

Each full year of the record is held against a baseline of the others, whole and month by month; then the last year is spoiled: air
temperature 8 K too high, as of a column read in the wrong unit, and three times the rain.

    python tools/invariance_drift.py configs/us_ar1.yaml
"""

from __future__ import annotations

import argparse

import numpy as np
from lit_invert_invariance.baseline import Baseline
from lit_invert_invariance.weather_drift import weather_drift

from lit_invert import Site, SurrogateSpec, load_plugins, parse_fit, read_every_site


def count_alerts(spec: SurrogateSpec, site: Site, is_new: np.ndarray, forcing: np.ndarray) -> list[str]:
    """Return the drivers that alert on the chosen days, (T,) bool, of the forcing given, against all other years of the site."""
    years = site.dates.astype("datetime64[Y]")
    is_old = ~np.isin(years, years[is_new])
    drifts = weather_drift(spec, forcing[is_new], site.dates[is_new], Baseline(site.dates[is_old], site.forcing[is_old], {}))
    return [drift.driver for drift in drifts if drift.alerts]


def main() -> None:
    """Print how many drivers alert by year, by month, and in a spoiled year."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="config of a fit to a site with several years")
    registry = load_plugins()
    config = parse_fit(["--config", parser.parse_args().config, "--checks", "skip"], registry)
    inputs = next(read_every_site(config, registry))
    spec, site = inputs.surrogate.spec, inputs.site
    years, months = site.dates.astype("datetime64[Y]"), site.dates.astype("datetime64[M]")
    for name, periods in (("year", years), ("month", months)):
        found = {str(period): count_alerts(spec, site, periods == period, site.forcing) for period in np.unique(periods)}
        alerts = sum(map(len, found.values()))
        print(f"one {name} at a time: {alerts} of {len(found) * len(spec.drivers)} drivers and {name}s alert")
        if name == "year":
            print(f"  {found}")
    spoiled, place = site.forcing.copy(), {driver: i for i, driver in enumerate(site.drivers)}
    spoiled[:, place["tmp_2m"]] += 8.0
    spoiled[:, place["prate"]] *= 3.0
    print(f"{years[-1]}, spoiled: {count_alerts(spec, site, years == years[-1], spoiled)}")


if __name__ == "__main__":
    main()
