"""What min-tfs-client gets; arguments: port of gRPC, a file with a picture's pixels (numpy).

Its own `predict_request` can name no signature and send no bytes, so its tensors and stubs are used without it.
"""

import json
import sys

import numpy as np
from min_tfs_client.requests import PredictionServiceStub, TensorServingClient
from min_tfs_client.tensors import ndarray_to_tensor_proto, tensor_proto_to_ndarray
from tensorflow_serving.apis.predict_pb2 import PredictRequest

port, pixels = sys.argv[1:]
client = TensorServingClient("127.0.0.1", int(port))
request = PredictRequest()
request.model_spec.name, request.model_spec.signature_name = "fa_net", "predict_images"
request.inputs["images"].CopyFrom(ndarray_to_tensor_proto(np.load(pixels)))
outputs = PredictionServiceStub(client._channel).Predict(request, 60).outputs
refusal = ""
try:
    client.predict_request("fa_net", {"image_bytes": np.array(["no image"])}, model_version=1)
except Exception as error:
    refusal = f"{error.code().name}: {error.details()}"
print(json.dumps({"probabilities": tensor_proto_to_ndarray(outputs["probabilities"]).tolist(), "refusal": refusal}))
