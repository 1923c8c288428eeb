"""The Open Inference Protocol, asked by Triton's client at a real server and by hand where that client cannot err."""

import base64
import json
import struct

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from starlette.testclient import TestClient
from tritonclient.utils import InferenceServerException

from components.cxr.films.pixels import encode_png
from components.serve.app import create_app
from components.serve.config import ServeConfig

INFER = "/v2/models/cxrflow/infer"


def _bytes(name, values, *, binary=True):
    tensor = triton.InferInput(name, [len(values)], "BYTES")
    return tensor.set_data_from_numpy(np.array(values, dtype=object), binary_data=binary)


def _age(value, datatype="FP32", dtype=np.float32, *, binary=True):
    tensor = triton.InferInput("age_years", [1], datatype)
    return tensor.set_data_from_numpy(np.array([value], dtype), binary_data=binary)


@pytest.fixture(scope="module")
def web(server):
    with triton.InferenceServerClient(server.address.removeprefix("http://")) as client:
        yield client


def _form_answer(server, study):
    fields = {"text": study.text, "age_years": repr(study.age_years), "sex": study.sex}
    fields["view_positions"] = ",".join(study.view_positions)
    files = [("files", ("f", encode_png(film))) for film in study.films]
    response = httpx.post(f"{server.address}/v1/predict", data=fields, files=files, trust_env=False)
    assert response.status_code == 200
    return response.json()


def test_tritons_client_finds_server_and_model(web, server, evaluated):
    assert web.is_server_live()
    assert web.is_server_ready()
    assert web.is_model_ready("cxrflow")
    assert not web.is_model_ready("other")
    assert not web.is_model_ready("cxrflow", "7")
    version = evaluated.report.bundle_hash[:16]
    assert web.get_server_metadata() == {"name": "cxrflow", "version": version, "extensions": ["binary_tensor_data"]}
    metadata = web.get_model_metadata("cxrflow", version)
    assert metadata == web.get_model_metadata("cxrflow")
    assert metadata["versions"] == [version]
    shapes = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in metadata["outputs"]}
    assert shapes["probability"] == ("FP64", [4])
    assert {tensor["name"] for tensor in metadata["inputs"]} >= {"files", "text", "age_years", "sex", "view_positions"}


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_gets_the_forms_answer(web, server, study, binary):
    films = [encode_png(film) for film in study.films]
    inputs = [
        _bytes("files", films if binary else [base64.b64encode(film) for film in films], binary=binary),
        _bytes("text", [study.text.encode()], binary=binary),
        _age(study.age_years, binary=binary),
        _bytes("sex", [study.sex.encode()], binary=binary),
        _bytes("view_positions", [view.encode() for view in study.view_positions], binary=binary),
    ]
    metadata = web.get_model_metadata("cxrflow")
    names = [tensor["name"] for tensor in metadata["outputs"]]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    found = web.infer("cxrflow", inputs, outputs=outputs, request_id="42")
    expected = _form_answer(server, study)
    assert found.get_response()["id"] == "42"
    assert found.get_response()["model_version"] == metadata["versions"][0]
    text = str if not binary else bytes.decode
    assert [text(name) for name in found.as_numpy("pathology")] == list(expected["answers"])
    for name in ("probability", "uncertain", "state", "threshold", "low_support", "valid"):
        assert found.as_numpy(name).tolist() == [answer[name] for answer in expected["answers"].values()], name
    assert text(found.as_numpy("condition")[0]) == expected["condition"] == "all"
    assert json.loads(text(found.as_numpy("reply")[0])) == expected
    for output in metadata["outputs"]:
        told = found.get_output(output["name"])
        assert told["datatype"] == output["datatype"]
        assert output["shape"] in ([-1], told["shape"])


def test_without_wanted_outputs_all_come_as_bytes(web):
    found = web.infer("cxrflow", [_bytes("text", [b"cough"])])
    assert found.as_numpy("condition").tolist() == [b"text"]
    assert all("binary_data_size" in output["parameters"] for output in found.get_response()["outputs"])


