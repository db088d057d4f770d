"""Small videos for tests, and what cameras and accidents do to such files."""

import struct

import cv2
import numpy as np

SIZE = (64, 96)


def write_clip(path, frames=8, size=SIZE, rate=25.0):
    """A bar that grows from the left over noise that stands still, red in RGB."""
    noise = np.random.default_rng(0).integers(60, 160, (*size, 3), dtype=np.uint8)
    noise = cv2.GaussianBlur(noise, (0, 0), 2)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, size[::-1])
    for number in range(frames):
        frame = noise.copy()
        frame[:, : 8 * (number + 1)] = (20, 20, 230)  # OpenCV writes BGR
        writer.write(frame)
    writer.release()
    return path


def rotate(path, target):
    """Say in the header of the track that players turn it by 90 degrees, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # after version, dates, duration, layer and volume
    upright = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    assert data[matrix : matrix + 36] == upright
    turned = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    data[matrix : matrix + 36] = turned
    target.write_bytes(data)
    return target


def vary_rate(path, target, first, factor):
    """Show the frames after the first few so many times as long: a variable frame rate."""
    data = bytearray(path.read_bytes())
    table = data.index(b"stts")
    assert data.index(b"mdat") < table  # so that no frame moves
    entries, frames, delta = struct.unpack(">3i", data[table + 8 : table + 20])
    assert entries == 1
    rows = struct.pack(">5i", 2, first, delta, frames - first, factor * delta)
    data[table + 8 : table + 20] = rows
    edits = data.index(b"edts")  # which would end the clip at its old length
    data[edits : edits + 4] = b"free"
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        start = data.index(box) - 4
        (size,) = struct.unpack(">i", data[start : start + 4])
        data[start : start + 4] = struct.pack(">i", size + 8)
    target.write_bytes(data)
    return target


def blank(path, target):
    """Overwrite the second half of the frames by zeros, as a copy that ended early may hold."""
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    middle = (start + end) // 2
    data[middle:end] = bytes(end - middle)
    target.write_bytes(data)
    return target


def cut(path, target):
    """Leave the first half of the file."""
    target.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return target
