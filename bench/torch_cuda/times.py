"""Contestants in turns, and the GPU's clock and power meanwhile."""

import ctypes
import statistics

import torch


class Gpu:
    """The clock of the multiprocessors, and the power drawn, as NVML tells them."""

    def __init__(self):
        self.library, self.device = None, ctypes.c_void_p()
        try:
            self.library = ctypes.CDLL("libnvidia-ml.so.1")
            self.library.nvmlInit_v2()
            self.library.nvmlDeviceGetHandleByIndex_v2(torch.cuda.current_device(), ctypes.byref(self.device))
        except OSError:
            pass

    def now(self):
        if self.library is None:
            return 0, 0
        clock, milliwatts = ctypes.c_uint(), ctypes.c_uint()
        self.library.nvmlDeviceGetClockInfo(self.device, 1, ctypes.byref(clock))
        self.library.nvmlDeviceGetPowerUsage(self.device, ctypes.byref(milliwatts))
        return clock.value, milliwatts.value / 1000


class Times:
    """Of contestants (name -> call), in turns: median milliseconds, clock and power of each."""

    def __init__(self, gpu, contestants, rounds, target_ms=50):
        self.samples = {name: [] for name in contestants}
        repeats = {}
        for name, call in contestants.items():
            call()
            repeats[name] = max(2, int(target_ms / self.measured(gpu, call, 2)[0]))
        for number in range(rounds):
            for name in self.order(list(contestants), number):
                self.samples[name].append(self.measured(gpu, contestants[name], repeats[name]))

    def order(self, names, number):
        """The names in the order of a round's turns."""
        return names

    @staticmethod
    def measured(gpu, call, repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        state = gpu.now()
        end.synchronize()
        return begin.elapsed_time(end) / repeats, *state

    def __getitem__(self, name):
        return statistics.median(sample[0] for sample in self.samples[name])

    def state(self, name):
        return "{:.0f} MHz, {:.0f} W".format(*(statistics.median(sample[i] for sample in self.samples[name])
                                               for i in (1, 2)))

    def ratio(self, one, other):
        """Of the times of two contestants, round by round; the median."""
        return statistics.median(a[0] / b[0] for a, b in zip(self.samples[one], self.samples[other]))
