"""Public plans behind the C interface of bench/bridge/torch_bridge.cc."""

import ctypes
import time

import torch


class Bridge:
    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        pointer = ctypes.c_void_p
        self.library.bridge_error.restype = ctypes.c_char_p
        self.library.bridge_plan.restype = ctypes.c_char_p
        self.library.bridge_plan.argtypes = [pointer]
        self.library.bridge_close.argtypes = [pointer]
        self.library.bridge_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p, pointer, ctypes.c_int, pointer,
                                             ctypes.POINTER(pointer)]
        self.library.bridge_kept_share.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int,
                                                   ctypes.POINTER(ctypes.c_double)]
        self.library.bridge_forward.argtypes = [pointer] * 3
        self.library.bridge_forward_float8.argtypes = [pointer, pointer, ctypes.c_int, pointer]
        self.library.bridge_backward.argtypes = [pointer] * 3

    def check(self, result):
        if result != 0:
            raise RuntimeError(self.library.bridge_error().decode())

    def kept_share(self, text, tokens):
        share = ctypes.c_double()
        self.check(self.library.bridge_kept_share(text.encode(), tokens, tokens, ctypes.byref(share)))
        return share.value


class Tilewise:
    """A public plan for [b, s, h, d] tensors."""

    def __init__(self, bridge, case, backward=False, sizes=None, deterministic=False, dtype="bfloat16"):
        self.bridge, self.handle = bridge, ctypes.c_void_p()
        columns = {"relative": (case.heads, 257), "distances": (case.heads, 2 * case.tokens + 1),
                   "keys": (case.heads, case.tokens), "t5": (32, case.heads)}.get(case.variant, (0, 0))
        self.table = torch.randn(*columns, device="cuda") if columns[0] else None
        sizes = (ctypes.c_int * 9)(*(sizes or (case.b, case.heads, case.heads, case.tokens, case.tokens, case.d,
                                               case.d_v)), *columns)
        begin = time.perf_counter()
        table = None if self.table is None else self.table.data_ptr()
        bridge.check(bridge.library.bridge_open(
            case.text().encode(), dtype.encode(), ctypes.cast(sizes, ctypes.c_void_p),
            int(backward) + int(deterministic), table, ctypes.byref(self.handle)))
        self.seconds = time.perf_counter() - begin
        lines = bridge.library.bridge_plan(self.handle).decode().splitlines()
        self.plan = "; ".join(line for line in lines if line.startswith(("forward: ", "decoding: ", "backward: ")))

    def call(self, function, tensors, *options):
        pointers = (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])
        self.bridge.check(function(self.handle, ctypes.cast(pointers, ctypes.c_void_p), *options,
                                   torch.cuda.current_stream().cuda_stream))

    def forward(self, q, k, v, o, lse=None):
        self.call(self.bridge.library.bridge_forward, (q, k, v, o, lse))

    def forward_float8(self, q, k, v, o, scales, lse=None):
        """Each of q, k and v with its scales, [h] or [b, h, blocks]"""
        self.call(self.bridge.library.bridge_forward_float8, (q, k, v, o, lse, *scales), int(scales[0].dim() == 3))

    def backward(self, *tensors):
        """q, k, v, o, lse, d_o, d_q, d_k, d_v, and the table's gradient or nothing"""
        self.call(self.bridge.library.bridge_backward, (*tensors, None) if len(tensors) == 9 else tensors)

    def close(self):
        self.bridge.library.bridge_close(self.handle)
