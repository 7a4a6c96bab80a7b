# SPDX-License-Identifier: Apache-2.0
"""Learning: what is learned from, that it is learned, and that a run goes on exactly where it stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffsynth.diffusion.flow_match import FlowMatchScheduler
from tiny_training import CLIPS, SHAPE, run, tiny_config, tiny_lesson, tiny_network, tiny_trainer
from torch.testing import assert_close

from ex4d.errors import Cancelled, InputError, MachineError, StorageError
from ex4d.generation.wan.finite import NonFiniteError
from ex4d.training.checkpoints import newest_checkpoint, read_checkpoint
from ex4d.training.loss import flow_losses, noise_levels, noisy
from ex4d.training.order import draw_at, sample_at
from ex4d.training.stopping import StopRequest


def test_noise_levels_weights_and_targets_are_those_that_wan_was_trained_with():
    theirs = FlowMatchScheduler("Wan")
    theirs.set_timesteps(1000, training=True)
    levels = noise_levels()
    assert torch.equal(levels.sigmas, theirs.sigmas)
    assert torch.equal(levels.timesteps, theirs.timesteps)
    assert_close(levels.weights, theirs.linear_timesteps_weights)
    clean, noise, answer = torch.randn(3, 1, *SHAPE)
    at = 300
    timestep = levels.timesteps[at]
    assert_close(noisy(clean, noise, levels.sigmas[at : at + 1]), theirs.add_noise(clean, noise, timestep))
    truth = theirs.training_target(clean, noise, timestep)
    expected = torch.nn.functional.mse_loss(answer, truth) * theirs.training_weight(timestep)
    assert_close(flow_losses(answer, clean, noise, levels.weights[at : at + 1])[0], expected)


def test_every_epoch_shows_every_clip_once_in_another_order():
    epochs = [[sample_at(7 * epoch + place, 7, seed=1) for place in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[0] != [sample_at(place, 7, seed=2) for place in range(7)]


def test_a_position_decides_its_noise():
    levels = noise_levels()
    one, again, other = (draw_at(place, torch.Size(SHAPE), levels, seed=3) for place in (5, 5, 6))
    assert torch.equal(one.noise, again.noise)
    assert one.timestep == again.timestep
    assert abs(float((one.noise * other.noise).mean())) < 0.2
    assert_close(one.timestep, one.sigma * 1000)


def test_the_loss_falls_on_a_clip_that_is_learned_by_heart(tmp_path):
    config = tiny_config(tmp_path, steps=45, save_every=100, learning_rate=2e-2, validate_every=15)
    trainer = tiny_trainer(config, clips=1, read=lambda numbers: tiny_lesson([0] * len(numbers)), held_out=1)
    before = trainer.validate()
    run(trainer)
    assert trainer.validate() < 0.7 * before
    lines = [json.loads(line) for line in (config.out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 46))
    assert [line["step"] for line in lines if "validation_loss" in line] == [15, 30, 45]


def test_a_run_goes_on_bit_for_bit_where_it_stopped(tmp_path):
    straight = tiny_trainer(tiny_config(tmp_path / "straight", accumulation=2))
    run(straight)
    config = tiny_config(tmp_path / "halves", accumulation=2)
    run(tiny_trainer(replace(config, steps=3)))
    second = tiny_trainer(config)
    assert second.resume() == config.out / "step-00000003"
    assert second.clips_seen == 12
    run(second)
    first, again = (read_checkpoint(newest_checkpoint(trainer.config.out)) for trainer in (straight, second))
    assert first.state == again.state
    for part in ("weights", "ema", "optimiser"):
        ours, theirs = getattr(first, part), getattr(again, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not torch.equal(first.ema[name], first.weights[name]) for name in first.weights)


def test_checkpointing_of_gradients_changes_nothing(tmp_path):
    losses = []
    for checkpointing in (True, False):
        trainer = tiny_trainer(tiny_config(tmp_path), tiny_network(checkpointing=checkpointing, live=True))
        lesson, draws = trainer._batch_at(0)
        trainer._losses(lesson, draws).mean().backward()
        losses.append({name: parameter.grad for name, parameter in trainer.parameters.items()})
    assert_close(losses[0], losses[1])


@pytest.mark.filterwarnings("ignore")  # of torch's own compiler
def test_compiled_blocks_learn_the_same_and_go_on_bit_for_bit(tmp_path):
    """One test for both: the compiler takes most of a minute."""
    given = {"compiled": True, "save_every": 1, "steps": 2}
    straight = tiny_trainer(tiny_config(tmp_path / "straight", **given), tiny_network(live=True, compiled=True))
    lesson = tiny_lesson([0, 1])
    plain = tiny_network(live=True)
    answers = [
        network(lesson.clean, torch.tensor([900.0, 300.0]), lesson.seen, lesson.words)
        for network in (straight.network, plain)
    ]
    assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-5)
    assert not torch.equal(*answers)  # it did compile
    run(straight)
    config = tiny_config(tmp_path / "halves", **given)
    run(tiny_trainer(replace(config, steps=1), tiny_network(live=True, compiled=True)))
    second = tiny_trainer(config, tiny_network(live=True, compiled=True))
    second.resume()
    run(second)
    assert all(torch.equal(straight.ema[name], second.ema[name]) for name in straight.ema)
    with pytest.raises(InputError, match="compiled was True"):
        tiny_trainer(replace(config, compiled=False)).resume()


def test_runs_from_before_a_setting_existed_go_on(tmp_path):
    config = tiny_config(tmp_path, steps=1)
    run(tiny_trainer(config))
    path = newest_checkpoint(config.out) / "state.json"
    state = json.loads(path.read_text())
    del state["settings"]["compiled"]
    path.write_text(json.dumps(state))
    assert tiny_trainer(config).resume() == path.parent
    with pytest.raises(InputError, match="compiled was False"):
        tiny_trainer(replace(config, compiled=True)).resume()


def test_bfloat16_weights_learn_with_float32_gradients_near_those_of_float32():
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        network = tiny_network(dtype, live=True)
        lesson = tiny_lesson([0, 1])
        answer = network(lesson.clean, torch.tensor([900.0, 300.0]), lesson.seen, lesson.words)
        assert answer.dtype == torch.float32
        answer.square().mean().backward()
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        assert {parameter.grad.dtype for parameter in learning} == {torch.float32}
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in learning]))
    exact, rounded = gradients
    assert (exact - rounded).norm() < 0.1 * exact.norm()


def processes(folder: Path, *sharding: str) -> None:
    """Run `tiny_training` in two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([*map(str, Path(__file__).parents[1:3]), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, str(Path(__file__).with_name("tiny_training.py")), str(folder), *sharding]
    running = [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)


def test_two_processes_learn_what_one_does_with_their_batches_together(tmp_path):
    alone = tiny_trainer(tiny_config(tmp_path / "alone", batch_size=2, steps=3), tiny_network(live=True), held_out=3)
    run(alone)
    processes(tmp_path, "none", "full")
    expected = read_checkpoint(newest_checkpoint(alone.config.out))
    judged = validation_losses(alone.config.out)
    for sharding in ("none", "full"):
        out = tmp_path / sharding / "run"
        found = read_checkpoint(newest_checkpoint(out))
        assert found.state.clips_seen == expected.state.clips_seen
        for part in ("weights", "ema"):
            assert_close(getattr(found, part), getattr(expected, part), atol=1e-5, rtol=0)
        assert validation_losses(out) == pytest.approx(judged, rel=1e-4)
    alone_again = tiny_trainer(replace(alone.config, out=out, steps=4), held_out=3)
    assert alone_again.resume() == out / "step-00000003"
    run(alone_again)


def validation_losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["validation_loss"] for line in lines if "validation_loss" in line]


