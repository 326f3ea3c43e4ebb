"""Ways to damage a file, each a function of a random generator; and the forging of the manifest that lists it."""

import hashlib
import io
import json
import os
import random
import re
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bmrl.runs import storage

HUGE = 1 << 40  # bytes of a file that is all hole

Mutate = Callable[[random.Random, bytes], bytes]

# Values that no reader of ours asks for, or asks for elsewhere; a few are no JSON.
ODD_TOKENS = (
    *("NaN", "-Infinity", "1e400", "1e308", "-1", "0", "1", "0.5", "-0.0", "4", "9223372036854775808", "1e-400"),
    *("null", "true", "false", "[]", "{}", '""', '"x"', '"../../../etc/passwd"', '"/etc/passwd"', '"\\ud800"'),
    *('"\\u0000"', '"5"', '"NaN"', "[[[]]]", '{"a": 1}', "9" * 400, "9" * 5000, "[" * 5000 + "]" * 5000),
    *('{"a":' * 900 + "1" + "}" * 900, '"' + "x" * 10_000 + '"', "1_000", "0x10", "'x'", "\u0661"),
)
ODD_NAMES = ("..", "../mdp-000/rewards.npy", "/etc/passwd", "a/b", ".hidden", "", "x\n", "manifest.json", "\u0000", "é")


# ---------------------------------------------------------------------- any bytes


