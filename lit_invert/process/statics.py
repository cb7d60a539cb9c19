"""The 36 static parameters of the process model, in the order of its table `simcycle_36.csv`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Statics(NamedTuple):
    """One member's parameters, each a `batch` tensor; units, ranges and sources stand in the table."""

    pmax: Tensor  #: light-saturated leaf photosynthesis [umolCO2 m-2 s-1]
    lue: Tensor  #: initial light-use efficiency [molCO2 mol-1]
    ek0: Tensor  #: light extinction [m2 m-2]
    sla: Tensor  #: specific leaf area [cm2 g-1]
    topt: Tensor  #: optimum temperature of photosynthesis [degC]
    tmin: Tensor  #: lower temperature limit [degC]
    tmax: Tensor  #: upper temperature limit [degC]
    kmci: Tensor  #: half-saturation of the response to internal CO2 [ppm]
    cmpcd0: Tensor  #: CO2 compensation point at 20 degC [ppm]
    gs_b1: Tensor  #: stomatal slope [-]
    gs_b2: Tensor  #: stomatal sensitivity to vapour pressure deficit [hPa]
    km_nstl: Tensor  #: water limitation of photosynthesis [-]
    alloc_ass: Tensor  #: leaf share of the surplus [-]
    alloc_abg: Tensor  #: stem share of what leaves do not take [-]
    ctmp_lfdsp: Tensor  #: temperature of leaf display [degC]
    ctmp_lfshd: Tensor  #: temperature of leaf shedding [degC]
    dcd: Tensor  #: seasonal shedding rate [d-1]
    lai_max: Tensor  #: ceiling of leaf area [m2 m-2]
    rmf0: Tensor  #: leaf maintenance respiration at 15 degC [mgC gC-1 d-1]
    rmc_s: Tensor  #: sapwood maintenance respiration at 15 degC [mgC gC-1 d-1]
    rmr_s: Tensor  #: root maintenance respiration at 15 degC [mgC gC-1 d-1]
    qtf0: Tensor  #: leaf Q10 [-]
    qtc0: Tensor  #: stem Q10 [-]
    qtr0: Tensor  #: root Q10 [-]
    rgf: Tensor  #: leaf growth respiration [gC gC-1]
    rgw: Tensor  #: stem and root growth respiration [gC gC-1]
    lf0: Tensor  #: background leaf litterfall [d-1]
    lc0: Tensor  #: stem litterfall [d-1]
    lr0: Tensor  #: root litterfall [d-1]
    sr_l: Tensor  #: litter decomposition at 10 degC, moist [permil d-1]
    sr_h: Tensor  #: humus decomposition at 10 degC, moist [permil d-1]
    f_co2: Tensor  #: share of decomposed litter that is respired [-]
    e0_lt: Tensor  #: Lloyd-Taylor sensitivity [K]
    kmh: Tensor  #: water limitation of decomposition [-]
    w_max: Tensor  #: plant-available water of a full bucket [mm]
    c_h0: Tensor  #: initial humus carbon [kgC m-2]
