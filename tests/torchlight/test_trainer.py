import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feeders import Target
from torchlight import checkpoint
from torchlight.evaluator import evaluate, predict
from torchlight.metrics import evaluate_scores
from torchlight.recorder import Recorder
from torchlight.trainer import Trainer, build_optimizer, learning_rate


def options(**changed):
    return SimpleNamespace(**{
        "optimizer": "SGD", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3, "lr_schedule": "step", "step": [3],
        "lr_decay_rate": 0.1, "warm_up_epoch": 2, "num_epoch": 5, "accumulate": 1, "amp": "none", "seed": 1,
        "log_interval": 2, "eval_interval": 2, "save_interval": 1, "freeze_backbone": False, "cuda_graphs": False,
        **changed,
    })  # fmt: skip


def test_step_schedule_and_warm_up():
    config = options(step=[3, 4])
    assert [learning_rate(config, 1.0, e, 0.5) for e in range(5)] == pytest.approx([0.5, 1, 1, 0.1, 0.01])


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_first_step_of_the_optimizers(name):
    p, g, lr, decay = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.3, 0.1, -2.0]), 0.1, 0.5
    parameter = torch.nn.Parameter(p.clone())
    optimizer = build_optimizer(name, [parameter], lr, 0.9, True, decay)
    parameter.grad = g.clone()
    optimizer.step()
    expected = {
        "SGD": p - lr * 1.9 * (g + decay * p),  # Nesterov: the gradient and 0.9 of the momentum, which is the gradient
        "Adam": p - lr * (g + decay * p).sign(),
        "AdamW": (1 - lr * decay) * p - lr * g.sign(),
    }
    torch.testing.assert_close(parameter.detach(), expected[name])


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_learns_and_continues(tmp_path, amp):
    whole = build(tmp_path / "whole", amp=amp)
    whole.fit()
    plain = build(tmp_path / "plain")
    plain.fit()
    losses = [[line["train_loss"] for line in trainer.recorder.history] for trainer in (whole, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=0.2) and losses[0] != losses[1]
    part = build(tmp_path / "part", amp=amp, num_epoch=3)
    part.fit()
    part.recorder.close()
    rest = build(tmp_path / "part", "resume", amp=amp)
    rest.resume(checkpoint.load(tmp_path / "part" / "last.pt"))
    rest.fit()
    assert (rest.scaler.get_scale() > 1) == (amp == "fp16")
    for one, other in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_cosine_goes_to_zero_by_the_step():
    config = options(lr_schedule="cosine", warm_up_epoch=0, num_epoch=10)
    assert learning_rate(config, 2.0, 0, 0) == 2 and learning_rate(config, 2.0, 5, 0) == pytest.approx(1)
    assert learning_rate(config, 2.0, 2, 0.5) == pytest.approx(1 + math.cos(math.pi / 4))
    assert learning_rate(config, 2.0, 9, 0.999) < 1e-6


class Batches:
    """Eight batches of a linear problem with three classes; batch k of epoch e is a function of k and e."""

    def __init__(self, size=4, count=8):
        self.size, self.count = size, count

    def __len__(self):
        return self.count

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        assert state == {}

    def epoch(self, epoch, start=0):
        for step in range(start, self.count):
            generator = torch.Generator().manual_seed(100 * epoch + step)
            x = torch.randn(self.size, 6, generator=generator)
            yield x, Target(x[:, :3].argmax(dim=1)), lambda step=step: [f"clip {step}"]


def build(directory, claim="new", batches=None, model=None, evaluations=None, **changed):
    torch.manual_seed(0)
    model = model or torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 3)
    )
    test = next(Batches(50).epoch(99))

    def evaluate_model():
        score = predict(model, [test[0]])
        if evaluations is not None:
            evaluations.append(score)
        return {"test": evaluate_scores(score, test[1].label.numpy(), [5, 5, 5])}

    def criterion(epoch):
        return lambda logits, target: torch.nn.functional.cross_entropy(logits.float(), target.label)

    return Trainer(
        model,
        batches or Batches(),
        criterion,
        evaluate_model,
        Recorder(directory, claim),
        options(**changed),
        0.1,
        {"note": "x"},
    )


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_training_learns_and_records(tmp_path):
    trainer = build(tmp_path, batches=Batches(32), num_epoch=10, step=[8])
    trainer.fit()
    history = trainer.recorder.history
    assert [line["epoch"] for line in history] == list(range(1, 11))
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"] and history[-1]["test"]["top1"] > 70
    assert ["test" in line for line in history] == [False, True] * 5
    assert history[0]["lr"] == 0.05 and history[-1]["lr"] == pytest.approx(0.01)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 10 and list(tmp_path.glob("events.out.tfevents.*"))
    best = checkpoint.load(tmp_path / "best.pt")
    assert (
        best["epoch"] == trainer.best["epoch"]
        and best["metrics"]["top1"] == trainer.best["top1"]
        and best["note"] == "x"
    )
    assert trainer.best["top1"] == max(line["test"]["top1"] for line in history if "test" in line)


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_resume_is_bit_for_bit(tmp_path, epochs):
    whole = build(tmp_path / "a", eval_interval=1)
    whole.fit()
    first = build(tmp_path / "b", eval_interval=1)
    first.config.num_epoch = epochs
    first.fit()
    first.recorder.close()
    second = build(tmp_path / "b", "resume", eval_interval=1)
    second.resume(checkpoint.load(tmp_path / "b" / "last.pt"))
    second.fit()
    assert torch.equal(weights(whole), weights(second)) and whole.best == second.best

    def untimed(trainer):
        return [
            {k: v for k, v in line.items() if k not in ("clips_per_second", "wait")}
            for line in trainer.recorder.history
        ]

    assert untimed(second) == untimed(whole)
    assert len((tmp_path / "b" / "metrics.jsonl").read_text().splitlines()) == 5


