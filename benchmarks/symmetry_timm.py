"""The rescaling group over timm: which architectures it is found for, how large it is, and whether it holds.

    python benchmarks/symmetry_timm.py            # all below, some minutes
    python benchmarks/symmetry_timm.py resnet18   # one

Weights and norm statistics are random and perturbed, so that every parameter has an effect. Each network is evaluated
in float64 before and after random elements of both groups. Prints one Markdown row per network as soon as it is known,
and a summary. Nothing is downloaded.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sharpbench import InvalidInput
from sharpbench.symmetry import Scope, rescaling_group
from sharpbench.symmetry.float64_check import Float64Check

NAMES = """
    beit_base_patch16_224 botnet26t_256 halonet26t repvgg_a0 gernet_s cait_xxs24_224 coat_lite_tiny coat_tiny
    convit_tiny convmixer_1024_20_ks9_p14 convnext_atto convnextv2_atto crossvit_tiny_240 darknet17 cspresnet50
    davit_tiny deit_tiny_patch16_224 deit3_small_patch16_224 densenet121 dla34 dpn68 edgenext_xx_small
    efficientformer_l1 efficientformerv2_s0 efficientnet_b0 mixnet_s tinynet_e mnasnet_small efficientvit_b0
    efficientvit_m0 eva02_tiny_patch14_224 fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_050
    ghostnetv2_100 hardcorenas_a hgnetv2_b0 hiera_tiny_224 hrnet_w18_small inception_next_atto inception_v3
    inception_v4 levit_128s mambaout_femto coatnet_nano_rw_224 maxvit_rmlp_pico_rw_256 poolformer_s12 caformer_s18
    mixer_s32_224 resmlp_12_224 gmlp_ti16_224 mobilenetv2_050 mobilenetv3_small_050 lcnet_035 mobilevit_xxs
    mobilevitv2_050 mvitv2_tiny nest_tiny nf_resnet26 dm_nfnet_f0 pit_ti_224 pvt_v2_b0 rdnet_tiny regnetx_002
    regnety_002 regnetz_005 repghostnet_050 repvit_m1 res2net50_14w_8s resnest14d resnet18 resnet26d seresnet18
    resnetv2_18 resnetv2_50 rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050
    swiftformer_xs swin_tiny_patch4_window7_224 swinv2_cr_tiny_ns_224 swinv2_tiny_window8_256 tiny_vit_5m_224
    tnt_s_legacy_patch16_224 tresnet_m twins_svt_small twins_pcpvt_small vgg11 vgg11_bn visformer_tiny
    vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 vit_relpos_small_patch16_224 vitamin_small_224 volo_d1_224
    ese_vovnet19b_dw xception41 xcit_nano_12_p16_224 test_vit test_vit2 test_resnet test_convnext test_convnext2
    test_efficientnet test_nfnet test_mambaout test_maxvit test_byobnet
"""
SMALL = 128
"""Edge of the images for networks that accept any size; others get their fixed size."""
BOUND = 1e-9


@dataclass(frozen=True)
class Row:
    """The result on one network; `refused` is the reason if there is none."""

    name: str
    family: str
    parameters: int = 0
    dimensions: tuple[int, ...] = ()
    changes: tuple[float, ...] = ()
    unknown: tuple[str, ...] = ()
    seconds: tuple[float, ...] = ()
    refused: str = ""

    @property
    def markdown(self) -> str:
        """One row of the table."""
        if self.refused:
            return f"| {self.name} | {self.family} | | | | | | refused: {self.refused} |"
        layer, unit = self.dimensions
        changed = " / ".join(f"{change:.0e}" for change in self.changes)
        took = " / ".join(f"{seconds:.1f}" for seconds in self.seconds)
        size = f"{self.parameters / 1e6:.1f}"
        cells = (self.name, self.family, size, layer, unit, changed, took, " ".join(self.unknown))
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def build(name: str) -> tuple[nn.Module, Tensor, str]:
    """The network with perturbed weights in float64 and eval mode, two images, and its module in timm."""
    import timm
    from timm.models import model_entrypoint

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval().double()
    generator = torch.Generator().manual_seed(1)
    for key, value in model.named_buffers():
        if key.endswith("running_mean"):
            value.normal_(0, 0.3, generator=generator)
        elif key.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
    config = model.default_cfg
    channels, height, width = config["input_size"]
    if not config.get("fixed_input_size") and not config.get("min_input_size"):
        height, width = min(height, SMALL), min(width, SMALL)
    images = torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)
    return model, images, model_entrypoint(name).__module__.rpartition(".")[2]


def examine(name: str) -> Row:
    """Both groups of one network, and how much random elements of them change its function."""
    model, images, family = build(name)
    trial = Float64Check.of(model, images, generator=torch.Generator().manual_seed(3))

    def function(state: Mapping[str, Tensor]) -> Tensor:
        for part in model.modules():  # some of timm's attention keeps tensors made of earlier weights
            getattr(part, "attention_bias_cache", {}).clear()
        return trial.outputs(state)

    scopes: tuple[Scope, Scope] = ("layer", "unit")
    dimensions: list[int] = []
    changes: list[float] = []
    seconds: list[float] = []
    unknown: tuple[str, ...] = ()
    for scope in scopes:
        start = time.perf_counter()
        try:
            group = rescaling_group(model, images, scope=scope)
        except InvalidInput as error:
            return Row(name, family, refused=str(error)[:100])
        seconds.append(time.perf_counter() - start)
        dimensions.append(group.dimension)
        changes.append(group.verify(function, trial.state, generator=torch.Generator().manual_seed(2), elements=2))
        unknown = group.unknown_operators
    size = sum(value.numel() for value in model.parameters())
    return Row(name, family, size, tuple(dimensions), tuple(changes), unknown, tuple(seconds))


def rows(names: list[str]) -> Iterator[Row]:
    """One row per network, also if it fails."""
    for name in names:
        try:
            yield examine(name)
        except Exception as error:  # a network that timm cannot build must not stop the survey
            yield Row(name, "", refused=f"{type(error).__name__}: {str(error).splitlines()[0][:100]}")


def importable_timm() -> object:
    """Import timm with CPU torch, for which torchvision lacks two compiled operators that timm never uses."""
    try:
        import timm
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return timm


def main() -> int:
    """Print the table and the summary; 1 if a single change exceeds the bound."""
    kept = importable_timm()  # a library's definitions go with the object
    warnings.simplefilter("ignore")
    print("| network | timm module | M parameters | layer | unit | changes layer / unit | seconds | unknown |")
    print("|---|---|---|---|---|---|---|---|")
    found: list[Row] = []
    for row in rows(sys.argv[1:] or NAMES.split()):
        print(row.markdown, flush=True)
        found.append(row)
    del kept
    good = [row for row in found if not row.refused]
    changes = [change for row in good for change in row.changes]
    print()
    print(f"{len(good)} of {len(found)} networks, {len({row.family for row in good})} of timm's modules")
    if good:
        print(f"largest change of the function: {max(changes):.1e}; above {BOUND}: {sum(c > BOUND for c in changes)}")
        print(f"networks without an unknown operator: {sum(not row.unknown for row in good)}")
    return int(any(not change <= BOUND for change in changes))


if __name__ == "__main__":
    sys.exit(main())
