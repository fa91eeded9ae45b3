"""The real MLflow reads what `camtrast track` writes. It is large (650 MB), so this needs `MLFLOW=1`."""

import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import TINY, command

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def server(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    line = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--workers", "1",
            "--artifacts-destination", str(tmp_path / "artifacts"), "--port", str(port)]
    with open(tmp_path / "server.log", "w") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, cwd=tmp_path)
    url = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{url}/health")
            break
        except OSError:
            time.sleep(0.5)
    yield url
    process.terminate()
    process.wait()


def check(uri, losses):
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("camtrast")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    assert run.data.params["method"] == "supervised"
    history = client.get_metric_history(run.info.run_id, "step/loss")
    assert [(number.step, number.value) for number in history] == losses
    return client, run


def test_mlflow_reads_a_server_and_a_folder(here, server, monkeypatch):
    import json

    code, _, errors = command(f"pretrain --method supervised {TINY} --log-every 5 --track mlflow:{server} --out run", here)
    assert code == 0 and "warning" not in errors, errors
    for target in [server, "store"]:
        assert command(f"track run --to mlflow:{target}", here)[0] == 0
    lines = [json.loads(line) for line in (here / "run/log.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if line["kind"] == "step"]
    check(server, losses)
    # Later versions of MLflow read folders only when asked to.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check(f"file://{here}/store", losses)
