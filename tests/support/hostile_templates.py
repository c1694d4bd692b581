"""Chat templates that attack whoever renders them, and a script that measures it.

Run as a file it renders the named ones and writes as JSON what was said of each, after
how many seconds, and the most memory of the processes that rendered, in bytes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

from neuron_opsd.models.tokenizer.rendering import Refusal, Renderer

LOOP = "{% for a in range(99999) %}"
DOUBLING = (
    "{% set n = namespace(v=START) %}{% for i in range(99) %}{% set n.v = STEP %}"
)

SLOW = {
    "nested loops": LOOP * 3 + "x" + "{% endfor %}" * 3,
    "silent loops": LOOP * 3 + "{% endfor %}" * 3,
    "tower of powers": "{{ 9 ** (9 ** 9) }}",
    "power of a growing number": DOUBLING.replace("START", "9").replace(
        "STEP", "n.v * n.v"
    )
    + "{% endfor %}",
    "macros that call two": "".join(
        f"{{% macro m{n}() %}}{{{{ m{n - 1}() ~ m{n - 1}() }}}}{{% endmacro %}}"
        if n
        else "{% macro m0() %}{% endmacro %}"
        for n in range(40)
    )
    + "{{ m39() }}",
    "recursive loop that calls two": (
        "{% for d in [40] recursive %}{% if d %}"
        "{{ loop([d - 1]) ~ loop([d - 1]) }}{% endif %}{% endfor %}"
    ),
    "sums over sums": LOOP + "{{ range(99999) | sum }}{% endfor %}",
    "search in a long text": (
        "{% set t = 'a' * 4000000 %}" + LOOP + "{{ t.find(t[1:] ~ 'b') }}{% endfor %}"
    ),
    "bomb that one question sets off": (
        "{% if 'gas' in messages[0].content %}"
        + LOOP * 3
        + "{% endfor %}" * 3
        + "{% endif %}{{ messages[0].content }}"
    ),
}
"""What takes time without end."""

LARGE = {
    "product of a text": "{{ 'a' * 10 ** 10 }}",
    "product of a list": "{{ [0] * 10 ** 9 }}",
    "text that doubles": DOUBLING.replace("START", "'ab'").replace("STEP", "n.v + n.v")
    + "{% endfor %}",
    "list that doubles": DOUBLING.replace("START", "[1]").replace("STEP", "n.v + n.v")
    + "{% endfor %}",
    "loop over a doubled text": (
        "{% set n = namespace(v='ab') %}{% for i in range(60) %}"
        "{% for c in n.v %}{% endfor %}{% set n.v = n.v ~ n.v %}{% endfor %}"
    ),
    "wide centre": "{{ 'a' | center(10 ** 9) }}",
    "wide centre of what is asked": "{{ messages[0].content | center(10 ** 9) }}",
    "wide justification": "{{ messages[0].content.ljust(10 ** 9) }}",
    "wide percent": "{{ '%1000000000d' % 1 }}",
    "wide format": "{{ '{:1000000000}'.format(1) }}",
    "wide tabs": "{{ '\t'.expandtabs(10 ** 9) }}",
    "replacement that grows": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "join that grows": "{{ ('b' * 99999).join('a' * 99999) }}",
    "translation that grows": ("{{ ('a' * 99999).translate({97: 'b' * 99999}) }}"),
    "batch that is filled": "{{ [1] | batch(10 ** 9, 'x') | list }}",
    "lists of a range": "{{ range(99999) | map('center', 99999) | list }}",
    "deep indent of JSON": ("{{ [[[[[[[[[[1]]]]]]]]]] | tojson(indent=99999999) }}"),
    "long lorem ipsum": "{{ lipsum(n=999999) }}",
    "a million variables": "{{ x }}" * 700_000,
}
"""What takes memory without end."""

LONG = {
    "five megabytes of text": "a" * 5_000_000,
    "a million signs": "{{ 'a' * 1000000 }}",
    "each turn a hundred times over": (
        "{% for i in range(9999) %}{{ messages[0].content }}{% endfor %}" * 9
    ),
}
"""What writes far more than the conversation has."""

REFUSED = {
    "long refusal": "{{ raise_exception('no ' * 9999999) }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "deep brackets": "{{ " + "(" * 99_999 + ")" * 99_999 + " }}",
    "deep lists": "{{ " + "[" * 9_999 + "]" * 9_999 + " }}",
    "deep loops": "{% for a in [1] %}" * 99 + "{% endfor %}" * 99,
    "deep conditions": "{% if 1 %}" * 9_999 + "{% endif %}" * 9_999,
    "long sum": "{{ 1" + " + 1" * 99_999 + " }}",
    "huge range": "{{ range(10 ** 12) | list }}",
    "huge numeral": "{{ (10 ** 9999) | string }}",
    "namespace as JSON": ("{% set n = namespace() %}{% set n.v = n %}{{ n | tojson }}"),
    "class of a text": "{{ ''.__class__.__mro__ }}",
    "class by filter": "{{ ('' | attr('__class__')).__mro__ }}",
    "class by format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "globals of a function": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "globals of a cycler": "{{ cycler.__init__.__globals__.os.system('id') }}",
    "globals of our own": "{{ raise_exception.__globals__['sys'].exit() }}",
    "globals of a method": "{{ strftime_now.__func__.__globals__['sys'].exit() }}",
    "private name": "{{ namespace(__class__=1) }}",
    "change of the turns": "{{ messages.append(1) }}",
    "change of a turn": "{{ messages[0].update(content='x') }}",
    "file by include": "{% include '/etc/passwd' %}",
    "file by import": "{% import '/etc/passwd' as x %}",
    "file by extends": "{% extends '/etc/passwd' %}",
    "no such filter": "{{ 1 | nope }}",
    "cycle of macros": (
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}"
        "{{ a() }}"
    ),
}
"""What is stopped by the sandbox or by Python before it costs anything."""

PAYLOADS = {**SLOW, **LARGE, **LONG, **REFUSED}

QUICK = (
    "tower of powers",
    "product of a text",
    "text that doubles",
    "wide centre of what is asked",
    "translation that grows",
    "five megabytes of text",
    *(name for name in REFUSED if name != "long sum"),
)
"""Those that the suite tries; the others take a second each."""


def tried(renderer: Renderer, name: str) -> dict[str, Any]:
    """Render a hostile template; return what is said of it, and what it took."""
    given = {"messages": [{"role": "user", "content": "Which gas?"}]}
    start = time.perf_counter()
    (written,) = renderer.render(PAYLOADS[name], [(given, "")])
    seconds = time.perf_counter() - start
    (ordinary,) = renderer.render("{{ messages[0].content }}", [(given, "")])
    said = written.reason if isinstance(written, Refusal) else None
    return {"said": said, "seconds": seconds, "then": ordinary}


def main() -> None:
    """Try the payloads that are named on the command line."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    renderer = Renderer()
    found = {name: tried(renderer, name) for name in sys.argv[1:]}
    renderer.close()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    measured = {"found": found, "memory": max(own, children) * 1024}
    sys.stdout.write(json.dumps(measured))


if __name__ == "__main__":
    main()
