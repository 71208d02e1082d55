"""What ovmsclient, OpenVINO's client, gets over gRPC and HTTP; arguments: gRPC address, HTTP address, a face's file."""

import json
import sys

import numpy as np
import ovmsclient

grpc_address, http_address, face = sys.argv[1:]
with open(face, "rb") as file:
    encoded = file.read()
answers = {}
for name, client in (
    ("grpc", ovmsclient.make_grpc_client(grpc_address)),
    ("http", ovmsclient.make_http_client(http_address)),
):
    # It sends version 0, by which it means the newest; bytes go in a list over gRPC and HTTP alike.
    outputs = client.predict({"image_bytes": [encoded]}, "fa_net")
    try:
        client.predict({"image_bytes": [b"no image"]}, "fa_net")
    except ovmsclient.InvalidInputError as error:
        refusal = str(error)
    answers[name] = {
        "probabilities": np.asarray(outputs["probabilities"], float).tolist(),
        "labels": np.asarray(outputs["labels"]).astype(str).tolist(),
        "status": {str(key): value["state"] for key, value in client.get_model_status("fa_net").items()},
        "metadata": client.get_model_metadata("fa_net"),
        "refusal": refusal,
    }
print(json.dumps(answers))
