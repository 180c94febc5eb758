import pytest
import torch

from graph import build_graph
from model import build_model
from model.frhead import FRHead
from model.pretrained import from_published, load_published, load_weights
from model.releases import RELEASES

GOLDENS = [  # file, layout, persons, our name
    ("ctrgcn_ucla", "ucla", 1, "ctrgcn"),
    ("ctrgcn_ntu", "ntu", 2, "ctrgcn"),
    ("ctrgcn_pyskl_coco", "coco", 2, "ctrgcn"),
    ("stgcnpp_ntu", "ntu", 2, "stgcn++"),
    ("stgcn_ntu", "ntu", 2, "stgcn"),
    ("stgcn_release_openpose", "openpose", 2, "stgcn"),
    ("agcn_ntu", "ntu", 2, "agcn"),
    ("agcn_release_ntu", "ntu", 2, "agcn"),
    ("agcn_mmaction2_0_ntu", "ntu", 2, "agcn"),
    ("aagcn_ntu", "ntu", 2, "aagcn"),
    ("ctrgcn_baseline_ntu", "ntu", 2, "ctrgcn-baseline"),
    ("posec3d_slowonly_keypoint", "coco", 2, "posec3d"),
    ("msg3d_ntu", "ntu", 2, "msg3d"),
    ("msg3d_pyskl_coco", "coco", 2, "msg3d"),
    ("dgstgcn_pyskl_ntu", "ntu", 2, "dgstgcn"),
    ("shiftgcn_ntu", "ntu", 2, "shiftgcn"),
    ("frhead_ctrgcn_ucla", "ucla", 1, "ctrgcn"),
    ("frhead_stgcn_ucla", "ucla", 1, "ctrgcn-baseline"),
    ("frhead_aagcn_ucla", "ucla", 1, "aagcn"),
    ("frhead_tcagcn_ucla", "ucla", 1, "tcagcn"),
]
VARIANTS = {  # model_args of those that are not the default
    "ctrgcn_pyskl_coco": {"tcn_relu": True},
    "agcn_release_ntu": {"relation": "softmax"},
    "agcn_mmaction2_0_ntu": {"relation": "softmax", "norm": "VC"},
}


def agree(model, x, expected):
    with torch.no_grad():
        logits = model.eval()(x)
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("file", "layout", "persons", "_name"), GOLDENS)
def test_published_networks(golden, file, layout, persons, _name):
    state, x, expected, meta = golden(file)
    model = from_published(state, build_graph(layout), persons)
    unused = sum(value.numel() for key, value in state.items() if "tcagcn" in meta["arch"] and ".conv3." in key)
    assert sum(p.numel() for p in model.parameters()) == meta["params"] - unused
    agree(model, x, expected)


@pytest.mark.parametrize(("file", "layout", "persons", "name"), GOLDENS)
def test_loading_into_a_model_from_a_wrapped_file(golden, tmp_path, file, layout, persons, name):
    state, x, expected, meta = golden(file)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "w.pt")
    model = build_model(name, meta["num_class"], persons, build_graph(layout), **VARIANTS.get(file, {}))
    model = FRHead(model, meta["num_frame"]) if "frhead" in meta["arch"] else model
    load_published(model, tmp_path / "w.pt")
    agree(model, x, expected)


@pytest.mark.parametrize(("file", "layout", "persons"), [("ctrgcn_ucla", "ucla", 1), ("stgcnpp_ntu", "ntu", 2)])
def test_training_normalises_by_the_batch_as_testing_does_by_running_statistics(golden, file, layout, persons):
    """The function of the running statistics is the release's, by its output. Here they are set, layer after layer, to
    the mean and the (biased) variance of one batch: then a test computes what training computes, and what training
    leaves in the buffers is a tenth of these, the variance unbiased, and nine tenths of what was there.
    """
    state, x, _, _ = golden(file)
    model = from_published(state, build_graph(layout), persons).double()
    x = x.double()
    norms = {name: module for name, module in model.named_modules() if hasattr(module, "running_var")}
    old = {name: (norm.running_mean.clone(), norm.running_var.clone()) for name, norm in norms.items()}
    seen = {}

    def see(name, x):
        over = [d for d in range(x.dim()) if d != 1]
        seen[name] = x.mean(over), x.var(over, unbiased=False), x.numel() / x.shape[1]

    hooks = [
        norm.register_forward_hook(lambda _, args, __, name=name: see(name, args[0])) for name, norm in norms.items()
    ]
    with torch.no_grad():
        trained = model.train()(x)
        for hook in hooks:
            hook.remove()
        for name, norm in norms.items():
            mean, variance, n = seen[name]
            torch.testing.assert_close(norm.running_mean, 0.9 * old[name][0] + 0.1 * mean)
            torch.testing.assert_close(norm.running_var, 0.9 * old[name][1] + 0.1 * variance * n / (n - 1))
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
        torch.testing.assert_close(model.eval()(x), trained)


