"""A worker on another machine runs what its operator allowed, and nothing that merely lies near."""

from __future__ import annotations

import functools
import json
import math
import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paramserver.errors import JobFailed, LocalProtocolError
from paramserver.protocol.functions import find_function, name_of

MODULE = """
import functools
import math
import os
from json import dumps
from os import system

def plain(x):
    return x + 1

class Kept:
    def method(self):
        pass
    @staticmethod
    def static(x):
        return x * 2
    @classmethod
    def of_class(cls):
        pass
    class Inner:
        @staticmethod
        def deep():
            return "deep"
    attribute = system

def decorate(fn):
    @functools.wraps(fn)
    def wrapped(*args):
        return fn(*args)
    return wrapped

@decorate
def decorated(x):
    return x + 100

@functools.lru_cache
def cached(x):
    return x

def _private():
    pass

alias = plain
table = {"plain": plain}
half = functools.partial(plain, 1)
pretender = Kept()
pretender.__module__ = __name__
pretender.__qualname__ = "pretender"

def __getattr__(name):
    return os.system
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package `allowed_pkg` with modules, and `allowed_pkg_not` that only begins like it."""
    for name in ("allowed_pkg", "allowed_pkg_not"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "sub" / "__init__.py").write_text(MODULE)
        (tmp_path / name / "_inner.py").write_text(MODULE)
        (tmp_path / name / "broken.py").write_text("raise RuntimeError('half a module')")
        (tmp_path / name / "script.py").write_text("import sys; sys.exit(3)")
        (tmp_path / name / "__main__.py").write_text(MODULE)
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "allowed_pkg"
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "args", "value"),
    [
        ("allowed_pkg.sub:plain", (1,), 2),
        ("allowed_pkg._inner:plain", (1,), 2),
        ("allowed_pkg.sub:Kept.static", (4,), 8),
        ("allowed_pkg.sub:Kept.Inner.deep", (), "deep"),
        ("allowed_pkg.sub:decorated", (1,), 101),
    ],
)
def test_what_is_defined_in_an_allowed_package_is_found(
    package: str, name: str, args: Any, value: Any
) -> None:
    assert find_function(name, [package])(*args) == value
    assert name_of(find_function(name, [package])) == name


def test_a_class_is_found_as_itself(package: str) -> None:
    found = find_function("allowed_pkg.sub:Kept", ["other", package])

    assert isinstance(found, type)
    assert name_of(found) == "allowed_pkg.sub:Kept"


def test_an_exact_module_allows_that_module_only(package: str) -> None:
    assert find_function("allowed_pkg.sub:plain", ["allowed_pkg.sub"])(1) == 2

    with pytest.raises(JobFailed, match="--allow allowed_pkg"):
        find_function("allowed_pkg._inner:plain", ["allowed_pkg.sub"])


@pytest.mark.parametrize(
    "name",
    [
        "os:system", "builtins:eval", "builtins:exec", "subprocess:run", "posix:system",
        "allowed_pkg_not.sub:plain", "json:dumps", "allowed_pkg.sub:system",
        "allowed_pkg.sub:os.system", "allowed_pkg.sub:dumps", "allowed_pkg.sub:math.sqrt",
        "allowed_pkg.sub:Kept.attribute", "allowed_pkg.sub:Kept.of_class",
        "allowed_pkg.sub:Kept.__init__", "allowed_pkg.sub:Kept.__class__",
        "allowed_pkg.sub:Kept.mro", "allowed_pkg.sub:Kept.method.__globals__",
        "allowed_pkg.sub:plain.__globals__", "allowed_pkg.sub:plain.__globals__.get",
        "allowed_pkg.sub:plain.func_globals", "allowed_pkg.sub:_private",
        "allowed_pkg.sub:alias", "allowed_pkg.sub:table", "allowed_pkg.sub:half",
        "allowed_pkg.sub:pretender", "allowed_pkg.sub:cached", "allowed_pkg.sub:anything",
        "allowed_pkg.sub:Inner", "allowed_pkg.sub:Kept.Inner.none", "allowed_pkg.sub:",
        "allowed_pkg.sub", ":plain", "", ":", "allowed_pkg.sub:plain:plain",
        "allowed_pkg..sub:plain", ".sub:plain", "allowed_pkg.sub:.plain", "../x:plain",
        "allowed_pkg/sub:plain", "allowed_pkg.sub :plain", "allowed_pkg.nothing:plain",
        "allowed_pkg.broken:plain", "allowed_pkg.script:plain", "allowed_pkg.__main__:plain",
        "__main__:plain", "allowed_pkg.sub:decorate.<locals>.wrapped", "allowed_pkg.sub:<lambda>",
        "allowed_pkg.sub:functools.partial", "allowed_pkg.__init__:plain",
    ],
)  # fmt: skip
def test_everything_else_is_refused_in_words(package: str, name: str) -> None:
    with pytest.raises(JobFailed, match="The worker refused a job: ") as caught:
        find_function(name, [package])

    assert caught.value.error_type == ""


