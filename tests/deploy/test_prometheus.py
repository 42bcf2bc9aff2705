"""Prometheus: its configuration, its alerts, and that the registry and the worker export the metrics they use."""

import os
import re
import subprocess
from pathlib import Path

import aiohttp
import pytest
import yaml
from ephemeral_port_reserve import reserve

from tests.deploy.outside import running, until_healthy, words
from tests.deploy.stack import ROOT, services

FOLDER = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "words",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")],
    ids=" ".join,
)
def test_promtool_accepts_the_files(promtool: Path, words):
    run = subprocess.run([promtool, *words], cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    cases = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    names = {alert["alert"] for alert in ALERTS}
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == names
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == names


def test_every_alert_has_a_severity_and_a_runbook_entry():
    runbook = (ROOT / "deploy" / "README.md").read_text()
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"]
        assert f"`{alert['alert']}`" in runbook


async def test_the_metrics_of_the_alerts_are_exported(make_registry):
    port = str(reserve())
    registry = await make_registry(REGISTRY_METRICS_PORT=port)
    await (await registry.user()).publish("demo")
    await registry.drain()
    async with registry.session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        metrics = await answer.text()
    asked = set(re.findall(r"registry_\w+", " ".join(alert["expr"] for alert in ALERTS)))
    assert len(asked) > 8
    for name in asked:
        assert re.search(rf"^{name}[ {{]", metrics, re.MULTILINE), name
    for label in ('registry_storage_errors_total{operation="missing"} ', 'outcome="failed"} '):
        assert label in metrics


def test_every_process_is_scraped_on_its_metrics_port(secrets):
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    for scrape in scraped:
        (target,) = scrape["dns_sd_configs"]
        (name,) = target["names"]
        service = services()[name]
        assert str(target["port"]) == service["environment"]["REGISTRY_METRICS_PORT"]
        assert set(service["networks"]) & set(services()["prometheus"]["networks"])
        assert scrape["job_name"] == name
    assert f'"{scraped[0]["job_name"]}"' in ALERTS[0]["expr"]


async def test_the_worker_exports_metrics_too(database_url, elasticsearch, tmp_path):
    port, worker = reserve(), services()["worker"]
    environ = {
        "PATH": os.environ["PATH"],
        "REGISTRY_DB_URL": database_url,
        "REGISTRY_ES_URL": elasticsearch.url,
        "REGISTRY_ES_PREFIX": f"w{port}-",
        "REGISTRY_STORAGE_PATH": str(tmp_path),
        "REGISTRY_METRICS_PORT": str(port),
    }
    async with running(words(worker, "command"), environ, tmp_path / "worker.log"), aiohttp.ClientSession() as session:
        await until_healthy(words(worker, "healthcheck", {"9100": port}), environ)
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = await answer.text()
    assert 'registry_consumer_errors_total{consumer="search"}' in metrics