def test_pyskl_names_its_classifier_otherwise(golden):
    state, x, expected, _ = golden("stgcnpp_ntu")
    renamed = {key.replace("cls_head.fc.", "cls_head.fc_cls."): value for key, value in state.items()}
    agree(from_published(renamed, build_graph("ntu"), 2), x, expected)


def test_variants_that_no_shape_shows_are_refused(golden):
    state, _, _, _ = golden("ctrgcn_pyskl_coco")
    with pytest.raises(ValueError, match="they need model_args tcn_relu: true"):
        load_published(build_model("ctrgcn", 8, 2, build_graph("coco")), state)
    state, _, _, _ = golden("ctrgcn_ucla")
    with pytest.raises(ValueError, match="they need model_args tcn_relu: false"):
        load_published(build_model("ctrgcn", 10, 1, build_graph("ucla"), tcn_relu=True), state)
    state, _, _, _ = golden("dgstgcn_pyskl_ntu")
    with pytest.raises(ValueError, match="they need model_args subset_wise: false"):
        load_published(build_model("dgstgcn", 60, 2, build_graph("ntu"), subset_wise=True), state)
    state, _, _, _ = golden("agcn_release_ntu")
    with pytest.raises(ValueError, match="they need model_args relation: softmax"):
        load_published(build_model("agcn", 60, 2, build_graph("ntu")), state)
    with pytest.raises(ValueError, match="they need model_args labeling: spatial"):
        load_published(build_model("agcn", 60, 2, build_graph("ntu", "stgcn_spatial"), relation="softmax"), state)
    with pytest.raises(ValueError, match="they need model_args labeling: spatial"):
        from_published(state, build_graph("ntu", "stgcn_spatial"))
    state, _, _, _ = golden("agcn_mmaction2_0_ntu")
    with pytest.raises(ValueError, match="they need model_args norm: VC"):
        load_published(build_model("agcn", 60, 2, build_graph("ntu"), relation="softmax"), state)


@pytest.mark.parametrize(("file", "layout", "persons", "_name"), GOLDENS)
def test_one_release_only_has_the_signs(golden, file, layout, persons, _name):
    state, _, _, _ = golden(file)
    assert len([name for name, release in RELEASES.items() if release.sign(state)]) == 1


def test_stgcn_takes_the_graph_of_the_file_and_may_lack_importance(golden):
    state, x, _, _ = golden("stgcn_release_openpose")
    state = {key: value for key, value in state.items() if not key.startswith("edge_importance")}
    state["A"] = torch.rand(3, 18, 18)
    model = from_published(state, build_graph("openpose"), 2)
    assert all(torch.equal(block.gcn.A, state["A"]) for block in model.blocks)
    assert all((block.gcn.importance == 1).all() for block in model.blocks)
    with pytest.raises(ValueError, match="20 missing: edge_importance.0, A"):
        from_published({key: value for key, value in state.items() if key != "A"}, build_graph("openpose"), 2)


def test_heads_are_loaded_with_their_backbone_or_left_out_on_request(golden):
    state, x, expected, _ = golden("frhead_ctrgcn_ucla")
    model = build_model("ctrgcn", 10, 1, build_graph("ucla"))
    with pytest.raises(ValueError, match=r"72 unexpected: ren_low.spatio_cl_net.cl_fc.weight"):
        load_published(model, state)
    assert load_published(model, state, ignore=["ren_"]) == []
    agree(model, x, expected)
    with pytest.raises(ValueError, match=r"missing: ren_low.spatio_squeeze"):
        load_published(FRHead(model, 52), {k: v for k, v in state.items() if not k.startswith("ren_")})


