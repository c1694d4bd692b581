"""Texts on which two tokenizers show that they differ."""

# ruff: noqa: RUF001 (texts in many scripts are what these are about)

from __future__ import annotations

from typing import Final

TEXTS: Final = (
    "The capital of France is",
    "Question: Which gas do plants take in from the air?\nAnswer: carbon dioxide\n",
    "1 12 123 1234 12345 123456 1,234,567.89",
    "In 1969, 3 men flew 384,400 km; 2 walked. It's 50% true",
    "I don't think we'll see they've DON'T WE'LL",
    "def f(x):\n    if x > 10:\n        return x[1:] + [2.5e-3]\n\n    return None\n",
    "for (int i = 0; i < n; i++) { a[i] += 0x1F; } // done",
    "    leading and trailing    ",
    "many   spaces     between\t\ttabs\t and\n\n\n\nlines\r\n",
    "\n",
    "   ",
    "日本語の文章です。中文字符测试，你好世界！",
    "한국어 텍스트 ภาษาไทย हिन्दी עברית العربية",
    "привет мир Ελληνικά café naïve ÅNGSTRÖM straße",
    "👍🏽👩‍👩‍👧‍👦🎉🎉 emoji 🇫🇷!",
    "½ ² Ⅳ ٣٤٥ १२३ 1st 2nd 42km",
    "$5/€7/£9…—–“quoted”‘single’",
    "http://example.org/a_b?c=d&e=1#f user@example.org",
    "CamelCaseWord HTTPServer snake_case kebab-case",
    "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>The end",
    "a\u00a0b\u2003c\u3000d\u200be\ufefff",
    "e\u0301 n\u0303 combining",
    '{"key": [1, 2, {"x": null}], "s": "a\\nb"}',
    "| a | b |\n|---|---|\n| 1 | 22 |\n",
    "\\frac{12}{345} + x^{2} = \\boxed{678}",
    "!!! ??? ... --- === ~~~ ^^^",
    "Review: a film of 100 minutes , none of them dull .\nSentiment: positive",
    "A) 10  B) 200  C) 3000  D) 40000",
    "x" * 50 + " " + "9" * 50,
)
"""Words, digits, spaces, marks, scripts, code and control tokens."""
