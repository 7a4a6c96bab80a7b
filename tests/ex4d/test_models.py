# SPDX-License-Identifier: Apache-2.0
"""Which models there are, what of them is on this machine, and whether it is whole. No torch, no network."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from ex4d.cli import main
from ex4d.errors import InputError, MachineError
from ex4d.models import MODELS, find_weights, look, model_named, with_needs
from ex4d.models.contents import damage
from ex4d.models.record import FileRecord, Record, read_record, write_record
from ex4d.models.registry import WAN_SHARDS
from ex4d.models.verify import verify

DEPTHCRAFTER = MODELS["depthcrafter"]
CRAFTER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


@pytest.fixture(autouse=True)
def _no_weights_here(tmp_path, monkeypatch):
    monkeypatch.setenv("EX4D_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def safetensors(names: tuple[str, ...] = ("weight",)) -> bytes:
    """A file of float32 tensors with two numbers each."""
    header = {name: {"dtype": "F32", "shape": [2], "data_offsets": [8 * i, 8 * i + 8]} for i, name in enumerate(names)}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8 * len(names))


def put(folder: Path, *files: str) -> Path:
    """Whole files with nothing much in them."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".pth", ".ckpt"):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", b"")
        else:
            path.write_bytes(safetensors() if path.suffix == ".safetensors" else b"{}")
    return folder


# ------------------------------------------------------------------------------------------------------ registry


def test_what_a_model_needs_comes_first_and_once():
    assert [model.name for model in with_needs(["draft", "ex4d"])] == ["wan", "ex4d", "draft"]
    assert [model.name for model in with_needs(["depthcrafter"])] == ["svd", "depthcrafter"]


def test_models_are_found_by_name_by_repository_and_depth_models_by_any_name_of_the_hub():
    assert model_named("wan") is model_named("Wan-AI/Wan2.1-I2V-14B-480P")
    other = model_named("someone/Depth-Thing-hf")
    assert (other.what, other.commercial_use) == ("Depth Thing", None)
    with pytest.raises(InputError, match=r"no model 'wann'\. Choose from wan, ex4d, draft"):
        model_named("wann")


def test_every_model_says_what_an_artist_must_know():
    for name, model in MODELS.items():
        assert name == model.name
        assert model.repository.count("/") == 1
        assert all((model.what, model.purpose, model.licence, model.files))
        assert set(model.needs) <= set(MODELS)
        assert set(model.sha256) | set(model.tensors) <= set(model.files)


# ------------------------------------------------------------------------------------------------------- finding


def test_missing_weights_are_named_with_size_licence_command_and_place(tmp_path):
    with pytest.raises(MachineError) as error:
        find_weights(DEPTHCRAFTER)
    message = str(error.value)
    for part in ("DepthCrafter", "3.1 GB", "research", "ex4d models download depthcrafter"):
        assert part in message
    assert str(tmp_path / "models" / "tencent" / "DepthCrafter") in message


def test_weights_are_found_in_the_named_folder_the_models_folder_and_the_cache(tmp_path):
    snapshots = tmp_path / "hub" / "models--tencent--DepthCrafter" / "snapshots"
    old, new = put(snapshots / "a", *CRAFTER_FILES), put(snapshots / "b", *CRAFTER_FILES)
    put(snapshots.parent / "refs", "main").joinpath("main").write_text("b", encoding="utf-8")
    assert find_weights(DEPTHCRAFTER) == new
    assert old.is_dir()
    own = put(tmp_path / "models" / "tencent" / "DepthCrafter", *CRAFTER_FILES)
    assert find_weights(DEPTHCRAFTER) == own
    named = put(tmp_path / "elsewhere", *CRAFTER_FILES)
    assert find_weights(DEPTHCRAFTER, named) == named


def test_half_a_download_is_not_taken_and_what_it_lacks_is_said(tmp_path):
    folder = put(tmp_path / "half", "config.json")
    with pytest.raises(MachineError, match=r"half' diffusion_pytorch_model\*\.safetensors is missing"):
        find_weights(DEPTHCRAFTER, folder)
    put(folder, "diffusion_pytorch_model.safetensors.part")
    assert look(DEPTHCRAFTER, folder).state == "partial"


def test_a_whole_copy_in_the_cache_beats_half_a_one_in_the_models_folder(tmp_path):
    put(tmp_path / "models" / "tencent" / "DepthCrafter", "config.json")
    cached = put(tmp_path / "hub" / "models--tencent--DepthCrafter" / "snapshots" / "a", *CRAFTER_FILES)
    assert look(DEPTHCRAFTER).folder == cached


# ------------------------------------------------------------------------------------------------------ contents


