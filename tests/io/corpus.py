"""Text for tokenizers: more than a megabyte of many scripts, code, emoji, odd spaces and broken UTF-8. The same in every
run but for the project's own sources, which are part of it."""

import pathlib
import random
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The first article of the Universal Declaration of Human Rights, and a few sentences of our own.
SENTENCES = [
    "All human beings are born free and equal in dignity and rights.",
    "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "Všichni lidé se rodí svobodní a sobě rovní co do důstojnosti a práv.",
    "Minden emberi lény szabadon születik és egyenlő méltósága és joga van.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. İstanbul, ılık.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.",
    "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "Всі люди народжуються вільними і рівними у своїй гідності та правах.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "تمام انسان‌ها آزاد به دنیا می‌آیند و از لحاظ کرامت و حقوق با هم برابرند.",
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।",
    "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით.",
    "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։",
    "人人生而自由,在尊严和权利上一律平等。他們賦有理性和良心。",
    "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ሰብአዊ ፍጡራን ሁሉ ነጻ ሆነው ይወለዳሉ።",
    "I'm sure they'll say we've been there; he'd've known it's 'round 12'000'000. DON'T! I'LL, WE'RE, 'ſ, 'S, ab'ſtc, 'Sx 'lLx",
    "x = 3.14159; y := 0x1F600 + 1_000_000; if (a[i]->b != nullptr) { return \"\\n\\t\"; } // 100% ok",
    "price: $1,234.56 — €99.–, ¥5000, ₹1२३४, ٣٤٥, ⅷ ½ ² ① 〇 千 １２３ 𝟙𝟚",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇯🇵 1️⃣ ❤️ 🏴‍☠️ 🫠🤣 ☃ ♠ →⇒∑∫√ Ⓐ ™ ©",
    "tabs\tand\t\tspaces   and\r\nlines\n\n\n   end \u00a0\u2003\u3000x\u2028y\u2029z\u0085w\u200bv\ufeffu",
    "e\u0301 vs é, A\u030a vs Å vs Å, ﬁ ﬂ ﬆ, ẞ ß ſ, Ǆ ǅ ǆ, \u1e9b\u0323, 각 vs \u1100\u1161\u11a8, \u0958",
    "<|im_start|>user\nhi<|im_end|> [CLS] [MASK] [SEP] <s> </s> <unk> <0x0A> ▁x ##ing Ġhello",
    "\x00\x01\x1b[0m\x7f\u009f null and control \u202e right to left \u2066 isolate",
    "supercalifragilisticexpialidocious" * 4 + " " + "a" * 101 + " " + "ab" * 50 + " " + "-" * 300,
]


def mixed(random_source):
    """Words of the sentences and characters from all over Unicode, joined by odd spaces."""
    words = [word for sentence in SENTENCES for word in sentence.split(" ")]
    spaces = [" ", " ", " ", " ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "\u00a0", "   ", "", "'", ".", " '"]
    lines = []
    for _ in range(4000):
        line = ""
        for _ in range(random_source.randrange(1, 20)):
            line += random_source.choice(words) + random_source.choice(spaces)
        lines.append(line)
    return lines


def every_character():
    """Each character that this Python's Unicode has assigned, between letters, digits, spaces and by itself."""
    texts, line = [], ""
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category in ("Cn", "Cs") or 0xAC00 < code < 0xD7A3 and code % 16 or 0xE000 < code < 0xF8FF or code > 0xF0000:
            continue
        # Ideographs behave alike; a sixteenth of them stands for all.
        if category == "Lo" and code > 0x3400 and code % 16:
            continue
        line += "a" + chr(code) + "1" + chr(code) + " " + chr(code) + chr(code) + "'s\n"
        if len(line) > 200:
            texts.append(line)
            line = ""
    return texts + [line]


def broken(random_source):
    """Bytes that are no UTF-8: cut characters, stray and overlong ones, surrogates, codes that are too large."""
    parts = [b"\x80", b"\xbf\xbf", b"\xc0\xaf", b"\xc3", b"\xe0\x80\xaf", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98",
             b"\xf0\x82\x82\xac", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xff\xfe", "é".encode(), "汉".encode(),
             "😀".encode(), b"text ", b" ", b"\n", b"a"]
    texts = []
    for _ in range(3000):
        texts.append(b"".join(random_source.choice(parts) for _ in range(random_source.randrange(1, 12))))
        texts.append(bytes(random_source.randrange(256) for _ in range(random_source.randrange(1, 30))))
        whole = random_source.choice(SENTENCES).encode()
        texts.append(whole[random_source.randrange(len(whole)):][:random_source.randrange(1, 40)])
    return texts


def own_sources():
    files = sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("src/variant/**/*.[hc]*")) + [ROOT / "README.md"]
    return [file.read_text(encoding="utf-8") for file in files]


def corpus():
    """A list of byte strings."""
    random_source = random.Random(7)
    texts = SENTENCES + own_sources() + mixed(random_source) + every_character() + ["", " ", "\n", "a"]
    return [text.encode() for text in texts] + broken(random_source)
