"""Old names of settings still work, and runs that were made under them stay complete."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from medsgssl.config.loading import dump, flatten, nest
from medsgssl.config.renamed import RENAMED, RenamedWarning, with_new_names
from medsgssl.methods.registry import configure
from medsgssl.pipeline import stages
from medsgssl.runs.folder import deciding_settings


@pytest.mark.parametrize("rule", RENAMED)
def test_the_value_of_an_old_name_becomes_that_of_a_setting_that_exists(rule: str) -> None:
    method, _, old = rule.rpartition(":")
    new, method = RENAMED[rule], method or "simclr"
    value = flatten(dump(configure(method)))[new]
    tree = {"method_name": method} if new != "method_name" else {}
    with pytest.warns(RenamedWarning, match=f"{old} is now called {new}"):
        renamed = flatten(with_new_names(tree | nest(old, value)))
    assert renamed[new] == value
    assert old not in renamed


def test_an_old_name_of_one_method_is_no_setting_of_another() -> None:
    tree = {"method_name": "direct", "method": {"reconstruction": 1.0}}
    assert with_new_names(tree) == tree


def test_the_keys_of_stages_are_those_of_the_old_names(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SimpleNamespace(key="data", pretrain_key="images")
    config = configure("simclr")
    now = stages.stage_keys(config, data, None)
    older = deciding_settings(dump(config))
    older["method.reconstruction"] = older.pop("method.lambda_reconstruction")
    monkeypatch.setattr(stages, "_NAMED_IN_KEYS", {})
    monkeypatch.setattr(stages, "deciding_settings", lambda tree: older)
    assert stages.stage_keys(config, data, None) == now