def _position(rng: random.Random, content: bytes) -> int:
    """The beginning of a file, where its header is, is as likely as all the rest."""
    return rng.randrange(min(len(content), rng.choice((16, 256, len(content) or 1))) or 1)


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    """One to eight bits."""
    changed = bytearray(content or b"\0")
    for _ in range(rng.randint(1, 8)):
        changed[_position(rng, bytes(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite_run(rng: random.Random, content: bytes) -> bytes:
    """A run of zeros, ones, or anything."""
    at, length = _position(rng, content), rng.randint(1, 64)
    run = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return content[:at] + run + content[at + length :]


def insert_run(rng: random.Random, content: bytes) -> bytes:
    """A run more, of anything or of the file itself."""
    at, length = _position(rng, content), rng.randint(1, 64)
    return content[:at] + rng.choice((rng.randbytes(length), content[at : at + length])) + content[at:]


def delete_run(rng: random.Random, content: bytes) -> bytes:
    """A run less."""
    at = _position(rng, content)
    return content[:at] + content[at + rng.randint(1, 64) :]


def truncate(rng: random.Random, content: bytes) -> bytes:
    """The beginning alone, or nothing."""
    return content[: _position(rng, content)]


def extend(rng: random.Random, content: bytes) -> bytes:
    """More at the end."""
    return content + rng.choice((b"\0", b"\n", b"x", rng.randbytes(rng.randint(1, 4096)), content))


BYTES: tuple[Mutate, ...] = (flip_bits, overwrite_run, insert_run, delete_run, truncate, extend)


# ---------------------------------------------------------------------- JSON


def odd_json_value(rng: random.Random, content: bytes) -> bytes:
    """Another value, name or nothing somewhere in the tree, or a name twice; the rest stays JSON."""
    try:
        tree = json.loads(content)
    except ValueError:
        return flip_bits(rng, content)
    spots = list(_spots(tree))
    if not spots:
        return rng.choice(ODD_TOKENS).encode()
    container, key = rng.choice(spots)
    what, token = rng.randrange(6), rng.choice(ODD_TOKENS)
    mark = "ODD-VALUE-HERE"
    if what == 0:
        del container[key]
    elif what == 1 and isinstance(container, dict):
        container[rng.choice(ODD_NAMES)] = container.pop(key)
    elif what == 2 and isinstance(container, dict):
        return _encode(tree).replace(
            json.dumps(key).encode(), json.dumps(key).encode() + b": 0, " + json.dumps(key).encode(), 1
        )
    else:
        container[key] = mark
    return _encode(tree).replace(json.dumps(mark).encode(), token.encode("utf-8", "surrogatepass"))


def odd_json_text(rng: random.Random, content: bytes) -> bytes:
    """What is no JSON, or JSON of another kind, or JSON with something around it."""
    return rng.choice(
        (
            *(b"", b"[]", b"{}", b"null", b"3", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf" + content, content + b"\n\n"),
            *(content + b"{}", b"// x\n" + content, content.replace(b'"', b"'"), b"[" * 10**6, b'{"a":' * 10**5),
            *(content.replace(b":", b":\xff", 1), bytes(content.decode("latin-1"), "utf-16"), b"[" * 990 + b"]" * 990),
            *(content.replace(b"\n", b"\r\n"), content.replace(b"}", b",}"), b"\0" * len(content)),
        )
    )


def _spots(tree: Any) -> Iterator[tuple[Any, Any]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, child in children:
        yield tree, key
        yield from _spots(child)


def _encode(tree: Any) -> bytes:
    return json.dumps(tree, indent=2, sort_keys=True).encode("utf-8", "surrogatepass")


# ---------------------------------------------------------------------- NumPy's arrays


def odd_npy_header(rng: random.Random, content: bytes) -> bytes:
    """A hostile header before the same data: huge, negative or odd shapes, objects, nesting, other versions."""
    shapes: tuple[str, ...] = (
        "()",
        "(0,)",
        "(5,)",
        "(1, 5)",
        "(-5,)",
        "(-1, -5)",
        f"({2**62}, 4)",
        f"({10**30},)",
        "(2**9,)",
    )
    shapes = (*shapes, "(True,)", "('5',)", "[5]", "(5.0,)", "None", "(" * 50 + ")" * 50, "(((5,),),)", "(1,)" * 40)
    kinds = ("<f4", ">f4", "<f8", "|b1", "|O", "|O8", "<U9", "|V99", "f4,f4", "x", "<M8[s]", "|S999999999", "|V0")
    order = rng.choice(("False", "False", "True", "0", "'C'", "None"))
    kind = rng.choice((repr(rng.choice(kinds)), "[('a', '<f4')]", "[('a', '<f4', (1000000000, 1000))]", "{}", "1"))
    header = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {rng.choice(shapes)}, }}"
    header = rng.choice((header, header, header, "(" * 3000, "-" * 9000 + "1", "[" * 90 + "]" * 90, header[:-3], "{}"))
    header = rng.choice((header, header, header, header + "#" * 9000, header.replace("5", "5L"), "__import__('os')"))
    version, length = rng.choice((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\xff\xff")), len(header) + 1
    size = rng.choice((length, length, length, 0, 65535)).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + header.encode("latin-1") + b"\n" + content[128:]


# ---------------------------------------------------------------------- safetensors


def odd_safetensors_header(rng: random.Random, content: bytes) -> bytes:
    """Another header before the same data: huge or overlapping arrays, other types, nesting, other lengths."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    try:
        tree = json.loads(header)
    except ValueError:
        return flip_bits(rng, content)
    name = rng.choice([key for key in tree if key != "__metadata__"] or [""])
    entry = tree.setdefault(name, {})
    huge = rng.choice((2**31, 2**40, 2**62, 2**64, -1, 0, 1))
    what = rng.randrange(8)
    if what == 0:
        entry["shape"] = [huge] * rng.randint(0, 3)
    elif what == 1:
        entry["data_offsets"] = [rng.choice((0, huge)), rng.choice((4, huge, len(data)))]
    elif what == 2:
        entry["dtype"] = rng.choice(("F64", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "F4", "C64", "object", ""))
    elif what == 3:
        tree[rng.choice(ODD_NAMES)] = tree.pop(name)
    elif what == 4:
        tree["__metadata__"] = rng.choice(({"a": "b"}, {"a": 1}, [], "x", {"x": "y" * 10**5}))
    elif what == 5:
        entry["shape"], entry["data_offsets"] = [huge], [0, 4 * huge]
    elif what == 6:
        return (2 ** rng.randrange(64)).to_bytes(8, "little") + content[8:]
    else:
        header = odd_json_value(rng, header)
        return len(header).to_bytes(8, "little") + header + data
    changed = _encode(tree)
    return len(changed).to_bytes(8, "little") + changed + data


def odd_weights(rng: random.Random, content: bytes) -> bytes:
    """NaN or an infinity among the numbers of the data."""
    length = 8 + int.from_bytes(content[:8], "little")
    at = length + 4 * rng.randrange(max(1, (len(content) - length) // 4))
    return content[:at] + np.float32(rng.choice((np.nan, np.inf, -np.inf))).tobytes() + content[at + 4 :]


def odd_values(rng: random.Random, content: bytes) -> bytes:
    """NaN, an infinity or a number that is too large among the numbers of a .npy file, or a byte of them."""
    at = 128 + 4 * rng.randrange(max(1, (len(content) - 128) // 4))
    odd = rng.choice((np.nan, np.inf, 1.5, -1e30, 3e38, 2e12, 0.25, 1e-45))
    return content[:at] + rng.choice((np.float32(odd).tobytes(), rng.randbytes(1))) + content[at + 4 :]


# ---------------------------------------------------------------------- tables of metrics


def odd_cells(rng: random.Random, content: bytes) -> bytes:
    """Another cell or line."""
    lines = content.split(b"\n")
    row = rng.randrange(len(lines))
    cells = lines[row].split(b",")
    odd = (
        b"",
        b"-1",
        b"1e400",
        b"nan",
        b"x",
        b"9" * 400,
        b"9" * 5000,
        b"\xff",
        b"\0",
        b"1_0",
        "\u0661".encode(),
        b"1.5",
    )
    cells[rng.randrange(len(cells))] = rng.choice(
        (*odd, b"\x0b", b"\x1c", "\u2028".encode(), b"\r", b'"', b"x" * 10**5)
    )
    lines[row] = rng.choice((b",".join(cells), b",".join(cells), b"", b"," * 10, lines[row] * 2))
    return b"\n".join(lines)


# ---------------------------------------------------------------------- what is no plain file, or another one


def replace_node(rng: random.Random, path: Path) -> str:
    """Puts a pipe, device, socket, directory, link, hole or nothing in the place of a file; says what."""
    what = rng.choice(
        ("pipe", "device", "socket", "directory", "link out", "link in", "loop", "dangling", "gone", "hole")
    )
    aside = path.with_name("aside")
    content = path.read_bytes()
    path.unlink()
    match what:
        case "pipe":
            os.mkfifo(path)
        case "device" if os.geteuid() == 0:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero never ends
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                folder = os.open(path.parent, os.O_RDONLY)  # its name may be too long for a socket's
                try:
                    listener.bind(f"/proc/self/fd/{folder}/{path.name}")
                finally:
                    os.close(folder)
        case "directory":
            path.mkdir()
        case "link out":
            path.symlink_to("/etc/passwd")
        case "link in":
            aside.write_bytes(content)
            path.symlink_to(aside.name)
        case "loop":
            path.symlink_to(path.name)
        case "dangling":
            path.symlink_to("/nowhere/at/all")
        case "hole":
            with open(path, "wb") as file:
                file.write(content)
                file.truncate(HUGE)
    return what


def swap(rng: random.Random, path: Path) -> str:
    """Another file of the same directory in the place of this one, and this one in its place; says which."""
    others = sorted(other for other in path.parent.iterdir() if other != path and other.is_file())
    if not others:
        path.write_bytes(b"")
        return "emptied"
    other = rng.choice(others)
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    if rng.random() < 0.5:
        other.write_bytes(mine)
    return f"swapped with {other.name}"


# ---------------------------------------------------------------------- manifests


def reseal(directory: Path) -> None:
    """Makes the manifest match the files again, as somebody would who knows how it is sealed.

    What is no manifest any more stays as it is.
    """
    path = directory / storage.MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        for name, entry in manifest["files"].items():
            if (directory / name).parent == directory and stat.S_ISREG((directory / name).lstat().st_mode):
                content = (directory / name).read_bytes()
                entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **_array_entry(content)}
        manifest["manifest_sha256"] = storage._digest(manifest)
        path.write_bytes(_encode(manifest))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return


def _array_entry(content: bytes) -> dict[str, Any]:
    """What the manifest says of a .npy file beside its hash."""
    if not re.match(rb"\x93NUMPY\x01\x00", content):
        return {}
    try:
        file = io.BytesIO(content)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception:  # whatever a hostile header makes Python raise
        return {}
    return {"shape": list(shape), "dtype": dtype.name}
