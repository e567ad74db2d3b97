"""An exported folder goes up to a hub and comes down again, over a stand-in on this machine."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, hf_hub_download

from medsgssl.config.schema import EncoderSettings
from medsgssl.errors import ConfigError
from medsgssl.inference import export as exporting
from medsgssl.inference.predictor import Predictor, check_views
from medsgssl.models import hub
from medsgssl.models.encoder import build_encoder
from tests.conftest import TrainedRun

COMMIT = "c" * 40


class StandIn(BaseHTTPRequestHandler):
    """The few answers of a model hub that an upload and a download ask for."""

    files: dict[str, bytes]

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            self._json({"url": f"http://{self.headers['Host']}/me/model", "name": "me/model"})
        elif "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(sent)["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            self._json({"files": modes})
        elif "/commit/" in self.path:
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            url = f"http://{self.headers['Host']}/me/model/commit/{COMMIT}"
            self._json({"commitUrl": url, "commitOid": COMMIT})
        else:
            self.send_error(404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        content = self.files.get(self.path.rpartition("/resolve/main/")[2])
        if "/resolve/main/" not in self.path:
            self._json({"id": "me/model", "sha": COMMIT, "siblings": []})
        elif content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a stand-in that holds nothing yet."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for key in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(key, raising=False)
    handler = type("Handler", (StandIn,), {"files": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_that_is_not_there_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = functools.partial(HfApi, endpoint="http://127.0.0.1:1", token="hf_none")
    monkeypatch.setattr(exporting, "HfApi", api)
    with pytest.raises(ConfigError, match="upload to me/model failed"):
        exporting.push_to_hub(tmp_path, "me/model")


def test_an_encoder_goes_up_and_comes_down_again(
    trained_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    bundle = Predictor.load(trained_run("simclr").path).bundle
    views, masks, _ = check_views(bundle)
    exporting.export_model(bundle, "timm", tmp_path / "encoder", views, masks)
    api = functools.partial(HfApi, endpoint=endpoint, token="hf_none")
    monkeypatch.setattr(exporting, "HfApi", api)
    with monkeypatch.context() as old:
        # Releases before 1.0 look here for the address of a repository, whatever they are given.
        old.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        assert exporting.push_to_hub(tmp_path / "encoder", "me/model")

    down = functools.partial(hf_hub_download, endpoint=endpoint, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(hub, "hf_hub_download", down)
    monkeypatch.setattr(hub, "require_hub", lambda *_: None)
    monkeypatch.setattr(hub, "_KNOWN", {})
    found = build_encoder(EncoderSettings(name="hf-hub:me/model"), bundle.config.data.img_size)
    ours = bundle.classifier.encoder.backbone.state_dict()
    theirs = found.backbone.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
