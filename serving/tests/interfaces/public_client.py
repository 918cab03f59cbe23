"""Asks a server for scores with NVIDIA's client for the Open Inference Protocol, unmodified, in each way it knows.

    pip install "tritonclient[http,grpc]"
    python public_client.py 127.0.0.1:8080

Prints the scores by the way they came. `cargo test --test interfaces` runs this where it can.
"""

import json
import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

SRC = np.array([1, 3, 5], dtype=np.uint64)
DST = np.array([2, 4, 6], dtype=np.uint64)


def ask(module, client, **binary):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("score")
    inputs = []
    for name, values in (("src", SRC), ("dst", DST)):
        tensor = module.InferInput(name, list(values.shape), "UINT64")
        tensor.set_data_from_numpy(values, **binary)
        inputs.append(tensor)
    outputs = [module.InferRequestedOutput(name, **binary) for name in ("score", "log_seq")]
    answer = client.infer("score", inputs, outputs=outputs, request_id="7", timeout=5_000_000)
    assert int(answer.as_numpy("log_seq")[0]) > 0
    everything = client.infer("score", inputs)
    assert np.array_equal(everything.as_numpy("score"), answer.as_numpy("score"))
    return answer.as_numpy("score").astype(float).tolist()


def main():
    address = sys.argv[1]
    http, grpc = over_http.InferenceServerClient(address), over_grpc.InferenceServerClient(address)
    assert http.get_server_metadata()["name"] == grpc.get_server_metadata().name == "tempograph"
    assert http.get_model_metadata("score")["outputs"][0]["name"] == grpc.get_model_metadata("score").outputs[0].name == "score"
    try:
        grpc.infer("nothing", [])
    except over_grpc.InferenceServerException as error:
        assert "there is no model `nothing`" in error.message(), error
    else:
        raise AssertionError("a model that is not there is refused")
    told = {
        "http json": ask(over_http, http, binary_data=False),
        "http bytes": ask(over_http, http, binary_data=True),
        "grpc": ask(over_grpc, grpc),
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