def test_a_module_that_is_not_allowed_is_not_even_imported(package: str) -> None:
    with pytest.raises(JobFailed, match="Start the worker with --allow allowed_pkg_not"):
        find_function("allowed_pkg_not.sub:plain", [package])

    assert not any(name.startswith("allowed_pkg_not") for name in sys.modules)


def test_a_refusal_names_the_module_that_cannot_be_imported(package: str) -> None:
    with pytest.raises(JobFailed, match=r"cannot import 'allowed_pkg\.broken' .*half a module"):
        find_function("allowed_pkg.broken:plain", [package])


@pytest.mark.parametrize(
    "name",
    [
        "paramserver.protocol.pickling:loads", "paramserver.protocol.calls:decode_value",
        "paramserver.protocol:anything", "paramserver.runtime.worker:main",
        "paramserver.transport.security:anything", "paramserver.launchers.local:anything",
        "paramserver.testing.faults:anything", "paramserver.errors:ParamServerError",
        "paramserver.errors:_rebuild", "paramserver:anything", "paramserver.nothing:anything",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "allowed", [[], ["paramserver"], ["paramserver.protocol", "paramserver.errors"]], ids=str
)
def test_of_paramserver_nothing_is_callable_that_is_not_declared(
    name: str, allowed: list[str]
) -> None:
    with pytest.raises(JobFailed):
        find_function(name, allowed)


def test_a_declared_job_of_paramserver_is_always_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    import paramserver.errors

    monkeypatch.setattr(
        paramserver.errors, "__remote_jobs__", ("ConfigError", "JobError.nothing"), raising=False
    )

    assert find_function("paramserver.errors:ConfigError", []) is paramserver.errors.ConfigError
    for name in ("paramserver.errors:JobError.nothing", "paramserver.errors:DataError"):
        with pytest.raises(JobFailed):
            find_function(name, [])


def test_even_a_declared_job_in_a_closed_part_of_paramserver_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import paramserver.protocol.pickling

    monkeypatch.setattr(paramserver.protocol.pickling, "__remote_jobs__", ("loads",), raising=False)

    with pytest.raises(JobFailed, match="no job of paramserver lives in that module"):
        find_function("paramserver.protocol.pickling:loads", ["paramserver"])


# --- on the sender's side ------------------------------------------------------------------------


def local_function() -> Any:
    def inner() -> None:
        pass

    return inner


class Here:
    def method(self) -> None:
        pass


def replaced() -> None:
    pass


KEPT = replaced


def replaced() -> None:  # type: ignore[no-redef]
    pass


@pytest.mark.parametrize("fn", [json.dumps, operator.add, math.sqrt, json.JSONDecoder, Here.method])
def test_a_name_leads_back_to_its_function(fn: Any) -> None:
    module, _, qualname = name_of(fn).partition(":")

    assert operator.attrgetter(qualname)(sys.modules[module]) is fn


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda: None, "it is a lambda or was defined inside of a function"),
        (local_function(), "it is a lambda or was defined inside of a function"),
        (Here().method, "does not lead back to it"),
        (KEPT, "does not lead back to it"),
        (functools.partial(json.dumps), "does not lead back"),
        (Here(), "does not lead back"),
        (json.decoder._decode_uXXXX, "private"),
        (7, "an object of type int cannot be run on another machine"),
    ],
    ids=["lambda", "local", "method", "replaced", "partial", "object", "private", "number"],
)
def test_what_has_no_name_of_its_own_is_refused_with_what_to_do(fn: Any, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words) as caught:
        name_of(fn)

    assert "--allow PACKAGE" in str(caught.value)
    assert "ship_code=True" in str(caught.value)


@pytest.mark.parametrize("module", ["__main__", "not.imported.here"])
def test_a_function_of_a_script_or_of_an_unknown_module_is_refused(module: str) -> None:
    def fn() -> None:
        pass

    fn.__module__, fn.__qualname__ = module, "fn"

    words = "script or notebook" if module == "__main__" else "does not lead back"
    with pytest.raises(LocalProtocolError, match=words):
        name_of(fn)


@pytest.mark.parametrize("name", ["builtins:eval", "os:system", "json:dumps", "runpy:run_path"])
def test_the_standard_library_is_closed_even_when_it_is_allowed(name: str) -> None:
    package = name.partition(":")[0]
    with pytest.raises(JobFailed, match="--allow THAT_MODULE") as caught:
        find_function(name, [package])
    assert f"--allow {package}" not in str(caught.value)
