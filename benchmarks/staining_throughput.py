"""How fast whole slides are stained, beside MONAI's sliding window; seams; memory by size of the slide.

    .venv/bin/python benchmarks/staining_throughput.py [--pixels 1024] [--repeat 3] [--threads 1 2] [--memory]

Speed: the network of the house (24 wide, 4 levels, batch normalisation folded into the convolutions,
channels last) through the tiled engine, beside ``SlidingWindowInferer`` (256 pixels, overlap a quarter,
Gaussian) with MONAI's ``BasicUNet`` as it comes (InstanceNorm), on the same random tissue. Two more rows
tell the engine's share from the network's: the house's engine with a BasicUNet in which only the
normalisation was exchanged, and the house's network without pixel folding. Runs take turns; each
figure is the best of N. Weights are untrained, which changes no speed. Processor seconds are given
beside wall seconds because other work disturbs them less.

Seams: largest difference, in grey levels, of the tiled engine from the whole image in one call.
Memory: peak resident memory of a process that stains a slide file of 4k and of 16k pixels a side.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from clinimm.modalities.pathology.resolution import Resolution
from clinimm.nn.stain.generator import GeneratorSettings
from clinimm.staining.codec import Codec
from clinimm.staining.plan import Block
from clinimm.staining.run_block import StainerLike, folded, run_block
from clinimm.staining.slide_grid import SlideGrid, grid_of
from clinimm.staining.stainer import Stainer, StainerSpec
from clinimm.staining.whole_slide import SlideSource, StainSettings, plan_for, stain_slide
from clinimm.tasks.virtual_staining import StainTask

UM = 0.5
FEATURES = (24, 24, 48, 96, 192, 24)


@dataclass(frozen=True)
class Picture:
    """Pixels in memory as a view of a slide."""

    pixels: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def resolution(self) -> Resolution:
        return Resolution.of(UM)

    def read(self, box: tuple[int, int, int, int]) -> np.ndarray:
        left, top, right, bottom = box
        return self.pixels[top:bottom, left:right]


def tissue(side: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.random((side // 8 + 1, side // 8 + 1, 1)).repeat(8, 0).repeat(8, 1)[:side, :side]
    noise = generator.normal(0, 12, (side, side, 3))
    return np.clip(np.array([200, 120, 170]) * (0.6 + 0.4 * coarse) + noise, 0, 255).astype(np.uint8)


def house(fold: int = 2) -> StainerLike:
    torch.manual_seed(0)
    settings = GeneratorSettings(stains=1, width=24, levels=4, fold=fold)
    stainer = Stainer(StainerSpec(StainTask(("KI67",)), "HE", UM, "unet", settings, 1, None, {}))
    for part in stainer.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
        if isinstance(part, nn.Conv2d) and float(part.weight.detach().abs().max()) == 0:
            nn.init.normal_(part.weight, std=0.05)  # heads start at zero, and would hide every seam
    return folded(stainer.eval())  # type: ignore[return-value]  # a copy, of the same class


class MonaiStainer(nn.Module):
    """MONAI's BasicUNet with batch normalisation, as the tiled engine wants it."""

    stride = 16
    halo = 96  # ten 3 x 3 convolutions down and eight up, over five levels

    def __init__(self) -> None:
        super().__init__()
        from monai.networks.nets import BasicUNet

        torch.manual_seed(0)
        self.network = BasicUNet(2, 3, 3, FEATURES, norm="batch", act="relu")
        self.spec = SimpleNamespace(stains=("KI67",), resolution_um=UM)
        self.digest = "none"

    def forward(self, image: Tensor, *unused: object) -> SimpleNamespace:
        colour = self.network(image)
        return SimpleNamespace(colour=colour, uncertainty=colour[:, 0], feature_map=colour[:, :, ::16, ::16])


def tiled(stainer: StainerLike, pixels: np.ndarray, block: int) -> Callable[[], object]:
    """The engine over a whole picture: reading, running, cutting, rounding."""
    grid = SlideGrid(Picture(pixels))
    plan = plan_for(grid, stainer, block)

    def work() -> None:
        for number in range(plan.bands):
            for one in plan.band(number):
                run_block(stainer, grid.read(plan.run(one)), one, plan, 0)

    return work


def sliding(pixels: np.ndarray) -> Callable[[], object]:
    """MONAI's inferer with MONAI's network, both as they come."""
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import BasicUNet

    torch.manual_seed(0)
    network = BasicUNet(2, 3, 3, FEATURES).eval()
    inferer = SlidingWindowInferer(256, sw_batch_size=1, overlap=0.25, mode="gaussian")

    def work() -> None:
        with torch.inference_mode():
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div_(255).contiguous()
            inferer(image, network)

    return work


def measure(works: dict[str, Callable[[], object]], repeat: int) -> dict[str, tuple[float, float]]:
    """Least wall and least processor seconds of each; they take turns."""
    best = dict.fromkeys(works, (float("inf"), float("inf")))
    for turn in range(repeat + 1):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            spent = (time.perf_counter() - wall, time.process_time() - cpu)
            if turn:  # the first is for warming up
                best[name] = (min(best[name][0], spent[0]), min(best[name][1], spent[1]))
    return best


