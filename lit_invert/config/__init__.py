"""From a config file and the command line to one typed description, checked once.

`parse` builds the parser (jsonargparse, as under LightningCLI) and runs it, `files` reads YAML strictly and knows lines and paths,
`faults` and `keys` turn every mistake into one line. Nothing below this package knows YAML.
"""

from .parse import config_text as config_text
from .parse import parse_fit as parse_fit
from .parse import parse_train as parse_train
