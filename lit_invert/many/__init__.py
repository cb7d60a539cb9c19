"""Many sites: from a catalogue to one table of parameters and one of scores.

`run` reads the catalogue, cuts it into chunks and hands them to an engine (`engines`: this process; `ray_engine`: Ray). A chunk is
fitted by `chunk`: its sites are read, those of like length share a batch (`batches`), and what is found is written at once, as a
part of the tables (`store`). A site that fails is a row with its reason. Nothing else is kept in memory, so a thousand sites need
no more of it than a hundred, and a run that was stopped goes on with the sites that have no row yet.
"""

from .check import SiteCheck as SiteCheck
from .check import check_sites as check_sites
from .check import read_every_site as read_every_site
from .run import SitesOutcome as SitesOutcome
from .run import fit_sites as fit_sites
