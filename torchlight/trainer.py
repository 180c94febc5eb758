"""The training loop: schedules, accumulation, checkpoints that continue bit for bit, and a stop that loses nothing."""

import math
import signal
import sys
import time

import torch
from tqdm import tqdm

from .device import bare, counted_seed, tensor_cores
from .distributed import ALONE
from .graphs import GraphedForward
from .metrics import format_summary

AMP = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def build_optimizer(name, parameters, base_lr, momentum, nesterov, weight_decay, fused=True):
    """SGD with momentum, Adam or AdamW. fused: a step is one kernel for many of them."""
    common = {"lr": base_lr, "weight_decay": weight_decay, "fused": fused}
    if name == "SGD":
        return torch.optim.SGD(parameters, momentum=momentum, nesterov=nesterov, **common)
    return {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[name](parameters, **common)


def learning_rate(config, base_lr, epoch, progress):
    """The rate at `progress` (0 to 1) of an epoch.

    Warm-up: epoch e of the first warm_up_epoch runs at base_lr * (e + 1) / warm_up_epoch (CTR-GCN). Then "step": times
    lr_decay_rate at each epoch of `step`; "cosine": down to 0 at num_epoch, by the step.
    """
    warm = config.warm_up_epoch
    if epoch < warm:
        return base_lr * (epoch + 1) / warm
    if config.lr_schedule == "cosine":
        return base_lr * 0.5 * (1 + math.cos(math.pi * (epoch + progress - warm) / (config.num_epoch - warm)))
    return base_lr * config.lr_decay_rate ** sum(epoch >= at for at in config.step)


class Trainer:
    """Train a model over counted batches.

    model      on its devices
    batches    len(batches): batches an epoch; batches.epoch(e, start) yields (x, target, names) from batch `start`;
               its state_dict goes into checkpoints
    criterion  criterion(epoch) -> loss(output, target) -> scalar tensor; output: what the model returns in training,
               logits or a tuple that begins with them
    evaluate   evaluate() -> {split: metrics} with "top1" in each; its first split decides which epoch is the best
    recorder   the run directory; config: see main.py; extra: what every checkpoint carries besides the weights
    team       the processes that share each batch

    last.pt holds everything that resume() needs, after any number of steps. best.pt has the weights of the epoch that
    is best on the first split of evaluate.
    """

    def __init__(self, model, batches, criterion, evaluate, recorder, config, base_lr, extra, team=ALONE):
        self.team = team
        self.model, self.batches, self.criterion, self.evaluate = model, batches, criterion, evaluate
        self.recorder, self.config, self.base_lr, self.extra = recorder, config, base_lr, extra
        self.forward = GraphedForward(model) if config.cuda_graphs else model
        # A fused step of SGD lets the infinities of a gradient that fp16's scaler leaves out into its momentum.
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(
            config.optimizer, learning, base_lr, config.momentum, config.nesterov, config.weight_decay,
            fused=config.amp != "fp16",
        )  # fmt: skip
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.epoch, self.step = 0, 0
        self.best = None  # {"split", "epoch", "top1"}
        self.totals = {"loss": 0.0, "correct": 0, "clips": 0}  # of the epoch so far
        self._signal = None

    # ---- checkpoints

    def state(self):
        return {
            "model": bare(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "batches": self.batches.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "totals": dict(self.totals),
            "history": self.recorder.history,
            **self.extra,
        }

    def resume(self, state):
        """Continue from the state() of a last.pt."""
        bare(self.model).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.batches.load_state_dict(state.get("batches", {}))
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        self.totals = dict(state["totals"])
        self.recorder.rewind(state["history"])

    def save_last(self):
        self.recorder.save(self.state(), "last.pt")

    def weights(self, metrics):
        """A checkpoint for testing: weights, what they were trained with, and what they reach."""
        return {"model": bare(self.model).state_dict(), "epoch": self.epoch, "metrics": metrics, **self.extra}

    # ---- the loop

    def fit(self):
        """Train to num_epoch. SIGTERM and Ctrl-C save last.pt and exit with 128 + the signal's number."""
        handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while self.epoch < self.config.num_epoch:
                self._train_epoch()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _stop(self, number, _frame):
        if self._signal:  # asked twice: now
            raise KeyboardInterrupt
        self._signal = number

    def _asked_to_stop(self):
        """Whether a signal came to any of the processes."""
        return self.team.any(self._signal is not None, self.device)

    def _save_and_exit(self):
        self.save_last()
        self.recorder.log(f"stopped in epoch {self.epoch + 1} after {self.step} batches; --resume continues there")
        raise SystemExit(128 + (self._signal or signal.SIGTERM))

    def _train_epoch(self):
        config, steps = self.config, len(self.batches)
        criterion = self.criterion(self.epoch)
        # Looking at a loss waits for the GPU: there it is done once in log_interval batches.
        look = 1 if self.device.type == "cpu" else config.log_interval
        unseen = []  # (batch, loss, correct, clips, names) since the last look
        source = self.batches.epoch(self.epoch, self.step)
        begin, waited, clips = time.perf_counter(), 0.0, 0
        self.model.train(not config.freeze_backbone)  # a frozen one keeps its statistics
        if config.freeze_backbone:
            bare(self.model).drop_out.train()  # of the classifier
        with self._bar(steps) as bar:
            while self.step < steps:
                first = self.step  # the batches first to end - 1 make one step of the optimizer
                end = min(first + config.accumulate, steps)
                while self.step < end:
                    started = time.perf_counter()
                    x, target, names = next(source)
                    waited += time.perf_counter() - started
                    loss, correct = self._forward_backward(x, target, criterion, share=end - first)
                    unseen.append((self.step, loss, correct, len(target.label), names))
                    clips += len(target.label)
                lr = self._set_learning_rate(first / steps)
                looking = len(unseen) >= look or end == steps
                # Several processes stop together, so they look up together; one alone need not wait for that.
                stopping = end < steps and (looking or self.team.size == 1) and self._asked_to_stop()
                if looking or stopping:
                    self._look(unseen, lr)
                self.scaler.step(self.optimizer)  # of fp16 it leaves out a step whose gradients overflow
                self.scaler.update()
                self.optimizer.zero_grad(set_to_none=True)
                self._report(bar, end - first, lr, clips / (time.perf_counter() - begin))
                if stopping:
                    self._save_and_exit()
        seconds, totals = time.perf_counter() - begin, self.totals
        line = {
            "epoch": self.epoch + 1,
            "lr": lr,
            "train_loss": totals["loss"] / totals["clips"],
            "train_top1": round(100 * totals["correct"] / totals["clips"], 4),
            "clips_per_second": round(clips / seconds, 1),
            "wait": round(waited / seconds, 4),
        }
        self.epoch, self.step = self.epoch + 1, 0
        self.totals = {"loss": 0.0, "correct": 0, "clips": 0}
        self._end_of_epoch(line)

    @tensor_cores()
    def _forward_backward(self, x, target, criterion, share):
        """Add 1 / share of the gradient of the next batch. Returns its loss and number of right answers, as tensors."""
        team, N = self.team, len(x)
        # for dropout: each process has draws of its own
        torch.manual_seed(counted_seed("model", self.config.seed, self.epoch, self.step * team.size + team.rank))
        low, cached = AMP[self.config.amp], not self.config.cuda_graphs
        with torch.autocast(self.device.type, low, enabled=low is not None, cache_enabled=cached):
            output = self.forward(x[team.rows(N)])
        output = team.gather(output, N)
        torch.manual_seed(counted_seed("loss", self.config.seed, self.epoch, self.step))  # all of them the same
        loss = criterion(output, target)
        self.scaler.scale(loss / share).backward()
        logits = output[0] if isinstance(output, tuple) else output
        self.step += 1
        return loss.detach(), (logits.detach().argmax(dim=1) == target.label).float().sum()

    def _set_learning_rate(self, progress):
        lr = learning_rate(self.config, self.base_lr, self.epoch, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _bar(self, steps):
        name = f"epoch {self.epoch + 1}/{self.config.num_epoch}"
        terminal = sys.stderr.isatty() and self.recorder.writes  # a log file gets lines instead, see _report
        return tqdm(total=steps, initial=self.step, desc=name, unit="batch", disable=not terminal, leave=False)

    def _look(self, unseen, lr):
        """Check the losses since the last look, before the next step of the optimizer, and add them up."""
        numbers = torch.stack([torch.stack([loss, correct]) for _, loss, correct, _, _ in unseen]).tolist()
        for (step, _, _, clips, names), (loss, correct) in zip(unseen, numbers, strict=True):
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {loss} in epoch {self.epoch + 1}, batch {step}, at learning rate {lr:g}; the "
                    f"checkpoints of the epochs before are kept; clips of the batch: {', '.join(names())}"
                )
            self.totals["loss"] += loss * clips
            self.totals["correct"] += correct
            self.totals["clips"] += clips
        unseen.clear()

    def _report(self, bar, batches, lr, speed):
        clips = self.totals["clips"]
        loss = f"loss {self.totals['loss'] / clips:.4f}" if clips else "loss …"  # not looked at yet
        bar.set_postfix_str(f"{loss}, lr {lr:.4g}, {speed:.0f} clips/s", refresh=False)
        bar.update(batches)
        every, steps = self.config.log_interval, len(self.batches)
        if bar.disable and self.step // every > (self.step - batches) // every and self.step < steps:
            self.recorder.log(
                f"epoch {self.epoch + 1}  batch {self.step}/{steps}  {loss}  lr {lr:.4g}  {speed:.1f} clips/s"
            )

    def _end_of_epoch(self, line):
        config, last = self.config, self.epoch == self.config.num_epoch
        if not all(torch.isfinite(p).all() for p in self.model.parameters()):
            raise FloatingPointError(
                f"weights are not finite at the end of epoch {self.epoch}; the checkpoints before are kept"
            )
        message = (
            f"epoch {self.epoch}/{config.num_epoch}  loss {line['train_loss']:.4f}  train {line['train_top1']:.2f}  "
            f"lr {line['lr']:.4g}  {line['clips_per_second']} clips/s, {line['wait']:.0%} waiting"
        )
        if last or self.epoch % config.eval_interval == 0:
            results = self.evaluate()
            line.update({split: _scalars(metrics) for split, metrics in results.items()})
            for split, metrics in results.items():
                message += f"\n  {split}: {format_summary(metrics)}"
            split = next(iter(results))
            if self.best is None or results[split]["top1"] > self.best["top1"]:
                self.best = {"split": split, "epoch": self.epoch, "top1": results[split]["top1"]}
                self.recorder.save(self.weights(_scalars(results[split])), "best.pt")
        self.recorder.log(message)
        self.recorder.epoch(line)
        if not last and self._asked_to_stop():
            self._save_and_exit()
        if last or self.epoch % config.save_interval == 0:
            self.save_last()


def _scalars(metrics):
    return {key: value for key, value in metrics.items() if value is None or isinstance(value, int | float)}
