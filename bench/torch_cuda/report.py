"""The page of Markdown that bench/plot_cuda.py draws, of what a comparison measured."""

TABLES = {
    "lengths": ("Beside cuDNN, TFLOP/s",
                ("pass", "d", "tokens", "", "Tilewise", "cuDNN", "ratio", "clock of ours, MHz")),
    "scores": ("Variants beside plain attention of the same shape, in turns",
               ("pass", "d", "variant", "TFLOP/s", "plain", "of plain")),
    "masks": ("Masks: time over kept share x plain's time",
              ("pass", "d", "tokens", "mask", "ms", "plain, ms", "kept share (128 x 128)", "ratio")),
    "flex": ("Variants beside compiled FlexAttention, in turns",
             ("pass", "d", "beside FlexAttention", "ms", "FlexAttention, ms", "times as fast", "difference")),
    "default": ("Backward passes that are asked for more, beside the default's",
                ("asked for", "d", "case", "TFLOP/s", "default", "of the default", "of plain", "bits of two runs")),
    "decoding": ("Decoding, 10^9 bytes of keys and values a second",
                 ("b", "heads", "cached tokens", "Tilewise", "cuDNN", "FlashAttention-2", "of cuDNN")),
}


class Report:
    """Written anew with every line, so that an interrupted run leaves what it measured; nowhere without a path."""

    def __init__(self, path=None, title="", lines=()):
        self.path, self.opening = path, [f"# {title}", *lines]
        self.rows = {name: [] for name in TABLES}
        self.write()

    def add(self, table, *cells):
        self.rows[table].append([f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells])
        self.write()

    def write(self):
        if self.path is None:
            return
        parts = list(self.opening)
        for name, (heading, columns) in TABLES.items():
            if self.rows[name]:
                table = [columns, ["---"] * len(columns), *self.rows[name]]
                parts += [f"## {heading}", "\n".join("| " + " | ".join(row) + " |" for row in table)]
        whole = self.path.with_name(self.path.name + ".new")
        whole.write_text("\n\n".join(parts) + "\n")
        whole.replace(self.path)
