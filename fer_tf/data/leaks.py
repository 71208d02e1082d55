"""Leak check: persons, clips and near-duplicate faces that the parts of a split share.

Faces are compared by a 64-bit perceptual hash. Candidates come from sorted blocks of bits, never from comparing
all pairs, so ten million faces need memory in proportion to their number and a few dozen sorts.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fer_tf.errors import InputError

HASH_BITS = 64
# Two faces at most this many bits apart are taken for one picture, re-encoded or a frame later.
NEAR_DUPLICATE_BITS = 3
# Near-duplicates that are listed for a split; all are counted.
LISTED = 200
# A block of equal bits shared by more distinct hashes than this (blank pictures) is only compared locally.
MAX_NEIGHBOURS = 2048


def perceptual_hash(gray: np.ndarray) -> np.ndarray | np.uint64:
    """Returns the 64-bit hash of the signs of horizontal and vertical brightness steps of an image's 8 x 8 summary.

    Equal pictures have equal hashes; re-encoding or a small change of brightness moves few bits.

    Args:
      gray: uint8 or float (H, W), or (N, H, W) for several images.

    Returns:
      uint64, a scalar for one image and (N,) for several.

    Raises:
      InputError: when the array has another number of dimensions.
    """
    if gray.ndim == 3:
        return np.array([perceptual_hash(image) for image in gray], np.uint64)
    if gray.ndim != 2:
        raise InputError(f"`gray` must be (H, W) or (N, H, W). Received: shape {gray.shape}.")
    import cv2

    size = (9, 8)
    image = np.asarray(gray, np.float32)
    # Averaging over areas only works downwards; smaller images are enlarged smoothly.
    mode = cv2.INTER_AREA if min(image.shape) >= max(size) else cv2.INTER_LINEAR
    summary = np.round(cv2.resize(image, size, interpolation=mode))
    bits = summary[:, 1:] > summary[:, :-1]
    return np.packbits(bits.reshape(-1)).view(">u8")[0].astype(np.uint64)


def pixel_hash(image: np.ndarray) -> np.uint64:
    """Returns a 64-bit hash that is equal only for equal pixels (and equal shapes and types)."""
    header = f"{image.shape}{image.dtype.str}".encode()
    digest = hashlib.blake2b(header + np.ascontiguousarray(image).tobytes(), digest_size=8).digest()
    return np.frombuffer(digest, "<u8")[0]


def near_duplicates(
    hashes: np.ndarray, max_distance: int = NEAR_DUPLICATE_BITS, parts: np.ndarray | None = None
) -> np.ndarray:
    """Returns the pairs of items whose hashes differ in at most `max_distance` bits.

    Args:
      hashes: uint64 (N,), from `perceptual_hash`, or from `pixel_hash` with `max_distance=0`.
      max_distance: bits, 0 to 8.
      parts: int (N,), optional: only pairs from different parts are returned, such as across train and test.

    Returns:
      int64 (M, 2), each row i < j, rows in order.
    """
    hashes = np.asarray(hashes, np.uint64)
    distinct, item_of = np.unique(hashes, return_inverse=True)
    order = np.argsort(item_of, kind="stable")
    starts = np.searchsorted(item_of[order], np.arange(len(distinct) + 1))
    found: list[np.ndarray] = []

    def add(first: np.ndarray, second: np.ndarray) -> None:
        if parts is not None:
            differ = parts[first] != parts[second]
            first, second = first[differ], second[differ]
        if len(first):
            found.append(np.stack([np.minimum(first, second), np.maximum(first, second)], 1))

    for group in np.flatnonzero(np.diff(starts) > 1):
        members = order[starts[group] : starts[group + 1]]
        rows, columns = np.triu_indices(len(members), 1)
        add(members[rows], members[columns])
    for left, right in near_pairs(distinct, max_distance):
        for a, b in zip(left, right, strict=True):
            first, second = order[starts[a] : starts[a + 1]], order[starts[b] : starts[b + 1]]
            add(np.repeat(first, len(second)), np.tile(second, len(first)))
    if not found:
        return np.zeros((0, 2), np.int64)
    return np.unique(np.concatenate(found), axis=0)


def near_pairs(distinct: np.ndarray, max_distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields index arrays of the pairs of distinct hashes at most `max_distance` bits apart, each pair once or more.

    The bits are cut into blocks; two hashes that differ in at most d bits agree in all but d blocks, so for every
    choice of the agreeing blocks the hashes are sorted by those bits and only equal neighbours are compared.
    """
    if not 0 <= max_distance <= 8:
        raise InputError(f"`max_distance` must be from 0 to 8 bits. Received: {max_distance}.")
    if max_distance == 0 or len(distinct) < 2:
        return
    for mask in _block_masks(len(distinct), max_distance):
        keys = distinct & mask
        order = np.argsort(keys, kind="stable")
        keys, sorted_hashes = keys[order], distinct[order]
        alive = np.arange(len(keys) - 1)
        for step in range(1, min(MAX_NEIGHBOURS, len(keys)) + 1):
            alive = alive[alive + step < len(keys)]
            alive = alive[keys[alive] == keys[alive + step]]
            if not len(alive):
                break
            close = np.bitwise_count(sorted_hashes[alive] ^ sorted_hashes[alive + step]) <= max_distance
            if close.any():
                yield order[alive[close]], order[alive[close] + step]


