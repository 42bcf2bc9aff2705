"""Queries over the packages of corpus.py, and what each must find, with Elasticsearch and with PostgreSQL alike."""

import unicodedata
from dataclasses import dataclass, field

from tests.search.words.corpus import nfd

NO_NAMES: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Query:
    """A query and the names it must find.

    `top`: all of these are among the first three results. `first`: this one is the first result. `absent`: none of
    these is a result. `params`: further query parameters.
    """

    q: str
    top: frozenset[str] = NO_NAMES
    first: str = ""
    absent: frozenset[str] = NO_NAMES
    params: dict[str, str | list[str]] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """A name for test reports that tells forms of the same letters apart."""
        form = "" if unicodedata.is_normalized("NFC", self.q) else " (decomposed)"
        return f"{self.q}{form}" + "".join(f" {name}={value}" for name, value in self.params.items())


def _of(q: str, *top: str, first: str = "", absent: tuple[str, ...] = (), **params: str | list[str]) -> Query:
    return Query(q, frozenset(top), first, frozenset(absent), params)


NORMAL_FORMS = (
    _of("météo", "storm-watch", "rain-radar"),
    _of(nfd("météo"), "storm-watch", "rain-radar"),
    _of("meteo", "meteo-archive"),
    _of("meteo france", "storm-watch", first="storm-watch"),
    _of("prévisions", "storm-watch"),
    _of("previsions", "storm-watch"),
    _of("résumé", "cv-writer", "pause-button", first="cv-writer"),
    _of(nfd("résumé"), "cv-writer", "pause-button", first="cv-writer"),
    _of("resume", "pause-button", "cv-writer", first="pause-button"),
    _of("straße", "road-signs", "street-names"),
    _of("strasse", "street-names", "road-signs"),
    _of("größe", "size-charts"),
    _of("grosse", "size-charts"),
    _of("año", "year-end"),
    _of("ano fiscal", "year-end"),
    _of("żółw", "turtle-race"),
    _of("zolw", "turtle-race"),
    _of("istanbul haritası", "istanbul-map"),
    _of("øyer", "fjord-tides"),
    _of("oyer", "fjord-tides"),
    _of("быстрый разбор", "log-ru"),
    _of(nfd("быстрый разбор"), "log-ru"),
    _of("ЖУРНАЛОВ", "log-ru"),
    _of("ёлка", "tree-ru"),
    _of("елка", "tree-ru"),
    _of("βιβλιοθήκη", "library-gr", absent=("text-gr",)),
    _of("βιβλιοθηκη", "library-gr"),
    _of("ΒΙΒΛΙΟΘΗΚΗ", "library-gr"),
    _of("tiếng Việt", "words-vi", "words-vi-cut", absent=("voice-vi",)),
    _of(nfd("tiếng Việt"), "words-vi", "words-vi-cut"),
    _of("tieng viet", "words-vi", "words-vi-cut"),
    _of("duong pho", "roads-vi"),
    _of("configuration files", "ligature-kit"),
    _of("con\ufb01guration \ufb01les", "ligature-kit"),
    _of("ספרייה", "hebrew-text", absent=("hebrew-dates",)),
    _of("النصوص", "arabic-text", absent=("arabic-dates",)),
    _of("\ufee3\ufedc\ufe98\ufe92\ufe94", "arabic-text"),
    _of("हिन्दी", "hindi-text", absent=("hindi-news", "hindi-dates")),
    _of("विश्लेषण", "hindi-text", absent=("hindi-news", "hindi-dates")),
    _of("meteo", "storm-watch", absent=("meteor-shower", "meteo-archive"), keyword="météo"),
    _of("keyword:meteo", "storm-watch"),
    _of("prévisions", "storm-watch", author="Zoë Müller"),
    _of("previsions", "storm-watch", author=nfd("Zoë Müller")),
    _of("author:muller", "storm-watch"),
    _of('"météo pour la France"', "storm-watch", absent=("rain-radar",)),
    _of("météo -radar", "storm-watch", absent=("rain-radar",)),
)