def test_whole_files_are_whole_and_cut_or_foreign_ones_say_what_is_wrong(tmp_path):
    put(tmp_path, "a.safetensors", "b.pth", "c.json")
    assert [damage(tmp_path / name) for name in ("a.safetensors", "b.pth", "c.json")] == [None] * 3

    def cut(name: str, count: int) -> str | None:
        path = tmp_path / f"cut{Path(name).suffix}"
        path.write_bytes((tmp_path / name).read_bytes()[:count])
        return damage(path)

    assert "truncated" in (cut("a.safetensors", -3) or "")
    assert "beginning is damaged" in (cut("a.safetensors", 30) or "")
    assert cut("a.safetensors", 0) == "is empty"
    assert "truncated or damaged" in (cut("b.pth", -5) or "")
    assert cut("c.json", 1) == "is no JSON"
    page = tmp_path / "page.pth"
    page.write_bytes(b"<html>not found</html>")
    assert damage(page) == "is no PyTorch file"


def test_a_truncated_shard_makes_a_model_partial_and_is_named(tmp_path):
    wan = MODELS["wan"]
    folder = put(tmp_path / "wan", *wan.files)
    assert look(wan, folder).state == "complete"
    shard = folder / WAN_SHARDS[3]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(MachineError, match=r"00004-of-00007.safetensors is truncated.*ex4d models download wan"):
        find_weights(wan, folder)


# ----------------------------------------------------------------------------------------------------- verifying


def test_files_are_held_to_the_sums_noted_when_they_were_fetched(tmp_path):
    folder = put(tmp_path / "model", *CRAFTER_FILES)
    weights = folder / CRAFTER_FILES[1]
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    record = Record(DEPTHCRAFTER.repository, "abc", {CRAFTER_FILES[1]: FileRecord(weights.stat().st_size, digest)})
    write_record(folder, record)
    assert read_record(folder, DEPTHCRAFTER.repository) == record
    assert read_record(folder, "another/model") is None
    assert {check.file: check.how for check in verify(DEPTHCRAFTER, folder)} == {
        "config.json": "structure",
        CRAFTER_FILES[1]: "sha256",
    }
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    faults = {check.file: check.fault for check in verify(DEPTHCRAFTER, folder)}
    assert faults["config.json"] is None
    assert "sha256 differs" in (faults[CRAFTER_FILES[1]] or "")


def test_files_that_came_by_hand_are_held_to_published_sums_and_to_their_structure(tmp_path):
    wan = MODELS["wan"]
    folder = put(tmp_path / "wan", *wan.files)
    index = {"weight_map": {"weight": WAN_SHARDS[0], "bias": WAN_SHARDS[1]}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / WAN_SHARDS[6]).unlink()
    faults = {check.file: check.fault or "" for check in verify(wan, folder)}
    assert "sha256 differs" in faults["Wan2.1_VAE.pth"]
    assert (
        "names 1 tensors that are not in its files, for example bias"
        in faults["diffusion_pytorch_model.safetensors.index.json"]
    )
    assert faults[WAN_SHARDS[6]] == "is missing"
    assert faults[WAN_SHARDS[0]] == ""


def test_a_damaged_record_is_no_record(tmp_path):
    (tmp_path / "ex4d-download.json").write_text('{"schema": 1, "repository": "a/b"}', encoding="utf-8")
    assert read_record(tmp_path, "a/b") is None


# -------------------------------------------------------------------------------------------------- command line


def test_the_list_says_what_is_here_and_how_to_fetch_the_rest(tmp_path, capsys):
    put(tmp_path / "models" / "tencent" / "DepthCrafter", *CRAFTER_FILES)
    assert main(["models", "list"]) == 0
    text = capsys.readouterr().out
    assert "complete  depthcrafter: DepthCrafter, 3.1 GB" in text
    assert "no paid work" in text
    assert "fetch it: ex4d models download wan" in text
    assert main(["models", "list", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["depthcrafter"]["state"] == "complete"
    assert entries["wan"]["state"] == "missing"
    assert entries["wan"]["commercial_use"] is True


def test_a_licence_that_limits_paid_work_has_to_be_accepted_before_anything_is_fetched(capsys):
    assert main(["models", "download", "depthcrafter"]) == 2
    shown = capsys.readouterr()
    assert "research and education only" in shown.out
    assert "--accept-licence" in shown.err


def test_verifying_reports_bad_files_with_the_machine_s_exit_code(tmp_path, capsys):
    assert main(["models", "verify"]) == 3
    assert "No weights are on this machine" in capsys.readouterr().err
    folder = put(tmp_path / "models" / "tencent" / "DepthCrafter", *CRAFTER_FILES)
    assert main(["models", "verify"]) == 0
    (folder / CRAFTER_FILES[1]).write_bytes(b"")
    assert main(["models", "verify", "depthcrafter"]) == 3
    assert "diffusion_pytorch_model.safetensors: BAD: is empty" in capsys.readouterr().out


def test_the_doctor_names_the_command_that_fetches_what_is_missing(capsys):
    main(["doctor", "--json"])
    findings = {finding["what"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert not findings["weights wan"]["ok"]
    assert findings["weights wan"]["cure"].startswith("ex4d models download wan (82.3 GB")
    assert findings["weights wan"]["required"] is False