def speed(side: int, repeat: int, threads: list[int], block: int) -> None:
    pixels = tissue(side)
    monai_network = folded(MonaiStainer().eval())
    works = {
        "MONAI sliding window, BasicUNet (InstanceNorm)": sliding(pixels),
        "engine, U-Net of the house": tiled(house(), pixels, block),
        "engine, BasicUNet with BatchNorm": tiled(monai_network, pixels, block),  # type: ignore[arg-type]
        "engine, U-Net of the house without folding": tiled(house(fold=1), pixels, block),
    }
    for count in threads:
        torch.set_num_threads(count)
        found = measure(works, repeat)
        base = next(iter(found.values()))
        print(f"{count} threads, {side}^2 pixels, blocks of {block}, load {os.getloadavg()[0]:.1f}")
        for name, (wall, cpu) in found.items():
            megapixels = side * side / 1e6
            print(
                f"  {name:<48} {megapixels / wall:6.2f} Mpx/s ({base[0] / wall:5.2f} x)   "
                f"{megapixels / cpu:6.2f} Mpx a processor second ({base[1] / cpu:5.2f} x)",
                flush=True,
            )


def seams(side: int, block: int) -> None:
    """Largest difference of colour and of expected error, tiled against whole."""
    pixels, stainer = tissue(side, seed=1), house()
    grid = SlideGrid(Picture(pixels))
    plan, whole = plan_for(grid, stainer, block), plan_for(grid, stainer, -(-side // 256) * 256)
    once = _raw(stainer, grid, whole.run(Block(0, 0, side, side)))
    halo, worst = plan.halo, 0.0
    for number in range(plan.bands):
        for one in plan.band(number):
            part = _raw(stainer, grid, plan.run(one))[:, halo : halo + one.rows, halo : halo + one.columns]
            expected = once[:, halo + one.top : halo + one.bottom, halo + one.left : halo + one.right]
            worst = max(worst, float((part - expected).abs().max()))
    print(f"seams: {side}^2 in blocks of {block}, halo {halo}: at most {worst * 255:.5f} / 255 (goal 0.1)")


def _raw(stainer: StainerLike, grid: SlideGrid, run: Block) -> Tensor:
    """Colours and expected error as floats."""
    with torch.inference_mode():
        image = torch.from_numpy(np.ascontiguousarray(grid.read(run))).permute(2, 0, 1)[None].float() / 255
        out = stainer(image, torch.tensor([0]), None, torch.tensor([[run.top, run.left]]))
        return torch.cat([out.colour[0], out.uncertainty])


def memory() -> None:
    """Peak resident memory by size of the slide, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="staining-") as name:
        for side, spread in ((4096, 4096), (16384, 4096), (16384, 16384)):
            path = Path(name) / f"{side}-{spread}.tif"
            write_slide(path, side, spread)
            kind = "house" if spread == 4096 else "cheap"
            command = [sys.executable, __file__, "--stain-only", str(path), "--network", kind]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            print(
                f"memory: slide {side}^2, tissue {spread}^2, {kind} network: {result.stdout.strip()}",
                flush=True,
            )


def write_slide(path: Path, side: int, spread: int) -> None:
    """A tiled JPEG pyramid of two levels, tissue in its upper left square, never whole in memory."""
    import tifffile

    picture = tissue(512)
    glass = np.full((512, 512, 3), 255, np.uint8)

    def tiles(scale: int) -> Iterator[np.ndarray]:
        for row in range(0, side // scale, 512):
            for column in range(0, side // scale, 512):
                yield picture if max(row, column) * scale < spread else glass

    with tifffile.TiffWriter(path) as writer:
        for scale in (1, 8):
            writer.write(
                tiles(scale),
                shape=(side // scale, side // scale, 3),
                dtype=np.uint8,
                tile=(512, 512),
                photometric="rgb",
                compression="jpeg",
                subfiletype=0 if scale == 1 else 1,
                resolution=(10_000 / (UM * scale),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
            )


class Cheap(nn.Module):
    """A network that costs next to nothing, so that a large slide is run in full within minutes."""

    stride, halo = 8, 64

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)
        self.spec = SimpleNamespace(stains=("KI67",), resolution_um=UM)
        self.digest = "none"

    def forward(self, image: Tensor, *unused: object) -> SimpleNamespace:
        colour = self.mix(image).clamp(0, 1)
        return SimpleNamespace(colour=colour, uncertainty=colour[:, 0], feature_map=colour[:, :, ::8, ::8])


def peak_mib() -> float:
    """Peak resident memory of this process; ``ru_maxrss`` would count the program that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def stain_only(path: Path, network: str) -> None:
    """Stain a file and write it; print what that took."""
    from datetime import UTC, datetime

    from clinimm.modalities.pathology.slide import open_slide
    from clinimm.staining.export import Identity, export
    from clinimm.staining.provenance import Origin

    stainer: StainerLike = house() if network == "house" else Cheap()
    before = peak_mib()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as name, open_slide(path) as slide:
        source = SlideSource(slide, grid_of(slide, UM), "5" * 64)
        stained = stain_slide(
            source, stainer, StainSettings("KI67", codec=Codec("jpeg")), Path(name) / "work"
        )
        origin = Origin("5" * 64, "none", False, {}, datetime.now(UTC))
        export(stained, Path(name) / "out.ome.tif", "ome", origin, Identity("nobody"))
    peak = peak_mib()
    print(
        f"peak {peak:.0f} MiB ({before:.0f} before), {stained.stained_mpx:.0f} Mpx run, "
        f"{time.perf_counter() - began:.0f} s with pyramid and file"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=1536)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--block", type=int, default=768)
    parser.add_argument("--memory", action="store_true", help="only the memory")
    parser.add_argument("--stain-only", type=Path)
    parser.add_argument("--network", default="house")
    given = parser.parse_args()
    if given.stain_only:
        stain_only(given.stain_only, given.network)
        return
    if not given.memory:
        seams(given.pixels + 300, 256)
        speed(given.pixels, given.repeat, given.threads, given.block)
    memory()


if __name__ == "__main__":
    main()
