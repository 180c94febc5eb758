import pytest
import torch

from torchlight.device import counted_generator, counted_seed, parse_device


def test_counted_draws():
    numbers = {
        counted_seed(purpose, seed, epoch, step)
        for purpose in ("a", "b")
        for seed in range(4)
        for epoch in range(4)
        for step in range(4)
    }
    assert len(numbers) == 2 * 4**3
    first, again = (torch.rand(3, generator=counted_generator("x", 5, 1)) for _ in range(2))
    assert torch.equal(first, again)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert parse_device([]) == parse_device(["cpu"]) == [torch.device("cpu")]
    assert parse_device([0, "1"]) == [torch.device("cuda:0"), torch.device("cuda:1")]
    for words, message in (
        (["gpu"], "takes cpu or the numbers"),
        ([2], "has 2 GPUs"),
        ([0, 0], "twice"),
        (["cpu", 0], "takes cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_device(words)
