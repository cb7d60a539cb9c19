"""Plugins are found, checked and collected; whoever is at fault is named with distribution, version, hook and cause."""

from __future__ import annotations

import sys
from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from lit_invert import Check, Command, ConfigSection, ReportSection, RunInfo, Solver, Verdict, hookimpl
from lit_invert.errors import PluginError
from lit_invert.guards import GuardedTerm, PluginInfo
from lit_invert.losses import LossTerm, Prior
from lit_invert.plugins import HOOKS, build_registry, find_plugins, load_plugins
from lit_invert.plugins.discovery import DISABLE
from lit_invert.plugins.registration import DEPRECATED_HOOKS
from lit_invert.surrogates.loaders import SurrogateLoader
from lit_invert.testing import toy_problem
from lit_invert.transforms import ScaledTransform
from lit_invert.trust import Trust

RUN = RunInfo("fit", "toy", None, 0)
HIDDEN_TERM = """
from lit_invert import LossTerm

class Hidden(LossTerm):
    name = "hidden"
    def forward(self, evaluation):
        return evaluation.physical.sum(-1)
"""


class Smoothness(LossTerm):
    name = "smoothness"

    def forward(self, evaluation):
        return evaluation.flux("nep").diff(dim=-1).square().mean(-1)


class Size(LossTerm):
    name = "a_size"

    def forward(self, evaluation):
        return evaluation.physical.square().mean(-1) / 3


class Shifted(ScaledTransform):
    name = "shifted"

    def to_physical(self, theta):
        return super().to_physical(theta - 1)

    def to_theta(self, physical):
        return super().to_theta(physical) + 1


class ToyLoader(SurrogateLoader):
    name = "toy"

    def load(self, spec, weights, trust):
        raise OSError("no such tape")


class ToyModel:
    name = "toy_model"
    statics, drivers, outputs = ("a",), ("rain",), ("nep",)

    def __call__(self, static_physical, forcing):
        return static_physical[:, None] + forcing


class TapeReader:
    name = "tape"

    def can_read(self, path):
        return path.suffix == ".tape"

    def read(self, path, settings):
        raise RuntimeError("tape is torn")


class Everything:
    """A plugin with every hook."""

    def __init__(self):
        self.events = []

    @hookimpl
    def register_loss_terms(self):
        return [Smoothness]

    @hookimpl
    def register_transforms(self):
        return [Shifted]

    @hookimpl
    def register_surrogate_loaders(self):
        return [ToyLoader()]

    @hookimpl
    def register_process_models(self):
        return [ToyModel()]

    @hookimpl
    def register_solvers(self):
        return [Solver("sgd", lambda parameters, lr: torch.optim.SGD(parameters, lr))]

    @hookimpl
    def register_callbacks(self, run):
        return [Callback()] if run.command == "fit" else []

    @hookimpl
    def register_config_sections(self):
        return [ConfigSection("toys", SimpleNamespace)]

    @hookimpl
    def register_data_readers(self):
        return [TapeReader()]

    @hookimpl
    def register_checks(self):
        return [Check("luck", lambda problem, site: Verdict("luck", "pass", "lucky"))]

    @hookimpl
    def register_commands(self):
        return [Command("play", "Play.", lambda arguments, trust: len(arguments) + len(trust.imports))]

    @hookimpl
    def register_report_sections(self):
        return [ReportSection("Toys", lambda folder: f"<p>{folder}</p>")]

    @hookimpl
    def run_started(self, run):
        self.events.append(("started", run.name))

    @hookimpl
    def run_finished(self, run):
        self.events.append(("finished", run.name))

    @hookimpl
    def run_failed(self, run, error):
        self.events.append(("failed", str(error)))


def plugin_of(name="mine", **hooks):
    """Return a plugin with the given hook functions, from the distribution `mine-dist 1.2`."""
    module = SimpleNamespace(**{hook: hookimpl(function) for hook, function in hooks.items()})
    return PluginInfo(name, module, f"{name}-dist", "1.2")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a module as the plugin of a distribution that importlib.metadata finds, in a group of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(DISABLE, raising=False)
    before = set(sys.modules)

    def install(name, source, distribution=None):
        distribution = distribution or f"{name}-dist"
        module = f"module_of_{distribution.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "top_level.txt").write_text(f"{module}\n")
        (info / "entry_points.txt").write_text(f"[lit_invert_tests]\n{name} = {module}\n")

    yield install
    for module in set(sys.modules) - before:
        del sys.modules[module]


# -- what is found and collected ------------------------------------------------------------------------------------