@pytest.mark.parametrize("of_all", [True, False])
def test_an_outputs_own_wish_for_bytes_comes_before_that_for_all(client, of_all):
    wanted = [{"name": "overall", "parameters": {"binary_data": not of_all}}, {"name": "condition"}]
    body = {**_tensor(), "outputs": wanted, "parameters": {"binary_data_output": of_all}}
    response = client.post(INFER, content=json.dumps(body).encode())
    head = json.loads(response.content[: int(response.headers["inference-header-content-length"])])
    assert ["data" in output for output in head["outputs"]] == [of_all, not of_all]


def test_an_unknown_output_is_refused_before_the_study_is_answered(client):
    body = json.dumps({**_tensor(), "outputs": [{"name": "overall"}, {"name": "nothing"}]})
    assert client.post(INFER, content=body.encode()).status_code == 422
    assert 'cxrflow_studies_total{condition="text"} 1.0' not in client.get("/metrics").text
    assert client.post(INFER, content=json.dumps(_tensor()).encode()).status_code == 200
    assert 'cxrflow_studies_total{condition="text"} 1.0' in client.get("/metrics").text


def test_tritons_client_prints_the_reason(web):
    with pytest.raises(InferenceServerException) as caught:
        web.infer("cxrflow", [_bytes("files", [b"Jane Doe"])])
    assert caught.value.status() == "422"
    assert caught.value.message() == "The film cannot be used: neither DICOM, PNG nor JPEG. [film-unknown-format]"
    with pytest.raises(InferenceServerException, match=r"another version of the model\. \[unknown-version\]"):
        web.infer("cxrflow", [_bytes("text", [b"cough"])], model_version="7")
    with pytest.raises(InferenceServerException, match=r"\[compressed\]"):
        web.infer("cxrflow", [_bytes("text", [b"cough"])], request_compression_algorithm="gzip")
    with pytest.raises(InferenceServerException, match=r"\[http-404\]"):
        web.infer("other", [_bytes("text", [b"cough"])])


@pytest.mark.parametrize(
    ("datatype", "dtype"), [("FP64", np.float64), ("INT32", np.int32), ("UINT8", np.uint8), ("FP16", np.float16)]
)
def test_an_age_is_any_number(web, png, datatype, dtype):
    found = web.infer("cxrflow", [_bytes("files", [png]), _age(63, datatype, dtype)])
    assert json.loads(found.as_numpy("reply")[0])["seen"]["age_years"] == 63.0


@pytest.mark.parametrize("shape", [[1], [1, 1], [1, 1, 1]])
def test_batched_shapes_are_read_as_one_study(client, shape):
    data = "cough"
    for _ in shape:
        data = [data]
    body = {"inputs": [{"name": "text", "shape": shape, "datatype": "BYTES", "data": data}]}
    assert client.post(INFER, json=body).status_code == 200


