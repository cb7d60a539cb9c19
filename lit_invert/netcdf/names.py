"""What CF calls things: standard names of the weather, the spellings of a unit, and the direction of a flux.

A NetCDF file says in attributes what a column of text cannot: `standard_name` and `units`. Units are written in many ways (`W/m2`,
`W m**-2`, `degrees_C`); :func:`canonical_unit` brings them to the one that the config uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: The driver, or helper variable, that each CF standard name means.
STANDARD_NAMES: Mapping[str, str] = {
    "air_temperature": "tmp_2m",
    "surface_temperature": "tmp_sfc",
    "surface_downwelling_shortwave_flux_in_air": "dswrf",
    "cloud_area_fraction": "tcdc",
    "precipitation_flux": "prate",
    "precipitation_amount": "prate",
    "lwe_precipitation_rate": "prate",
    "specific_humidity": "spfh",
    "relative_humidity": "relative_humidity",
    "water_vapor_saturation_deficit_in_air": "vpd",
    "wind_speed": "wind",
    "surface_air_pressure": "pressure",
    "mole_fraction_of_carbon_dioxide_in_air": "aco2",
}
#: What a number without a unit is, by the driver; the sun's height has none anywhere.
_OF_ONE: Mapping[str, str] = {
    "tcdc": "fraction",
    "relative_humidity": "fraction",
    "spfh": "kg kg-1",
    "aco2": "mol mol-1",
}
#: Other names of a factor of a unit.
_FACTORS: Mapping[str, str] = {
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("sec", "second", "seconds"), "s"),
    **dict.fromkeys(("hr", "hour", "hours"), "h"),
    **dict.fromkeys(("micromol", "µmol", "μmol"), "umol"),
}
#: Other names of a whole unit.
_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("degC", "C", "Celsius", "celsius", "degree_Celsius", "degrees_Celsius", "degree_C", "degrees_C"), "degC"),
    **dict.fromkeys(("K", "kelvin", "Kelvin", "degK"), "K"),
    **dict.fromkeys(("%", "percent", "Percent"), "%"),
    **dict.fromkeys(("ppm", "ppmv", "1e-6", "umol mol-1"), "ppm"),
    **dict.fromkeys(("hPa", "mbar", "mb"), "hPa"),
    "mm s-1": "kg m-2 s-1",
    "kg m-2 d-1": "mm d-1",
}
#: Amounts of a time step: the rate that their sum over a day is, and its factor.
AMOUNTS: Mapping[str, tuple[str, float]] = {
    "mm": ("mm d-1", 1.0),
    "kg m-2": ("mm d-1", 1.0),
    "MJ m-2": ("MJ m-2 d-1", 1.0),
    "J m-2": ("MJ m-2 d-1", 1e-6),
}


def canonical_unit(text: str, driver: str | None = None) -> str | None:
    """Return a unit in the spelling of the config, None where the text states none.

    Args:
        text: Attribute `units` of a variable.
        driver: The driver that the variable is; says what a pure number counts.

    Example:
        >>> canonical_unit("W/m^2"), canonical_unit("kg C m**-2 s**-1"), canonical_unit("degrees_C"), canonical_unit("mm/day")
        ('W m-2', 'kgC m-2 s-1', 'degC', 'mm d-1')
        >>> canonical_unit("1", "tcdc"), canonical_unit("1")
        ('fraction', None)
    """
    text = text.strip()
    if text in ("", "1", "-", "unitless", "dimensionless"):
        return None if driver is None else _OF_ONE.get(driver)
    if text in _UNITS:
        return _UNITS[text]
    numerator, *denominators = re.sub(r"\*\*|\^|(?<=mol) ?CO2", "", text).split("/")
    factors = [_factor(part) for part in numerator.replace("*", " ").split()]
    factors += [_factor(part, below=True) for half in denominators for part in half.split()]
    unit = re.sub(r"\b(g|kg|Mg) C\b", r"\1C", " ".join(factors))
    return _UNITS.get(unit, unit)


def unit_of(attributes: Mapping[str, object], driver: str | None = None) -> str | None:
    """Return the unit of a variable; CF says in the standard name, not in the unit, that a mass is that of carbon.

    Args:
        attributes: Of the variable.
        driver: The driver that it is, if any.

    Example:
        >>> unit_of({"units": "kg m-2 s-1", "standard_name": "net_primary_productivity_of_biomass_expressed_as_carbon"})
        'kgC m-2 s-1'
    """
    unit = canonical_unit(str(attributes.get("units", "")), driver)
    is_carbon = "expressed_as_carbon" in str(attributes.get("standard_name", ""))
    return unit.replace("g m-2", "gC m-2") if unit is not None and is_carbon else unit


def _factor(part: str, below: bool = False) -> str:
    """Return one factor such as `m-2`; the exponent of what stands below a slash changes its sign."""
    parsed = re.fullmatch(r"(.*?[^\d-])(-?\d+)?", part)
    if parsed is None:
        return part
    exponent = -int(parsed[2] or 1) if below else int(parsed[2] or 1)
    return _FACTORS.get(parsed[1], parsed[1]) + ("" if exponent == 1 else str(exponent))


def direction_of(attributes: Mapping[str, object]) -> str | None:
    """Return `nep` for a net flux that is positive into the land, `nee` for one out of it, None where nothing says it.

    Args:
        attributes: Of a variable; `positive` (`up`, `down`) and `standard_name` are looked at.

    Example:
        >>> direction_of({"positive": "up"}), direction_of({"long_name": "net exchange"})
        ('nee', None)
    """
    named = str(attributes.get("standard_name", ""))
    words = {"up": "nee", "down": "nep"}
    for said in (str(attributes.get("positive", "")).lower(), *(word for word in words if f"_{word}ward_" in named)):
        if said in words:
            return words[said]
    return None
