// What @grpc/grpc-js gets with the official protos; arguments: gRPC address, the protos' descriptor set, a face's file.
"use strict";
const fs = require("fs");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const [address, protos, face] = process.argv.slice(2);
const definition = protoLoader.loadFileDescriptorSetFromBuffer(fs.readFileSync(protos), {
  keepCase: true, longs: String, enums: String, defaults: true,
});
const serving = grpc.loadPackageDefinition(definition).tensorflow.serving;
const credentials = grpc.credentials.createInsecure();
const prediction = new serving.PredictionService(address, credentials);
const model = new serving.ModelService(address, credentials);
const call = (service, name, request) => new Promise((resolve, reject) =>
  service[name](request, { deadline: Date.now() + 60000 }, (error, answer) => error ? reject(error) : resolve(answer)));

// From a descriptor set the loader takes a map for what it is on the wire, a list of keys and values.
const named = (entries) => Object.fromEntries(entries.map(({ key, value }) => [key, value]));

async function main() {
  const encoded = fs.readFileSync(face);
  const predict = (image) => call(prediction, "Predict", {
    model_spec: { name: "fa_net" },
    inputs: [{
      key: "image_bytes",
      value: { dtype: "DT_STRING", tensor_shape: { dim: [{ size: 1 }] }, string_val: [image] },
    }],
  });
  const { outputs } = await predict(encoded);
  const feature = [{ key: "image/encoded", value: { bytes_list: { value: [encoded] } } }];
  const { result } = await call(prediction, "Classify", {
    model_spec: { name: "fa_net", signature_name: "classify" },
    input: { example_list: { examples: [{ features: { feature } }] } },
  });
  const metadata = await call(prediction, "GetModelMetadata",
    { model_spec: { name: "fa_net" }, metadata_field: ["signature_def"] });
  const status = await call(model, "GetModelStatus", { model_spec: { name: "fa_net" } });
  const refusal = await predict(Buffer.from("no image")).then(() => "", (error) => `${error.code}: ${error.details}`);
  console.log(JSON.stringify({
    probabilities: named(outputs).probabilities.float_val,
    labels: named(outputs).labels.string_val.map(String),
    classes: result.classifications[0].classes,
    metadata: Object.keys(named(metadata.metadata)),
    states: status.model_version_status.map(({ version, state }) => [version, state]),
    refusal,
  }));
  prediction.close();
  model.close();
}

main().catch((error) => { console.error(error); process.exit(1); });