RUNS = (
    _of("网络", "swift-fetch", "net-graph", absent=("page-mill", "contact-book")),
    _of("请求库", "swift-fetch", absent=("pixel-forge",)),
    _of("图像处理", "pixel-forge", absent=("swift-fetch",)),
    _of("网络请求库", "swift-fetch", first="swift-fetch"),
    _of("神经网络", "net-graph", first="net-graph"),
    _of("資料庫", "table-mover", absent=("file-mover",)),
    _of("法令", "law-finder", absent=("grammar-check",)),
    _of("検索", "law-finder", "full-index", absent=("check-list",)),
    _of("全文検索", "full-index", first="full-index"),
    _of("データベース", "data-link", "data-shift", absent=("data-board",)),
    _of("ﾃﾞｰﾀﾍﾞｰｽ", "data-link", "data-shift", absent=("data-board",)),
    _of("json", "wide-json"),
    _of("ＪＳＯＮ", "wide-json"),
    _of("解析器", "wide-json", absent=("grammar-check",)),
    _of("カタカナ", "kana-kit"),
    _of("ｶﾀｶﾅ", "kana-kit"),
    _of("분석기", "morph-kr", absent=("part-kr",)),
    _of("형태소", "morph-kr"),
    _of(nfd("분석기"), "morph-kr"),
    _of("ตัดคำ", "cut-th", absent=("text-th",)),
    _of("ภาษาไทย", "cut-th"),
    _of("เสื้อ", "shirts-th", absent=("tigers-th",)),
    _of("เสือ", "tigers-th", absent=("shirts-th",)),
    _of("ພາສາລາວ", "text-lo", absent=("dates-lo",)),
    _of("ປະມວນຜົນ", "text-lo", absent=("dates-lo",)),
    _of("ភាសាខ្មែរ", first="text-km"),
    _of("បណ្ណាល័យ", "text-km"),
    _of("redis 客户端", "cache-cn", first="cache-cn"),
    _of("redis客户端", "cache-cn", first="cache-cn"),
    _of("http クライアント", "fetch-jp", first="fetch-jp"),
    _of("客户端", "cache-cn", "client-cn"),
    _of('"网络请求"', "swift-fetch", absent=("net-graph",)),
    _of("网络 -请求", "net-graph", absent=("swift-fetch",)),
    _of("页", "page-mill", absent=("pixel-forge",)),
)

COMPOUNDS = (
    _of("sha256", "digest-kit", "hash-belt"),
    _of("SHA-256", "digest-kit", "hash-belt"),
    _of("sha 256", "digest-kit", "hash-belt"),
    _of("wifi", "hotspot-setup", "signal-meter"),
    _of("Wi-Fi", "hotspot-setup", "signal-meter"),
    _of("wi fi", "hotspot-setup", "signal-meter"),
    _of("websocket", "duplex-line", "push-channel"),
    _of("web socket", "duplex-line", "push-channel"),
    _of("web-socket", "duplex-line", "push-channel"),
    _of("websockets", "duplex-line", "push-channel"),
    _of("utf8", "charset-probe", "byte-check"),
    _of("UTF-8", "charset-probe", "byte-check"),
    _of("utf 8", "charset-probe", "byte-check"),
    _of("base64", "mime-armor", "text-armor"),
    _of("base-64", "mime-armor", "text-armor"),
    _of("base 64", "mime-armor", "text-armor"),
    _of("nodejs18", "runtime-image", "runtime-pack"),
    _of("node.js 18", "runtime-image", "runtime-pack"),
    _of("nodejs 18", "runtime-image", "runtime-pack"),
    _of("node-js", "addon-glue", "addon-forge"),
    _of("nodejs", "addon-glue", "addon-forge"),
    _of("node.js addons", "addon-forge", first="addon-forge"),
    _of("h264", "video-box", "video-cut"),
    _of("H.264", "video-box", "video-cut"),
    _of("oauth2", "grant-flow", "grant-page"),
    _of("oauth 2", "grant-flow", "grant-page"),
    _of("timeseries", "tick-store", "tick-chart"),
    _of("time series", "tick-store", "tick-chart"),
    _of("dropdown", "menu-kit", "menu-box"),
    _of("drop-down", "menu-kit", "menu-box"),
    _of("filesystem", "disk-tree", "disk-watch"),
    _of("file system", "disk-tree", "disk-watch"),
    _of("sha256 checksums", "digest-kit", first="digest-kit"),
    _of("wifi -hotspots", "signal-meter", absent=("hotspot-setup",)),
)