def test_every_hook_of_a_plugin_reaches_the_registry():
    module = Everything()
    registry = build_registry([PluginInfo("toys", module, "toys-dist", "3.0")])
    assert set(registry.plugins[1].hooks) == set(HOOKS)
    assert registry.loss_terms["smoothness"] is Smoothness
    assert registry.transforms["shifted"] is Shifted
    assert registry.surrogate_loaders["toy"].name == "toy"
    assert registry.process_models["toy_model"](torch.ones(2, 1), torch.ones(1, 1)).tolist() == [[[2.0]], [[2.0]]]
    assert registry.solvers["sgd"].build([torch.nn.Parameter(torch.zeros(1))], 0.5).defaults["lr"] == 0.5
    assert registry.config_sections["toys"].settings is SimpleNamespace
    assert registry.checks["luck"].run(None, None).outcome == "pass"
    assert registry.commands["play"].run(["a", "b"], Trust(imports=frozenset({"mine"}))) == 3
    assert registry.report_sections["Toys"].render("x") == "<p>x</p>"
    assert [type(callback) for callback in registry.callbacks(RUN)] == [Callback]
    registry.run_started(RUN)
    registry.run_finished(RUN)
    registry.run_failed(RUN, ValueError("too bad"))
    assert module.events == [("started", "toy"), ("finished", "toy"), ("failed", "too bad")]
    assert registry.versions()["toys"] == "toys-dist 3.0"


def test_guarded_objects_pass_for_what_they_are():
    registry = build_registry([PluginInfo("toys", Everything())])
    assert isinstance(registry.surrogate_loaders["toy"], SurrogateLoader)
    assert isinstance(registry.solvers["sgd"], Solver)


def test_an_installed_plugin_is_found_with_its_distribution(install):
    install("mine", "from lit_invert import hookimpl\n@hookimpl\ndef register_checks():\n    return []\n")
    (plugin,) = find_plugins("lit_invert_tests")
    assert (plugin.name, plugin.label, plugin.hooks, plugin.hook_api) == ("mine", "mine-dist 1.2", ("register_checks",), 1)
    assert load_plugins("lit_invert_tests") is load_plugins("lit_invert_tests")


def test_a_disabled_plugin_is_not_imported(install, monkeypatch):
    install("bad", "raise RuntimeError('imported')")
    install("good", "")
    monkeypatch.setenv(DISABLE, "bad, ")
    assert [plugin.name for plugin in find_plugins("lit_invert_tests")] == ["good"]


def test_disabling_what_is_not_installed_is_warned_of(install, monkeypatch):
    install("carbon", "")
    monkeypatch.setenv(DISABLE, "carbom")
    with pytest.warns(UserWarning, match=r"no plugin 'carbom' is installed\. Did you mean 'carbon'\?"):
        assert len(find_plugins("lit_invert_tests")) == 1


def test_nothing_depends_on_the_order_of_loading():
    infos = [plugin_of("a", register_loss_terms=lambda: [Smoothness]), plugin_of("b", register_loss_terms=lambda: [Size])]
    totals = []
    for order in permutations(infos):
        registry = build_registry(order)
        assert list(registry.loss_terms) == ["a_size", "boundary", "misfit", "prior", "smoothness"]
        assert [plugin.name for plugin in registry.plugins] == ["builtin", "a", "b"]
        terms = registry.guard_terms(registry.loss_terms[plugin.module.register_loss_terms()[0].name](0.1) for plugin in order)
        for ordered in permutations([*terms, Prior(weight=0.3)]):
            problem = toy_problem(terms=ordered, dtype=torch.float32)
            totals.append(problem(torch.full((2, 3), 0.3)).total)
    assert len(totals) == 12
    assert all(torch.equal(total, totals[0]) for total in totals)


# -- what goes wrong before a run -----------------------------------------------------------------------------------


def assert_named(error, plugin, hook, *causes):
    """Check that an error is one line that names plugin, distribution, version, hook, cause and remedy."""
    text = str(error.value)
    assert "\n" not in text
    for part in (f"plugin '{plugin}' ({plugin}-dist 1.2)", f"failed in {hook}", f"{DISABLE}={plugin}", *causes):
        assert part in text


def test_failing_import(install):
    install("mine", "import no_such_package")
    with pytest.raises(PluginError) as error:
        find_plugins("lit_invert_tests")
    assert_named(error, "mine", "import of 'module_of_mine_dist'", "ModuleNotFoundError: No module named 'no_such_package'")


def test_syntax_error(install):
    install("mine", "def f(:\n")
    with pytest.raises(PluginError) as error:
        find_plugins("lit_invert_tests")
    assert_named(error, "mine", "import of", "SyntaxError: invalid syntax")