def _tensor(name="text", data=("cough",), **changes):
    values = {"name": name, "datatype": "BYTES", "shape": [len(data)], "data": list(data), **changes}
    return {"inputs": [{key: value for key, value in values.items() if value is not None}]}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad-json"),
        (b"[]", 400, "bad-json"),
        ({}, 422, "bad-infer-request"),
        ({"inputs": []}, 422, "bad-infer-request"),
        ({"inputs": {"Jane": 1}}, 422, "bad-infer-request"),
        ({"inputs": ["Jane"]}, 422, "bad-infer-request"),
        (_tensor(name="Jane"), 422, "unknown-field"),
        (_tensor(name=None), 422, "unknown-field"),
        ({"inputs": _tensor()["inputs"] * 2}, 422, "repeated-field"),
        (_tensor(datatype="Jane"), 422, "bad-infer-request"),
        (_tensor(datatype="FP32", data=[1.0]), 422, "bad-infer-request"),
        (_tensor(shape=[2]), 422, "bad-infer-request"),
        (_tensor(shape=[-1]), 422, "bad-infer-request"),
        (_tensor(shape=[True]), 422, "bad-infer-request"),
        (_tensor(shape="Jane"), 422, "bad-infer-request"),
        (_tensor(shape=[]), 422, "bad-infer-request"),
        (_tensor(shape=[1, 1, 1, 1]), 422, "bad-infer-request"),
        (_tensor(data=["Jane", ["Doe"]], shape=[2]), 422, "bad-infer-request"),
        (_tensor(data=[[[["Jane"]]]], shape=[1, 1, 1]), 422, "bad-infer-request"),
        (_tensor(data=[7]), 422, "bad-field"),
        (_tensor(data=[True]), 422, "bad-field"),
        (_tensor(parameters="Jane"), 422, "bad-infer-request"),
        (_tensor(parameters={"binary_data_size": 9}), 422, "bad-infer-request"),
        (_tensor(parameters={"binary_data_size": True}), 422, "bad-infer-request"),
        ({**_tensor(), "parameters": ["Jane"]}, 422, "bad-infer-request"),
        ({**_tensor(), "outputs": "Jane"}, 422, "bad-infer-request"),
        ({**_tensor(), "outputs": [{}]}, 422, "bad-infer-request"),
        ({**_tensor(), "outputs": [{"name": "Jane"}]}, 422, "unknown-output"),
        ({**_tensor(), "id": 7}, 422, "bad-infer-request"),
        ({**_tensor(), "id": "Jane" * 100}, 422, "bad-infer-request"),
        (_tensor(name="files", data=["Jane^Doe"]), 422, "bad-base64"),
        (_tensor(name="files", data=["SmFuZQ=="]), 422, "film-unknown-format"),
        (_tensor(name="files", data=["SmFuZQ=="] * 9), 413, "too-many-films"),
        (_tensor(name="age_years", datatype="FP32", data=[131.0]), 422, "bad-age"),
        (_tensor(name="age_years", datatype="BOOL", data=[True]), 422, "bad-infer-request"),
        (_tensor(name="sex", data=["woman"]), 422, "bad-sex"),
        (_tensor(data=[]), 422, "nothing-to-read"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(client, body, status, code):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = client.post(INFER, content=content)
    assert response.status_code == status
    assert response.json()["error"].endswith(f"[{code}]")
    assert "Jane" not in response.text
    assert "woman" not in response.text


@pytest.mark.parametrize(
    ("length", "rest", "size"),
    [
        ("Jane", b"", None),
        ("-1", b"", None),
        ("9" * 5000, b"", None),
        ("²", b"", None),
        ("100000", b"", None),
        (None, struct.pack("<I", 9) + b"Jane", 8),
        (None, struct.pack("<I", 4) + b"Jane" + b"Doe", 11),
        (None, b"Jan", 3),
        (None, struct.pack("<I", 4) + b"Jane" + b"Doe", 8),
        (None, struct.pack("<I", 4) + b"J\xffne", 8),
    ],
)
def test_damaged_bytes_behind_the_json_are_refused(client, length, rest, size):
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES"}
    tensor |= {"data": ["cough"]} if size is None else {"parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor]}).encode()
    headers = {"inference-header-content-length": (length or str(len(text))).encode()}
    response = client.post(INFER, content=text + rest, headers=headers)
    assert response.status_code == 422
    assert "Jane" not in response.text


def test_limits_are_the_forms(predictor, png):
    with TestClient(create_app(predictor, ServeConfig(max_request_bytes=300, max_text_chars=10))) as client:
        refusal = client.post(INFER, json=_tensor(data=["a" * 11]))
        assert (refusal.status_code, refusal.json()["error"][-15:]) == (413, "[text-too-long]")
        refusal = client.post(INFER, content=bytes(401))
        assert (refusal.status_code, refusal.json()["error"][-19:]) == (413, "[request-too-large]")


def test_the_registered_version_is_in_every_answer(predictor):
    with TestClient(create_app(predictor, ServeConfig(), model_version="12")) as client:
        for reply in (
            client.get("/v1/model").json(),
            client.post("/v1/predict", json={"text": "cough"}).json(),
        ):
            assert (reply["model_version"], reply["bundle_hash"]) == ("12", predictor.bundle.hash)
        assert client.get("/v2").json()["version"] == "12"
        for path in ("/v2/models/cxrflow", "/v2/models/cxrflow/versions/12"):
            assert client.get(path).json()["versions"] == ["12"]
            assert client.get(path).json()["parameters"]["bundle_hash"] == predictor.bundle.hash
            reply = client.post(f"{path}/infer", json=_tensor()).json()
            assert (reply["model_version"], reply["parameters"]["bundle_hash"]) == ("12", predictor.bundle.hash)
        assert client.get("/v2/models/cxrflow/versions/13").status_code == 404
        assert client.get(f"/v2/models/cxrflow/versions/{predictor.bundle.hash}/ready").json()["ready"]
