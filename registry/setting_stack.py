"""The settings of `make up`, as setting_parts.py has those of the service."""

from dataclasses import dataclass
from pathlib import Path

from registry import setting_files as files
from registry.setting_source import var


@dataclass(frozen=True)
class StackSettings:
    """What `make up` starts when no address of a server is given."""

    data_dir: Path = var("REGISTRY_DATA_DIR", "./.data", "Folder where `make up` keeps everything", files.folder)
    cache_dir: Path = var(
        "REGISTRY_CACHE_DIR", "~/.cache/synapse-registry", "Folder for downloaded servers", files.folder
    )
    es_home: str = var("ES_HOME", "", "An Elasticsearch installation to start instead of a downloaded one")
    es_java_home: str = var("ES_JAVA_HOME", "", "JDK 21 or newer for Elasticsearch")
    java_home: str = var("JAVA_HOME", "", "JDK for Elasticsearch, if ES_JAVA_HOME is unset or unsuitable")