def test_a_loss_that_is_no_number_stops_the_run_and_says_the_step(tmp_path):
    calls = []

    def read(numbers):
        calls.append(numbers)
        lesson = tiny_lesson(numbers)
        return lesson._replace(clean=lesson.clean * float("nan")) if len(calls) == 5 else lesson

    trainer = tiny_trainer(tiny_config(tmp_path), read=read)
    with pytest.raises(NonFiniteError, match="step 5 of 6"):
        run(trainer)
    assert newest_checkpoint(trainer.config.out).name == "step-00000003"
    assert all(torch.isfinite(parameter).all() for parameter in trainer.parameters.values())


@pytest.mark.parametrize("how", ["signal", "progress"])
def test_a_run_that_is_stopped_is_saved_first_and_goes_on(tmp_path, how):
    config = tiny_config(tmp_path, save_every=100)

    def stop(report):
        if report.i == 2 and how == "signal":
            os.kill(os.getpid(), signal.SIGINT)
        elif report.i == 2:
            raise Cancelled

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Cancelled, match="after step 3 of 6"):
        run(tiny_trainer(config), progress=stop)
    assert signal.getsignal(signal.SIGINT) is before
    again = tiny_trainer(config)
    assert again.resume().name == "step-00000003"


def test_a_second_ctrl_c_ends_at_once_but_not_the_echo_of_the_first(monkeypatch):
    with StopRequest() as stop:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.asked
        monkeypatch.setattr("ex4d.training.stopping.SAME_S", 0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_does_not_go_on_with_other_settings_or_other_clips(tmp_path):
    config = tiny_config(tmp_path, steps=3)
    run(tiny_trainer(config))
    with pytest.raises(InputError, match="seed was 0"):
        tiny_trainer(replace(config, seed=1)).resume()
    with pytest.raises(InputError, match="its clips were others"):
        tiny_trainer(config, clips=CLIPS + 1).resume()
    assert tiny_trainer(replace(config, steps=9, save_every=1, batch_size=1, accumulation=2)).resume()


def test_only_the_newest_checkpoints_stay_and_a_torn_one_does_not_count(tmp_path):
    config = tiny_config(tmp_path, save_every=1, keep=2)
    run(tiny_trainer(config))
    torn = config.out / "step-00000007"
    torn.mkdir()
    assert sorted(path.name for path in config.out.glob("step-*")) == [
        "step-00000005",
        "step-00000006",
        "step-00000007",
    ]
    assert newest_checkpoint(config.out).name == "step-00000006"
    assert not list(config.out.glob(".*"))


def test_a_damaged_checkpoint_and_a_folder_that_cannot_be_written_are_said(tmp_path):
    config = tiny_config(tmp_path, steps=1)
    run(tiny_trainer(config))
    part = config.out / "step-00000001" / "ema.safetensors"
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(MachineError, match=r"ema\.safetensors.*truncated.*Remove its folder"):
        tiny_trainer(config).resume()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot be written"):
        run(tiny_trainer(replace(config, out=tmp_path / "file")))
    trainer = tiny_trainer(replace(config, out=tmp_path / "other"))
    run(trainer)
    trainer.config = replace(config, out=tmp_path / "file")
    with pytest.raises(StorageError, match="cannot be written"):
        trainer.save()
