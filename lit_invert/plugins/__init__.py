"""Finding plugins, checking what they register, and asking them during a run.

`discovery` imports entry points one by one, `registration` checks hooks and collects what they return, and the `registry` is what
the rest of lit-invert asks. Every hook of every plugin is called by itself, so that whoever fails has a name; a missing loss term
would change the science, so every fault stops the run. What is registered is sorted by name: nothing depends on the order of
loading.
"""

from ..guards import PluginInfo as PluginInfo
from .discovery import find_plugins as find_plugins
from .registration import HOOKS as HOOKS
from .registry import Registry as Registry
from .registry import build_registry as build_registry
from .registry import load_plugins as load_plugins