def _block_masks(count: int, max_distance: int) -> list[np.uint64]:
    """The bits to compare in each sort: as few sorts as leave about one stranger per block value."""
    wanted_bits = min(np.log2(count) + 1, 40)
    blocks = max_distance + 1
    while HASH_BITS * (blocks - max_distance) // blocks < wanted_bits and blocks < max_distance + 4:
        blocks += 1
    edges = np.linspace(0, HASH_BITS, blocks + 1).round().astype(int)
    block = [((1 << int(b - a)) - 1) << int(a) for a, b in itertools.pairwise(edges)]
    return [np.uint64(sum(chosen)) for chosen in itertools.combinations(block, blocks - max_distance)]


def part_bits(parts: np.ndarray) -> np.ndarray:
    """Returns each item's part as one bit: 0 for no part (code -1), else 1 << code."""
    parts = np.asarray(parts, np.int64)
    return np.where(parts < 0, 0, np.left_shift(1, np.maximum(parts, 0))).astype(np.uint64)


def bits_by_key(keys: np.ndarray, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct keys and, for each, the union of its items' bits."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    return distinct, np.bitwise_or.reduceat(bits[order], starts) if len(keys) else bits[:0]


def neighbour_bits(hashes: np.ndarray, bits: np.ndarray, max_distance: int = NEAR_DUPLICATE_BITS) -> np.ndarray:
    """Returns, for each item, the union of its own bits and those of all its near-duplicates.

    Several splits are checked in one pass by giving each its own bits.

    Args:
      hashes: uint64 (N,).
      bits: uint64 (N,), the parts that an item is in.
      max_distance: bits, 0 to 8.
    """
    distinct, item_of = np.unique(np.asarray(hashes, np.uint64), return_inverse=True)
    own = np.zeros(len(distinct), np.uint64)
    np.bitwise_or.at(own, item_of, bits)
    union = own.copy()
    for left, right in near_pairs(distinct, max_distance):
        np.bitwise_or.at(union, left, own[right])
        np.bitwise_or.at(union, right, own[left])
    return union[item_of]


@dataclass(frozen=True)
class Leaks:
    """What the parts of one split share.

    Attributes:
      counts: persons, clips and moments in more than one part; faces with a near-duplicate (and with equal pixels)
        in another part; test faces near a training face.
      persons, clips, moments: the shared keys, uint64.
      near_duplicates: int64 (M, 2), examples: a face and one of its near-duplicates in another part.
    """

    counts: dict[str, int]
    persons: np.ndarray
    clips: np.ndarray
    moments: np.ndarray
    near_duplicates: np.ndarray


def check(
    splits: dict[str, np.ndarray],
    persons: np.ndarray,
    clips: np.ndarray,
    moments: np.ndarray,
    perceptual: np.ndarray,
    pixels: np.ndarray,
) -> dict[str, Leaks]:
    """Returns what the parts of each split share.

    Args:
      splits: for each split, int (N,): the part's code (0 is the training part), or -1 for none; at most 21 splits.
      persons, clips, moments: uint64 (N,) keys of each face's person, clip and the clips filmed together.
      perceptual, pixels: uint64 (N,), from `perceptual_hash` and `pixel_hash`.
    """
    names = list(splits)
    packed = np.zeros(len(persons), np.uint64)
    for place, name in enumerate(names):
        packed |= part_bits(splits[name]) << np.uint64(3 * place)
    near = neighbour_bits(perceptual, packed)
    equal = neighbour_bits(pixels, packed, 0)
    keyed = {kind: bits_by_key(keys, packed) for kind, keys in _kinds(persons, clips, moments)}
    result = {}
    for place, name in enumerate(names):
        shift, low = np.uint64(3 * place), np.uint64(7)
        own = (packed >> shift) & low
        in_split = own != 0
        near_here, equal_here = (near >> shift) & low, (equal >> shift) & low
        near_faces = in_split & ((near_here & ~own) != 0)
        found = {kind: keys[np.bitwise_count((bits >> shift) & low) > 1] for kind, (keys, bits) in keyed.items()}
        counts = {kind: len(keys) for kind, keys in found.items()}
        counts["near_duplicate_faces"] = int(near_faces.sum())
        counts["equal_pixel_faces"] = int((in_split & ((equal_here & ~own) != 0)).sum())
        counts["test_faces_near_train"] = int(((own & np.uint64(4)) != 0)[(near_here & np.uint64(1)) != 0].sum())
        examples = _examples(perceptual, np.asarray(splits[name]), np.flatnonzero(near_faces)[:LISTED])
        result[name] = Leaks(counts, **found, near_duplicates=examples)
    return result


def _kinds(persons: np.ndarray, clips: np.ndarray, moments: np.ndarray) -> tuple[tuple[str, np.ndarray], ...]:
    return (("persons", persons), ("clips", clips), ("moments", moments))


def _examples(hashes: np.ndarray, parts: np.ndarray, faces: np.ndarray) -> np.ndarray:
    rows = []
    for face in faces:
        near = np.bitwise_count(hashes ^ hashes[face]) <= NEAR_DUPLICATE_BITS
        other = (parts >= 0) & (parts != parts[face]) & near
        rows.append((face, int(np.argmax(other))))
    return np.array(rows, np.int64).reshape(-1, 2)
