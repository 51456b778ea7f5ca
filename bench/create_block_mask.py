"""How long does PyTorch's create_block_mask take on the CPU for the masks of bench/classify.cc?

Usage: python bench/create_block_mask.py [length ...]      by default 2048 8192

One thread, as the walk of bench/classify.cc; blocks of 128 x 128; eager, as create_block_mask runs unless it is asked to
compile. Needs torch in the environment. Prints one line a mask and length: the fastest and median of the runs, and how
many blocks are empty, partial and full, to be compared with the counters there.
"""

import random
import statistics
import sys
import time

import torch
from torch.nn.attention.flex_attention import create_block_mask

BLOCK = 64


def causal(length):
    return lambda b, h, q, k: q >= k


def window(length):
    return lambda b, h, q, k: (q >= k) & (q - k < 1024)


def documents(length):
    generator = random.Random(1)
    starts = sorted(generator.randrange(length) for _ in range(63))
    document = torch.zeros(length, dtype=torch.int32)
    for start in starts:
        document[start:] += 1
    return lambda b, h, q, k: document[q] == document[k]


def bigbird(length):
    generator = torch.Generator().manual_seed(0)
    blocks = length // BLOCK
    seen = torch.zeros(blocks, blocks, dtype=torch.bool)
    seen.scatter_(1, torch.randint(blocks, (blocks, 3), generator=generator), True)

    def mask(b, h, q, k):
        row, column = q // BLOCK, k // BLOCK
        return ((row - column).abs() <= 1) | (row < 2) | (column < 2) | seen[row, column]

    return mask


def measure(make_mask, length):
    mask = make_mask(length)
    times = []
    while len(times) < 3 or (sum(times) < 5 and len(times) < 20):
        start = time.perf_counter()
        block_mask = create_block_mask(mask, None, None, length, length, device="cpu", BLOCK_SIZE=128)
        times.append(time.perf_counter() - start)
    full = int(block_mask.full_kv_num_blocks.sum())
    partial = int(block_mask.kv_num_blocks.sum())
    empty = (-(-length // 128)) ** 2 - full - partial
    return times, empty, partial, full


def main():
    torch.set_num_threads(1)
    lengths = [int(argument) for argument in sys.argv[1:]] or [2048, 8192]
    print(f"torch {torch.__version__}, one thread, blocks of 128 x 128")
    for length in lengths:
        for make_mask in (causal, window, documents, bigbird):
            times, empty, partial, full = measure(make_mask, length)
            print(
                f"{make_mask.__name__:10} {length:6} x {length:<6} fastest {min(times) * 1e3:10.1f} ms"
                f"  median {statistics.median(times) * 1e3:10.1f} ms"
                f"  empty {empty} partial {partial} full {full}",
                flush=True,
            )


if __name__ == "__main__":
    main()