def test_two_distributions_with_one_name(install):
    install("mine", "", "first-dist")
    install("mine", "", "second-dist")
    with pytest.raises(PluginError, match=r"first-dist 1\.2 and second-dist 1\.2.*uninstall one"):
        find_plugins("lit_invert_tests")


def test_a_plugin_may_not_be_called_builtin():
    with pytest.raises(PluginError, match=r"plugin 'builtin' \(builtin-dist 1\.2\) failed in registration: .*already registered"):
        build_registry([plugin_of("builtin")])


def test_misspelt_hook():
    with pytest.raises(PluginError) as error:
        build_registry([plugin_of(register_loss_term=lambda: [])])
    assert_named(error, "mine", "register_loss_term", "has no such hook. Did you mean 'register_loss_terms'?")


def test_wrong_argument():
    with pytest.raises(PluginError) as error:
        build_registry([plugin_of(register_callbacks=lambda runs: [])])
    assert_named(error, "mine", "registration", "register_callbacks", "{'runs'}")


def test_a_hook_that_raises():
    def register_solvers():
        raise KeyError("sgd")

    with pytest.raises(PluginError) as error:
        build_registry([plugin_of(register_solvers=register_solvers)])
    assert_named(error, "mine", "register_solvers", "KeyError: 'sgd'")
    assert isinstance(error.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("hook", "value", "cause"),
    [
        ("register_loss_terms", (Smoothness,), "it returned tuple, expected a list"),
        ("register_loss_terms", None, "it returned NoneType, expected a list"),
        ("register_loss_terms", [Smoothness()], "expected concrete subclasses of LossTerm"),
        ("register_loss_terms", [LossTerm], "expected concrete subclasses of LossTerm"),
        ("register_loss_terms", [Shifted], "expected concrete subclasses of LossTerm"),
        ("register_transforms", [Smoothness], "expected concrete subclasses of Transform"),
        ("register_surrogate_loaders", [ToyLoader], "expected objects with name and load"),
        ("register_process_models", [3], "it returned 3 in its list, expected objects with name and __call__"),
        ("register_solvers", [torch.optim.SGD], "expected instances of Solver"),
        ("register_config_sections", ["toys"], "expected instances of ConfigSection"),
        ("register_data_readers", [ToyLoader()], "expected objects with name and can_read, read"),
        ("register_checks", [len], "expected instances of Check"),
        ("register_commands", [{}], "expected instances of Command"),
        ("register_report_sections", [Command("a", "b", len)], "expected instances of ReportSection"),
    ],
)
def test_a_hook_that_returns_something_else(hook, value, cause):
    with pytest.raises(PluginError) as error:
        build_registry([plugin_of(**{hook: lambda: value})])
    assert_named(error, "mine", hook, cause)


def test_what_is_registered_needs_a_name():
    class Nameless(Smoothness):
        name = ""

    with pytest.raises(PluginError, match=r"register_loss_terms: loss term .* has no name; give it"):
        build_registry([plugin_of(register_loss_terms=lambda: [Nameless])])


def test_a_name_of_ours_is_taken():
    class Mine(Smoothness):
        name = "prior"

    with pytest.raises(PluginError) as error:
        build_registry([plugin_of(register_loss_terms=lambda: [Mine])])
    assert_named(error, "mine", "register_loss_terms", "loss term 'prior' is already registered by plugin 'builtin' (lit-invert")


def test_a_name_of_another_plugin_is_taken_whoever_loads_first():
    command = [Command("play", "Play.", len)]
    both = [plugin_of("a", register_commands=lambda: command), plugin_of("b", register_commands=lambda: command)]
    messages = set()
    for order in permutations(both):
        with pytest.raises(PluginError) as error:
            build_registry(order)
        assert_named(error, "b", "register_commands", "command 'play' is already registered by plugin 'a' (a-dist 1.2)")
        messages.add(str(error.value))
    assert len(messages) == 1


# -- the version of the hooks ---------------------------------------------------------------------------------------


def _with_api(version):
    return PluginInfo("mine", SimpleNamespace(HOOK_API=version), "mine-dist", "1.2")


def test_older_hooks_are_deprecated():
    with pytest.warns(DeprecationWarning, match=r"plugin 'mine' \(mine-dist 1\.2\): it was written for hooks of version 0"):
        build_registry([_with_api(0)])


@pytest.mark.parametrize(("version", "cause"), [(99, "needs hooks of version 99"), ("one", "it is 'one', expected a whole number")])
def test_newer_hooks_are_refused(version, cause):
    with pytest.raises(PluginError) as error:
        build_registry([_with_api(version)])
    assert_named(error, "mine", "HOOK_API", cause)


