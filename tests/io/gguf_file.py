"""GGUF files as tests need them: reading strings and arrays of settings, writing files without tensors."""

import struct

FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def read_settings(path):
    data = path.read_bytes()
    at = 24

    def take(form):
        nonlocal at
        value = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return value

    def text():
        nonlocal at
        size = take("Q")[0]
        at += size
        return data[at - size:at].decode()

    def value(kind):
        if kind == STRING:
            return text()
        if kind == ARRAY:
            element, count = take("IQ")
            return [text() for _ in range(count)] if element == STRING else list(take(f"{count}{FORMATS[element]}"))
        return take(FORMATS[kind])[0]

    settings = {}
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        key = text()
        settings[key] = value(take("I")[0])
    return settings


def write_settings(path, settings):
    """Strings, bools, ints (uint32), and lists of strings, floats or ints (int32)."""

    def text(string):
        encoded = string.encode()
        return struct.pack("<Q", len(encoded)) + encoded

    def value(found):
        if isinstance(found, bool):
            return struct.pack("<I?", 7, found)
        if isinstance(found, int):
            return struct.pack("<II", 4, found)
        if isinstance(found, str):
            return struct.pack("<I", STRING) + text(found)
        head = struct.pack("<I", ARRAY)
        if isinstance(found[0], str):
            return head + struct.pack("<IQ", STRING, len(found)) + b"".join(map(text, found))
        form, kind = ("f", 6) if isinstance(found[0], float) else ("i", 5)
        return head + struct.pack(f"<IQ{len(found)}{form}", kind, len(found), *found)

    body = b"".join(text(key) + value(found) for key, found in settings.items())
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(settings)) + body)