class Stops(Batches):
    """Asks the trainer to stop in the third epoch, as a signal would."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        assert state == {}

    def epoch(self, epoch, start=0):
        for step, batch in enumerate(super().epoch(epoch, start), start):
            if (epoch, step) == (2, 4):
                self.trainer._stop(15, None)
            yield batch


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_signal_stops_in_mid_epoch_and_loses_nothing(tmp_path, accumulate):
    whole = build(tmp_path / "a", accumulate=accumulate)
    whole.fit()
    batches = Stops()
    batches.trainer = build(tmp_path / "b", batches=batches, accumulate=accumulate)
    with pytest.raises(SystemExit) as stop:
        batches.trainer.fit()
    assert stop.value.code == 128 + 15
    saved = checkpoint.load(tmp_path / "b" / "last.pt")
    assert saved["epoch"] == 2 and saved["step"] == (5 if accumulate == 1 else 6)
    batches.trainer.recorder.close()
    second = build(tmp_path / "b", "resume", accumulate=accumulate)
    second.resume(saved)
    second.fit()
    assert torch.equal(weights(whole), weights(second))
    assert second.recorder.history[2]["train_loss"] == pytest.approx(whole.recorder.history[2]["train_loss"])


def test_accumulated_batches_are_one_batch(tmp_path):
    """Without batch norm, four batches of 2 make the step of one batch of 8, and the last two that of one of 4."""

    class Whole(Batches):
        def epoch(self, epoch, start=0):
            for step, (x, target, names) in enumerate(super().epoch(epoch)):
                rows = slice(4 if step == self.count - 1 else 8)
                yield x[rows], Target(target.label[rows]), names

    class Split(Whole):
        def __len__(self):
            return 4 * self.count - 2

        def epoch(self, epoch, start=0):
            for x, target, names in super().epoch(epoch):
                for first in range(0, len(x), 2):
                    rows = slice(first, first + 2)
                    yield x[rows], Target(target.label[rows]), names

    def model():
        torch.manual_seed(0)
        return torch.nn.Linear(6, 3)

    large = build(tmp_path / "a", batches=Whole(8), model=model())
    small = build(tmp_path / "b", batches=Split(8), model=model(), accumulate=4)
    large.fit()
    small.fit()
    torch.testing.assert_close(weights(large), weights(small), atol=1e-5, rtol=1e-5)
    assert [line["lr"] for line in large.recorder.history] == [line["lr"] for line in small.recorder.history]


def test_dropout_draws_anew_in_every_batch(tmp_path):
    drawn = []

    class Model(torch.nn.Linear):
        def forward(self, x):
            if self.training:
                drawn.append(tuple(torch.nn.functional.dropout(torch.ones(64)).tolist()))
            return super().forward(x)

    build(tmp_path, model=Model(6, 3), num_epoch=2, accumulate=2).fit()
    assert len(set(drawn)) == len(drawn) == 16


def test_a_loss_that_is_not_finite_stops_with_its_clips(tmp_path):
    class Poisoned(Batches):
        def epoch(self, epoch, start=0):
            for step, (x, target, names) in enumerate(super().epoch(epoch, start)):
                yield (x * np.nan if (epoch, step) == (1, 2) else x), target, names

    trainer = build(tmp_path, batches=Poisoned())
    with pytest.raises(
        FloatingPointError, match=r"the loss is nan in epoch 2, batch 3, at learning rate 0.1; .*: clip 2"
    ):
        trainer.fit()
    saved = checkpoint.load(tmp_path / "last.pt")
    assert saved["epoch"] == 1 and all(torch.isfinite(value).all() for value in saved["model"].values())


def test_a_run_directory_in_use(tmp_path):
    trainer = build(tmp_path, num_epoch=1)
    trainer.fit()
    trainer.recorder.close()
    with pytest.raises(ValueError, match=r"already holds a run .*--resume continues it, --overwrite"):
        Recorder(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    Recorder(tmp_path, "overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("claim", ["new", "overwrite", "resume", "add"])
def test_two_processes_do_not_write_to_one_run(tmp_path, claim):
    with Recorder(tmp_path / "run") as recorder:
        recorder.save({}, "last.pt" if claim in ("overwrite", "resume") else "mine.pt")
        held = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match="run: another process is writing to it"):
            Recorder(tmp_path / "run", claim)
        assert sorted(tmp_path.rglob("*")) == held
    with Recorder(tmp_path / "run", claim):
        pass


def test_clips_of_a_sample_are_averaged_as_probabilities():
    logits = torch.randn(6, 4)
    score = predict(torch.nn.Identity(), [logits[:4], logits[4:]], num_clips=2)
    expected = logits.softmax(dim=1).view(3, 2, 4).mean(dim=1)
    np.testing.assert_allclose(np.exp(score), expected, rtol=1e-5)
    single = predict(torch.nn.Identity(), [logits])
    np.testing.assert_array_equal(single, logits)


def test_tensor_cores_are_for_models_only(tmp_path):
    """Training and tests let them multiply in TF32; what makes the batches does not."""
    seen = {"model": set(), "batches": set()}

    class Model(torch.nn.Linear):
        def forward(self, x):
            seen["model"].add(torch.backends.cuda.matmul.allow_tf32)
            return super().forward(x)

    class Watching(Batches):
        def epoch(self, *args):
            for batch in super().epoch(*args):
                seen["batches"].add(torch.backends.cuda.matmul.allow_tf32)
                yield batch

    build(tmp_path, batches=Watching(), model=Model(6, 3), num_epoch=1, warm_up_epoch=0).fit()
    assert seen == {"model": {True}, "batches": {False}}


def test_a_batch_that_does_not_fit_is_tested_in_parts():
    class Small(torch.nn.Module):
        sizes = []

        def forward(self, x):
            if len(x) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.sizes.append(len(x))
            return 2 * x

    model, x = Small(), torch.randn(11, 4)
    model.room = 3
    assert np.array_equal(predict(model, [x, x[:2]]), 2 * torch.cat([x, x[:2]]).numpy())
    assert model.sizes == [3, 3, 3, 2, 2]
    model.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        predict(model, [x])


def test_scores_that_are_not_finite():
    with pytest.raises(FloatingPointError, match="not finite"):
        evaluate(np.array([[np.nan, 1.0]]), np.array([0]), [1, 1], (20, 100))


def test_prediction_leaves_the_mode_as_it_was():
    model = torch.nn.Dropout(0.5)
    predict(model, [torch.ones(2, 3)])
    assert model.training
