"""Animated GIFs of episodes."""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from PIL import Image

from bmrl.figures.style import BLUE, GREY, RED, number, panels, say, styled
from bmrl.figures.velocities import smooth
from bmrl.runs.storage import write_file

MAX_FRAMES = 150
DPI = 80
COLOURS = 64  # of the GIF
HOLD = 1500  # ms that the last frame stays
PANEL = (3.2, 2.3)  # inches
VIEW = 1.5  # m that the camera sees to either side of the robot
LIMB = 0.092  # m, the thickness of the half-cheetah's limbs
CAMERA = 0.5  # seconds over which the camera's path is smoothed
MARGIN = 1.0  # around points on a plane

Update = Callable[[int], Iterable[Artist]]
"""The moving artists of a panel, put where they are at a step."""


@styled()
def animate(
    frames: np.ndarray,
    titles: Sequence[str],
    path: Path,
    fps: float,
    lengths: np.ndarray | None = None,
    targets: Sequence[float] | None = None,
) -> None:
    """Write a GIF with a panel an episode that plays ``fps`` steps a second, for ever.

    At most ``MAX_FRAMES`` steps are drawn, evenly spaced, the last among them; the speed stays the same, to the
    10 ms that GIFs count in. An episode that ends earlier than others stays at its last step, grey if a robot.

    Args:
        frames: [n, T, segments, 2 points, 2 coordinates], line segments after every step, as simulators give.
        titles: [n].
        path: the GIF file to write.
        fps: steps a second; 1 / the time step for robots in real time.
        lengths: [n] steps of each episode; None if all last T.
        targets: [n] target velocities in m/s. The segments then are robots in (x, z), followed by the camera over
            the ground z = 0, the torso first, and a flag moves at the target velocity. None: the segments are
            points on a plane, the last move first, whose moves stay visible, then what stands still.

    Raises:
        ValueError: not one title (length, target) for each episode.
    """
    n, steps = frames.shape[:2]
    lengths = np.full(n, steps) if lengths is None else lengths
    if any(len(each) != n for each in (titles, lengths, titles if targets is None else targets)):
        raise ValueError(f"{n} episodes need as many titles, lengths and targets")
    figure, grid = panels(n, PANEL)
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    updates: list[Update] = []
    for k in range(n):
        grid[k].set_title(titles[k])
        if targets is None:
            updates.append(_points(grid[k], frames[k, : lengths[k]], frames.reshape(-1, 2)))
        else:
            updates.append(_robot(grid[k], frames[k, : lengths[k]], targets[k], fps))
    if not n:
        say(grid[0], "no valid episode")

    canvas.draw()  # what stands still, once
    background = canvas.copy_from_bbox(figure.bbox)
    stride = max(1, math.ceil(steps / MAX_FRAMES))
    images = []
    for t in range((steps - 1) % stride, steps, stride) if n else [0]:
        canvas.restore_region(background)
        for axes, update in zip(grid, updates, strict=False):
            for artist in update(t):
                axes.draw_artist(artist)
        images.append(np.array(canvas.buffer_rgba())[..., :3])
    _write(images, path, max(20, 10 * round(100 * stride / fps)))


