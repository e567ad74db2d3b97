"""The command line starts quickly, explains itself, and fails with one clear message."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from medsgssl.cli.app import main
from medsgssl.data.synthetic.dataset import generate_phantoms
from medsgssl.methods.index import method_index
from medsgssl.methods.registry import measured_costs


def medsgssl(*arguments: str, columns: int = 200) -> int:
    """Run the command line in this process and return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["medsgssl", *arguments])
        patch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("arguments", [["-m", "medsgssl", "--help"], ["-c", "import medsgssl"]])
def test_help_and_import_stay_under_a_second_of_cpu(arguments: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


COMMANDS = ["run", "pretrain", "finetune", "evaluate", "report", "demo"]
COMMANDS += ["catalog", "masks", "study", "phantom", "methods", "config"]


def test_help_of_every_command_imports_no_heavy_library() -> None:
    code = f"""
import sys
from medsgssl.cli.app import app
for command in [[], *([name] for name in {COMMANDS!r})]:
    try:
        app([*command, "--help"])
    except SystemExit as end:
        assert not end.code, command
    heavy = {{"torch", "pandas", "cv2", "timm", "matplotlib", "lightning_fabric"}}
    heavy &= set(sys.modules)
    assert not heavy, (command, heavy)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_methods_lists_every_method_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert medsgssl("methods") == 0
    shown = capsys.readouterr().out
    for name in ("simclr", "masked-contrastive", "direct"):
        assert name in shown
    assert "Chen et al." in shown
    costs, _ = measured_costs()
    for cost in costs.values():
        assert f"{cost:.1f} x" in shown


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_list_of_methods_breaks_no_word_and_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    assert medsgssl("methods", columns=columns) == 0
    shown = capsys.readouterr().out
    for name, entry in method_index().items():
        head = next(line for line in shown.splitlines() if line.startswith(f"{name} "))
        assert entry.backbone in head.split()
        for text in (entry.summary, entry.citation):
            assert text in " ".join(shown.split())
    prose = [line for line in shown.splitlines() if line.startswith("  ")]
    assert max(map(len, prose)) <= columns


@pytest.mark.parametrize("command", ["run", "pretrain"])
def test_a_further_data_set_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    data = generate_phantoms(tmp_path / "data", 40, size=32)
    status = medsgssl(
        command, "simclr", "--data", str(data), "--extra-data", str(tmp_path / "absent"),
        "--out", str(tmp_path / "run"), "--set", "encoder.pretrained=false",
        "--set", f"data.cache_dir={tmp_path / 'cache'}", "--set", "data.img_size=32",
    )  # fmt: skip
    assert status == 2
    assert "absent is not a folder" in capsys.readouterr().err.replace("\n", "")


def test_config_prints_every_setting_with_the_documented_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert medsgssl("config", "masked-contrastive") == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree["data"]["img_size"] == 224
    assert tree["data"]["batch_size"] == 64
    assert tree["data"]["num_workers"] == "auto"
    assert tree["data"]["cache_masks"] is True
    assert tree["encoder"]["name"] == "mobilenetv2_100"
    assert tree["encoder"]["pretrained"] is True
    for stage in ("pretrain", "finetune"):
        assert tree[stage]["epochs"] == 50
    assert (tree["pretrain"]["lr"], tree["finetune"]["lr"]) == ("auto", 1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["config", "simclrr"], "there is no method 'simclrr'"),
        (["config", "simclr", "--set", "data.imgsize=64"], "data.imgsize: no such setting"),
        (["config", "simclr", "--set", "data.img_size=63"], "data.img_size=63"),
        (["config", "simclr", "--set", "method.mask=1"], "method.mask: no such setting"),
        (["config", "simclr", "--set", "seed"], "is not KEY=VALUE"),
        (["run", "simclr", "--out", "nowhere/run", "--data", "nowhere/data",
          "--set", "encoder.pretrained=false"], "nowhere/data"),
        (["evaluate", "nowhere/run"], "nowhere/run holds no run"),
    ],
)  # fmt: skip
def test_mistakes_get_one_message_and_no_traceback(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert medsgssl(*arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Fix:" in shown
    assert "Traceback" not in shown


def test_an_interrupt_says_what_the_same_command_does_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medsgssl.data.synthetic.dataset.generate_phantoms", interrupt)
    assert medsgssl("phantom", str(tmp_path / "set"), "--count", "2") == 130
    assert "The same command continues" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["run", "simclr", "--dta", "x"],
            "run` has no option --dta; did you mean --data?",
        ),
        (["masks", "build", "--ot", "x"], "has no option --ot; did you mean --out?"),
        (["catalog", "x", "--qwerty"], "`medsgssl catalog` has no option --qwerty\n"),
        (["rnu", "simclr"], "no such command 'rnu'. Did you mean 'run'?"),
        (["run", "simclr"], "missing option '--out'"),
        (["phantom", "x", "--count", "ten"], "invalid value for '--count'"),
        (["export", "x", "--to", "timn", "--out", "y"], "did you mean timm?"),
    ],
)
def test_mistakes_in_typing_are_printed_as_every_error_is(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert medsgssl(*words) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Error: ")
    assert said in shown
    assert "Fix: " in shown