LANGUAGES = (
    _of("C++", "template-lint", "ast-two", absent=("alloc-trace", "ast-one", "roslyn-rules", "ast-three", "ast-four")),
    _of("c++", "template-lint", "ast-two", absent=("alloc-trace", "ast-one", "roslyn-rules", "ast-three", "ast-four")),
    _of("C#9", "tuple-tour", absent=("ast-one", "ast-three")),
    _of("records C#", "tuple-tour"),
    _of("C#", "roslyn-rules", "ast-three", absent=("alloc-trace", "ast-one", "template-lint", "ast-two", "ast-four")),
    _of("c#", first="csharp-lens", absent=("fsharp-lens",)),
    _of("F#", "fable-forms", "ast-four", absent=("f-stop", "ast-one", "ast-two", "ast-three", "csharp-lens")),
    _of("F# lens", first="fsharp-lens", absent=("csharp-lens",)),
    _of("C", absent=("template-lint", "roslyn-rules", "tuple-tour", "ast-two", "ast-three", "ast-four")),
    _of("parser C", first="ast-one", absent=("ast-two", "ast-three", "ast-four")),
    _of("C++ parser", first="ast-two", absent=("ast-one", "ast-three", "ast-four")),
    _of("parser for C#", first="ast-three"),
    _of("F# parser", first="ast-four", absent=("ast-one", "ast-two", "ast-three")),
    _of('"parser for C"', first="ast-one", absent=("ast-two", "ast-three", "ast-four")),
    _of("parser -C++", absent=("ast-two", "template-lint")),
    _of(".NET", first="clr-metrics", absent=("net-stats", "botnet-watch")),
    _of(".net services", first="clr-metrics"),
    _of("net", first="net-stats", absent=("clr-metrics",)),
)

COMMON_WORDS = (
    _of("just", first="just"),
    _of("which", first="which"),
    _of("not", first="not"),
    _of("to-do", first="to-do"),
    _of("to do", first="to-do"),
    _of("todo", "to-do", first="to-do"),
    _of("to be or not to be", first="hamlet-says"),
    _of('"to be or not to be"', first="hamlet-says", absent=("be-brief", "not-to-be")),
    _of('"as it was"', first="file-view", absent=("speed-test",)),
    _of('"there and then"', first="coin-toss", absent=("map-pins",)),
    _of("there and then", first="coin-toss"),
    _of("which key", first="which-key"),
    _of("author:will", "wait-list"),
    _of('author:"will" guests', "wait-list"),
)

PLAIN = (
    _of("requests", first="requests"),
    _of("http client", "httpx", "fetch-en"),
    _of("flask", first="flask"),
    _of("web framework", first="flask"),
    _of("sqlalch", first="sqlalchemy"),
    _of("algor", first="synapse-algorithms"),
    _of("serdejson", first="serde_json"),
    _of("SerdeJson", first="serde_json"),
    _of("serde json", first="serde_json"),
    _of("parsing dates", "date-parser"),
    _of("merge pdf", "pdf-merge", first="pdf-merge"),
    _of("pictures", "image-resize"),
    _of("reqests", first="requests"),
    _of("requsets", first="requests"),
    _of("nunpy", first="numpy"),
    _of("sqlalchmey", first="sqlalchemy"),
    _of("flaks", first="flask"),
    _of("markdwon-html", first="markdown-html"),
    _of("k8s", "kube-client"),
    _of("orm", "sqlalchemy"),
    _of("quadtree", "geo-hash"),
    _of("分布式事务", "ledger-cn"),
    _of("lossless round trips", "toml-edit"),
    _of("kenneth reitz", "requests"),
    _of('"retry policy"', "http-retry", absent=("retry-kit",)),
    _of("http -client", absent=("httpx", "fetch-en")),
    _of('http -"retry policy"', absent=("http-retry",)),
    _of("pdf -license:GPL-3.0", "pdf-merge", absent=("pdf-split",)),
    _of("license:gpl-3.0", "pdf-split", absent=("pdf-merge",)),
    _of("http license:MIT", "http-retry", "mock-server", absent=("requests", "httpx")),
    _of("author:ada", "rate-limit", "task-queue"),
    _of('author:"ada lovelace" jobs', first="task-queue", absent=("rate-limit",)),
    _of("keyword:science keyword:ml", first="numpy", absent=("pandas",)),
    _of('keyword:"machine learning"', first="tide-tables"),
    _of("web -keyword:web", absent=("flask", "flask-login")),
    _of("name:pdf", "pdf-merge", "pdf-split"),
    _of("name:code -name:bar", first="qr-code", absent=("bar-code",)),
    _of("arrays", "numpy", keyword=["ml", "Science"]),
    _of("functions", "retry-kit", absent=("rate-limit",), license="MIT"),
    _of("pdf documents", "pdf-merge", "pdf-split", sort="downloads"),
    _of("numerical python library", first="numpy"),
)

QUERIES: tuple[Query, ...] = (*NORMAL_FORMS, *RUNS, *COMPOUNDS, *LANGUAGES, *COMMON_WORDS, *PLAIN)
