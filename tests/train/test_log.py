"""What a run says while it trains."""

import sys

from arm.train.log import Log


def test_without_tensorboard_one_line_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    for name in [n for n in sys.modules if n.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    log = Log(tmp_path, "lm", steps=1, start=0)
    log.close()
    assert capsys.readouterr().out.splitlines() == [
        "lm: no TensorBoard files without tensorboard: pip install 'arm-lmm[train]'"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
