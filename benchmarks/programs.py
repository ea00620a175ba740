"""What a compiled program of an accelerator moves: read from its text, without running it.

On chips that train, nearly every loss is bound by device memory. XLA prints the program that it
optimised: each instruction of the entry computation is a kernel, or a copy, that reads its operands
and writes its result once.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

_WIDTHS = {
    "pred": 1,
    "token": 0,
    "opaque": 0,
    **{kind: float(kind[1:]) / 8 for kind in ("s4", "u4", "s8", "u8", "s16", "u16", "s32", "u32")},
    **{kind: float(kind[1:]) / 8 for kind in ("s64", "u64", "f16", "f32", "f64")},
    "bf16": 2,
    "c64": 8,
    "c128": 16,
}
# An array, with its layout: a memory space S(1) there is the chip's own.
_ARRAY = re.compile(r"\b([a-z]+[0-9a-z]*)\[([0-9,]*)\](\{[^}]*\})?")
# Those that run nothing.
_FREE = {
    "after-all",
    "bitcast",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
}
# Those by which devices tell each other something.
_COLLECTIVES = {
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
}
# Those that a kernel computes for the entries that it needs alone.
_BY_ENTRY = {"bitcast", "convert"}
# Those that read as much of their first operand as they return.
_CUTS = {"dynamic-slice", "gather", "slice"}


class Cost(NamedTuple):
    """Bytes of device memory, kernels, and the multiplications of matrix products."""

    moved: float = 0
    kernels: int = 0
    multiplied: float = 0

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]
        return Cost(
            self.moved + other.moved,
            self.kernels + other.kernels,
            self.multiplied + other.multiplied,
        )

    def times(self, count: int) -> Cost:
        return Cost(self.moved * count, self.kernels * count, self.multiplied * count)


class Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    root: bool


def size_of(shape: str) -> float:
    """The bytes in device memory of an array, or of the arrays of a tuple."""
    found = 0.0
    for kind, dimensions, layout in _ARRAY.findall(shape):
        if "S(1)" not in layout:
            found += _WIDTHS.get(kind, 4) * math.prod(int(d) for d in dimensions.split(",") if d)
    return found


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "({[") - (text[i] in ")}]")
        if not depth:
            return i
    raise ValueError(f"unbalanced: {text[:80]}")


def _read(line: str) -> Instruction:
    name, _, rest = line.partition(" = ")
    root = name.startswith("ROOT ")
    rest = rest.strip()
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].strip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    operands = re.findall(r"%([\w.\-]+)", rest[opening:closing])
    name = name.removeprefix("ROOT ").strip().lstrip("%")
    if rest[:opening] in ("constant", "parameter"):
        operands = [rest[opening + 1 : closing]]
    return Instruction(name, shape, rest[:opening], tuple(operands), rest[closing + 1 :], root)


class Program:
    """A compiled program, by its text."""

    def __init__(self, text: str) -> None:
        self._computations: dict[str, dict[str, Instruction]] = {}
        self._entry = ""
        inside: dict[str, Instruction] | None = None
        for line in text.splitlines():
            stripped = line.strip()
            opened = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", stripped)
            if opened and " = " not in stripped.partition("(")[0]:
                inside = self._computations.setdefault(opened[2], {})
                self._entry = opened[2] if opened[1] else self._entry
            elif stripped == "}":
                inside = None
            elif inside is not None and " = " in stripped:
                found = _read(stripped)
                inside[found.name] = found

    @property
    def cost(self) -> Cost:
        """Of one run; a loop counts its body as often as it is known to run."""
        return self._cost_of(self._entry)

    @property
    def collectives(self) -> list[tuple[str, float]]:
        """What devices tell each other: the operation, and the bytes of its results on each.

        One in a loop counts once.
        """
        found = []
        for computation in self._computations.values():
            for x in computation.values():
                # Of one that is started and awaited the latter has the result.
                operation = x.opcode.removesuffix("-done")
                if operation in _COLLECTIVES:
                    found.append((operation, size_of(x.shape.replace("S(1)", ""))))
        return found

    @functools.cache  # noqa: B019
    def _cost_of(self, name: str) -> Cost:
        computation = self._computations[name]
        return sum((self._of(x, computation) for x in computation.values()), Cost())

    def _of(self, x: Instruction, computation: dict[str, Instruction]) -> Cost:
        if x.opcode in _FREE or x.opcode.endswith("-done") or x.opcode == "async-update":
            return Cost()
        called = re.findall(r"(?:to_apply|calls|body)=%?([\w.\-]+)", x.attributes)
        if x.opcode == "while":
            body = re.findall(r"body=%?([\w.\-]+)", x.attributes)[0]
            return self._cost_of(body).times(self._trips(x))
        if x.opcode == "conditional":
            branches = re.findall(
                r"(?:true_computation|false_computation)=%?([\w.\-]+)", x.attributes
            )
            listed = re.search(r"branch_computations=\{([^}]*)\}", x.attributes)
            branches += [b.strip().lstrip("%") for b in listed[1].split(",")] if listed else []
            return max(map(self._cost_of, branches))
        if x.opcode == "call" or x.opcode == "async-start":
            return self._cost_of(called[0])
        shapes = [computation[name].shape for name in x.operands if name in computation]
        fused = called[0] if x.opcode == "fusion" else ""
        if fused:
            reads, write = self._of_fusion(fused, x, shapes)
        elif x.opcode in _CUTS:
            reads, write = size_of(x.shape) + sum(map(size_of, shapes[1:])), size_of(x.shape)
        elif x.opcode == "dynamic-update-slice":
            reads = write = size_of(shapes[1])
        elif x.opcode == "copy-start":
            reads, write = size_of(shapes[0]), size_of(_first(x.shape))
        else:
            reads, write = sum(map(size_of, shapes)), size_of(x.shape)
        multiplied = self._multiplied_in(fused) if fused else _multiplied(x, computation)
        return Cost(reads + write, 1, multiplied)

    def _trips(self, loop: Instruction) -> int:
        """How often a loop runs; 1 where that is not known."""
        known = re.search(r'known_trip_count":\s*\{"n":"(\d+)"', loop.attributes)
        if known:
            return int(known[1])
        # A TPU's program does not say so: its loops count from 0 to a constant.
        name = re.findall(r"condition=%?([\w.\-]+)", loop.attributes)[0]
        condition = self._computations[name]
        root = next(x for x in condition.values() if x.root)
        limits = [condition[x] for x in root.operands if x in condition]
        if root.opcode == "compare" and "direction=LT" in root.attributes:
            return next((int(x.operands[0]) for x in limits if x.opcode == "constant"), 1)
        return 1

    def _multiplied_in(self, name: str) -> float:
        """In a fusion, and in those within it."""
        inside = self._computations[name]
        return sum(
            self._multiplied_in(_called(x)) if x.opcode == "fusion" else _multiplied(x, inside)
            for x in inside.values()
        )

    @functools.cache  # noqa: B019
    def _users(self, name: str) -> dict[str, list[tuple[Instruction, int]]]:
        """Of each array of a computation: those that take it, and in which place."""
        users: dict[str, list[tuple[Instruction, int]]] = {}
        for x in self._computations[name].values():
            for place, operand in enumerate(x.operands):
                users.setdefault(operand, []).append((x, place))
        return users

    def _uses(self, inside: str, name: str) -> list[tuple[Instruction, int]]:
        """What is done to an array of a fusion, in it and in those within it."""
        found = []
        for user, place in self._users(inside).get(name, []):
            if user.opcode in _BY_ENTRY:
                found += self._uses(inside, user.name)
            elif user.opcode == "fusion":
                within = _called(user)
                given = next(
                    x
                    for x in self._computations[within].values()
                    if x.opcode == "parameter" and x.operands[0] == str(place)
                )
                # Of one that returns it as it is, what becomes of that.
                found += self._uses(within, given.name) or self._uses(inside, user.name)
            else:
                found.append((user, place))
        return found

    def _of_fusion(
        self, name: str, fusion: Instruction, shapes: Sequence[str]
    ) -> tuple[float, float]:
        """What a fusion reads and writes: of an array that it cuts, or updates, that part alone."""
        by_name = self._computations[name]
        reads = 0.0
        for x in by_name.values():
            if x.opcode != "parameter":
                continue
            whole = size_of(shapes[int(x.operands[0])])
            parts = self._uses(name, x.name)
            if parts and all(
                place == 0 and user.opcode in {*_CUTS, "dynamic-update-slice"}
                for user, place in parts
            ):
                cut = sum(size_of(user.shape) for user, _ in parts if user.opcode in _CUTS)
                whole = min(whole, cut)
            reads += whole
        root = next(x for x in by_name.values() if x.root)
        results = [by_name[n] for n in root.operands] if root.opcode == "tuple" else [root]
        write, updated = size_of(fusion.shape), 0.0
        for result in results:
            x = result
            while x.opcode == "bitcast":
                x = by_name[x.operands[0]]
            if x.opcode == "dynamic-update-slice":
                updated += size_of(x.shape) - size_of(by_name[x.operands[1]].shape)
        return reads, max(0.0, write - updated)


def _called(fusion: Instruction) -> str:
    return re.findall(r"calls=%?([\w.\-]+)", fusion.attributes)[0]


def _sides(shape: str) -> list[int]:
    """The sizes of an array's dimensions."""
    _, dimensions, _ = _ARRAY.findall(shape)[0]
    return [int(d) for d in dimensions.split(",") if d]


def _multiplied(x: Instruction, inside: dict[str, Instruction]) -> float:
    """The multiplications of a matrix product, which is a convolution on a TPU."""
    if x.opcode == "dot":
        left = _sides(inside[x.operands[0]].shape)
        axes = re.findall(r"lhs_contracting_dims=\{([0-9,]*)\}", x.attributes)[0]
        shared = math.prod(left[int(axis)] for axis in axes.split(",") if axis)
    elif x.opcode == "convolution":
        right = _sides(inside[x.operands[1]].shape)
        kernel = re.findall(r"dim_labels=\w+_(\w+)->", x.attributes)[0]
        shared = math.prod(d for d, label in zip(right, kernel, strict=True) if label != "o")
    else:
        return 0
    return math.prod(_sides(x.shape)) * float(shared)


def _first(shape: str) -> str:
    """The first array of a tuple."""
    found = _ARRAY.search(shape)
    return found[0] if found else shape
