"""What an inversion found: as data, as a folder of files, and read back from it.

`result` holds the outcome in memory, `tables` and `summary` turn it into the three tables and the numbers that people look at,
`folder` writes a run and `reading` opens it again, `provenance` says what it was made with. Figures and report are made from the
folder alone (:mod:`lit_invert.report`).
"""

from .folder import RunTables as RunTables
from .folder import list_versions as list_versions
from .folder import open_run_folder as open_run_folder
from .folder import tabulate as tabulate
from .folder import to_csv as to_csv
from .folder import to_json as to_json
from .folder import write_results as write_results
from .folder import write_status as write_status
from .folder import write_tables as write_tables
from .many import SitesRun as SitesRun
from .many import is_sites_run as is_sites_run
from .many import read_sites_run as read_sites_run
from .provenance import collect_provenance as collect_provenance
from .reading import Run as Run
from .reading import load_metrics as load_metrics
from .reading import load_parameters as load_parameters
from .reading import read_run as read_run
from .result import InversionResult as InversionResult
from .result import InversionStatus as InversionStatus
from .starts import StartRecord as StartRecord
from .starts import start_table as start_table