def _robot(axes: Axes, frames: np.ndarray, target: float, fps: float) -> Update:
    """A robot over the ground, with the camera on its torso [T, segments, 2, 2]."""
    torso = frames[:, 0, :, 0].mean(1)
    camera = smooth(torso, round(CAMERA * fps))
    axes.set(xlim=(-VIEW, VIEW), ylim=(-0.35, 1.75), aspect="equal", yticks=[], xticks=[])
    axes.spines[:].set_visible(False)
    axes.axhspan(-0.35, 0, color="0.94", linewidth=0)
    axes.axhline(0, color=GREY, linewidth=1)

    width = 72 * PANEL[0] / (2 * VIEW) * LIMB  # in points
    count = frames.shape[1]
    # Every limb twice, white below and a little wider, which sets it off from those that it covers.
    looks: dict[str, Any] = {
        "linewidths": [width + 2, width] * count,
        "capstyle": "round",
        "animated": True,
        "zorder": 3,
    }
    body = LineCollection([], colors=["white", BLUE] * count, **looks)
    fallen = LineCollection([], colors=["white", "0.7"] * count, **looks)
    axes.add_collection(body, autolim=False)
    axes.add_collection(fallen, autolim=False)
    (pole,) = axes.plot([], [], color=RED, linewidth=1.5, animated=True, zorder=2)
    (flag,) = axes.plot([], [], color=RED, marker=">", markersize=9, animated=True, zorder=2)
    (marks,) = axes.plot([], [], color=GREY, linestyle="", marker="|", markersize=6, animated=True)
    words: dict[str, Any] = {"fontsize": 9, "animated": True, "clip_on": True}
    metres = [axes.text(0, -0.13, "", ha="center", va="top", color=GREY, **words) for _ in range(math.ceil(2 * VIEW))]
    clock = axes.text(0.02, 0.98, "", transform=axes.transAxes, va="top", **words)

    def update(t: int) -> Iterable[Artist]:
        step = min(t, len(frames) - 1)
        robot = body if t < len(frames) else fallen
        robot.set_segments(list(np.repeat(frames[step] - [camera[step], 0.0], 2, axis=0)))
        whole = math.ceil(camera[step] - VIEW) + np.arange(len(metres))
        marks.set_data(whole - camera[step], np.full(len(whole), -0.05))
        for text, metre in zip(metres, whole, strict=True):
            text.set_x(metre - camera[step])
            text.set_text(f"{number(metre)} m")
        x = torso[0] + target * t / fps - camera[step]
        x = float(np.clip(x, -VIEW + 0.05, VIEW - 0.15))  # at the edge of the picture while it is out of sight
        pole.set_data([x, x], [0.0, 1.5])
        flag.set_data([x + 0.07], [1.44])
        clock.set_text(f"{(step + 1) / fps:.1f} s")
        return [marks, *metres, pole, flag, robot, clock]

    return update


def _points(axes: Axes, frames: np.ndarray, everything: np.ndarray) -> Update:
    """A point with its path so far [T, segments, 2, 2], in a window on ``everything`` [m, 2]."""
    low, high = everything.min(0) - MARGIN, everything.max(0) + MARGIN
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    still = LineCollection(list(frames[0, 1:]), colors=RED, linewidths=2.5, capstyle="round")
    trail = LineCollection([], colors=BLUE, linewidths=1.5, animated=True)
    axes.add_collection(still, autolim=False)
    axes.add_collection(trail, autolim=False)
    (point,) = axes.plot([], [], color=BLUE, marker="o", markersize=8, markeredgecolor="white", animated=True)
    clock = axes.text(0.02, 0.98, "", transform=axes.transAxes, va="top", fontsize=9, animated=True)

    def update(t: int) -> Iterable[Artist]:
        step = min(t, len(frames) - 1)
        trail.set_segments(list(frames[: step + 1, 0]))
        point.set_data(frames[step, 0, 1:].T)
        clock.set_text(f"step {step + 1}")
        return [trail, point, clock]

    return update


def _write(images: Sequence[np.ndarray], path: Path, duration: int) -> None:
    """A GIF of images [height, width, 3] uint8, each shown for ``duration`` ms, with one palette.

    The palette is the most frequent colours, so that plain areas keep theirs; the rest, the edges of lines and
    letters, take the nearest one.
    """
    packed = [image.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32) for image in images]
    colours, counts = np.unique([packed[0], packed[len(packed) // 2], packed[-1]], return_counts=True)
    palette = _rgb(colours[np.argsort(-counts, kind="stable")[:COLOURS]])
    frames = []
    for pixels in packed:
        colours, where = np.unique(pixels, return_inverse=True)
        nearest = np.square(_rgb(colours)[:, None] - palette).sum(-1).argmin(1).astype(np.uint8)
        frames.append(Image.fromarray(nearest[where].reshape(pixels.shape)))
        frames[-1].putpalette(palette.astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    durations = [duration] * (len(frames) - 1) + [max(HOLD, duration)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    write_file(path, buffer.getvalue())


def _rgb(packed: np.ndarray) -> np.ndarray:
    return packed[:, None] >> np.array([16, 8, 0]) & 255