def test_a_deprecated_hook_is_named_with_its_successor(monkeypatch):
    monkeypatch.setitem(DEPRECATED_HOOKS, "register_checks", "use register_doctors")
    # our own plugin uses it too, and says so itself
    with (
        pytest.warns(DeprecationWarning, match=r"plugin 'builtin' .*'register_checks' will go"),
        pytest.warns(DeprecationWarning, match=r"'mine' \(mine-dist 1\.2\): hook 'register_checks' will go; use register_doct"),
    ):
        build_registry([plugin_of(register_checks=lambda: [])])


# -- what goes wrong during a run -----------------------------------------------------------------------------------


def test_callbacks_must_be_callbacks():
    registry = build_registry([plugin_of(register_callbacks=lambda run: [len])])
    with pytest.raises(PluginError) as error:
        registry.callbacks(RUN)
    assert_named(error, "mine", "register_callbacks", "expected instances of Callback")


def test_an_event_that_raises_is_named():
    def run_finished(run):
        raise OSError("disk full")

    registry = build_registry([plugin_of(run_finished=run_finished)])
    with pytest.raises(PluginError) as error:
        registry.run_finished(RUN)
    assert_named(error, "mine", "run_finished", "OSError: disk full")


def test_a_failure_at_failing_does_not_hide_the_error():
    heard = []

    def run_failed(run, error):
        raise OSError("disk full")

    registry = build_registry([plugin_of("a", run_failed=run_failed), plugin_of("b", run_failed=lambda error: heard.append(error))])
    with pytest.warns(UserWarning, match=r"plugin 'a' \(a-dist 1\.2\) failed in run_failed: OSError: disk full"):
        registry.run_failed(RUN, ValueError("first"))
    assert [str(error) for error in heard] == ["first"]


@pytest.mark.parametrize(
    ("use", "place", "cause"),
    [
        (lambda r: r.data_readers["tape"].read("x.tape", None), "data reader 'tape' (read)", "RuntimeError: tape is torn"),
        (lambda r: r.surrogate_loaders["toy"].load(None, None, None), "surrogate loader 'toy' (load)", "OSError: no such tape"),
        (lambda r: r.process_models["toy_model"](None, None), "process model 'toy_model'", "TypeError"),
        (lambda r: r.commands["play"].run(3, Trust()), "command 'play' (run)", "TypeError"),
        (lambda r: r.solvers["sgd"].build([], 0.1), "solver 'sgd' (build)", "ValueError: optimizer got an empty parameter list"),
    ],
)
def test_objects_of_plugins_that_raise_are_named(use, place, cause):
    registry = build_registry([PluginInfo("mine", Everything(), "mine-dist", "1.2")])
    with pytest.raises(PluginError) as error:
        use(registry)
    assert_named(error, "mine", place, cause)


# -- whose a class is -----------------------------------------------------------------------------------------------


def test_terms_of_plugins_are_guarded_and_ours_are_not():
    registry = build_registry([plugin_of(register_loss_terms=lambda: [Smoothness])])
    ours, theirs = registry.guard_terms([Prior(), Smoothness(2.0)])
    assert type(ours) is Prior
    assert isinstance(theirs, GuardedTerm)
    assert (theirs.name, theirs.weight, theirs.plugin.name) == ("smoothness", 2.0, "mine")


def test_a_term_by_class_path_belongs_to_the_plugin_of_its_package(install):
    install("mine", HIDDEN_TERM)
    registry = build_registry(find_plugins("lit_invert_tests"))
    assert registry.owner(sys.modules["module_of_mine_dist"].Hidden).label == "mine-dist 1.2"


def test_a_term_of_no_plugin_belongs_to_its_distribution_or_package(install):
    install("mine", HIDDEN_TERM)
    (plugin,) = find_plugins("lit_invert_tests")
    owner = build_registry().owner(plugin.module.Hidden)
    assert (owner.name, owner.label) == ("module_of_mine_dist", "mine-dist 1.2")
    assert build_registry().owner(Smoothness).label == "no distribution"


def test_a_transform_that_does_not_come_back_is_named():
    class Lossy(Shifted):
        name = "lossy"

        def to_theta(self, physical):
            return super().to_theta(physical) + 1

    registry = build_registry([plugin_of(register_transforms=lambda: [Lossy, Shifted])])
    registry.check_transform(toy_problem(transform=Shifted).space)
    registry.check_transform(toy_problem().space)
    with pytest.raises(PluginError) as error:
        registry.check_transform(toy_problem(transform=Lossy).space)
    assert_named(error, "mine", "transform 'lossy'", "takes 's1' from 2.0 to 2.5")