def test_what_does_not_fit_is_listed(golden):
    state, _, _, _ = golden("ctrgcn_ucla")
    graph = build_graph("ucla")
    with pytest.raises(ValueError, match=r"1 missing: l3.tcn1.branches.1.3.conv.bias"):
        load_published(
            build_model("ctrgcn", 10, 1, graph),
            {k: v for k, v in state.items() if "l3.tcn1.branches.1.3.conv.b" not in k},
        )
    with pytest.raises(ValueError, match=r"2 of another shape: fc.weight \(10, 256\) instead of \(60, 256\), fc.bias"):
        load_published(build_model("ctrgcn", 60, 1, graph), state)
    with pytest.raises(ValueError, match=r"1 unexpected: extra.weight"):
        from_published({**state, "extra.weight": torch.zeros(1)}, graph, 1)
    with pytest.raises(ValueError, match=r"of another shape: data_bn.weight \(60,\) instead of \(120,\)"):
        from_published(state, graph, 2)
    with pytest.raises(ValueError, match="weights of CTR-GCN, not of STGCNPP"):
        load_published(build_model("stgcn++", 10, 1, graph), state)


@pytest.mark.parametrize(
    ("file", "layout", "key", "shape"),
    [
        ("ctrgcn_ucla", "ucla", "l1.gcn1.convs.0.conv3.weight", (8,)),
        ("ctrgcn_ucla", "ucla", "fc.weight", ()),
        ("msg3d_ntu", "ntu", "sgcn1.0.A_res", (5,)),
        ("ctrgcn_pyskl_coco", "coco", "backbone.net.3.gcn1.A", (17, 17)),
    ],
)
def test_tensors_of_other_dimensions_are_refused(golden, file, layout, key, shape):
    state, _, _, _ = golden(file)
    with pytest.raises(ValueError, match="the weights do not fit the model"):
        from_published({**state, key: torch.zeros(shape)}, build_graph(layout), 1)
    model = from_published(state, build_graph(layout), 1 if layout == "ucla" else 2)
    with pytest.raises(ValueError, match="the weights do not fit the model"):
        load_published(model, {**state, key: torch.zeros(shape)})


def test_unknown_files_are_refused(tmp_path):
    graph = build_graph("ucla")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pt")
    with pytest.raises(ValueError, match="unknown architecture, with keys conv1.weight"):
        from_published(tmp_path / "resnet.pt", graph)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="list.pt: not a state dict"):
        from_published(tmp_path / "list.pt", graph)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match=r"text.pt: not a checkpoint"):
        from_published(tmp_path / "text.pt", graph)
    with pytest.raises(FileNotFoundError):
        from_published(tmp_path / "absent.pt", graph)


class Harmful:
    def __reduce__(self):
        return print, ("code from a checkpoint ran",)


def test_checkpoints_are_data_not_code(tmp_path, capsys):
    torch.save({"fc.weight": Harmful()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="evil.pt"):
        from_published(tmp_path / "evil.pt", build_graph("ucla"))
    assert "ran" not in capsys.readouterr().out


def test_ignored_words_are_of_our_names_first(golden):
    state, _, _, _ = golden("aagcn_ntu")
    model = build_model("aagcn", 7, 2, build_graph("ntu"))
    assert load_published(model, state, ignore=["fc"]) == ["fc.weight", "fc.bias"]  # not its gates, fc1c and fc2c


def test_ignored_weights_keep_their_initial_value(golden):
    state, _, _, _ = golden("ctrgcn_ucla")
    model = build_model("ctrgcn", 60, 1, build_graph("ucla"))
    before = model.fc.weight.clone()
    assert load_published(model, state, ignore=["fc"]) == ["fc.weight", "fc.bias"]
    assert torch.equal(model.fc.weight, before)
    torch.testing.assert_close(model.data_bn.weight, state["data_bn.weight"])


def test_our_own_checkpoints(golden):
    graph = build_graph("ucla")
    source, target = build_model("ctrgcn", 10, 1, graph), build_model("ctrgcn", 5, 1, graph)
    trained = {"config": {}, "class_count": [1] * 10, "classes": list("abcdefghij"), "epoch": 1}
    saved = {"model": source.state_dict(), **trained}
    with pytest.raises(ValueError, match="2 of another shape: fc.weight"):
        load_weights(target, saved)
    load_weights(target, saved, ignore=["fc"])
    assert torch.equal(target.blocks[3].gcn.value.weight, source.blocks[3].gcn.value.weight)
    with pytest.raises(ValueError, match="1 missing: fc.bias"):
        load_weights(source, {"model": {k: v for k, v in saved["model"].items() if k != "fc.bias"}, **trained})
    with pytest.raises(ValueError, match="not a state dict"):  # of someone else
        load_weights(source, {"model": saved["model"], "config": {}})
