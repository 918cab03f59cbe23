//! The Open Inference Protocol as its clients use it: JSON, JSON followed by bytes, and gRPC.

use std::io::{Read, Write};
use std::process::Command;

use crate::common::grpc::Grpc;
use crate::common::{Running, World, floats, small};
use serde_json::{Value, json};
use tempograph_serving::proto::open_inference::infer_parameter::ParameterChoice;
use tempograph_serving::proto::open_inference::model_infer_request::InferInputTensor;
use tempograph_serving::proto::open_inference::{
    DataType, InferParameter, InferTensorContents, ModelConfigRequest, ModelInferRequest, ModelMetadataRequest,
    ModelReadyRequest, ModelStatisticsRequest, RepositoryIndexRequest, ServerLiveRequest, ServerMetadataRequest,
    ServerReadyRequest,
};
use tempograph_serving::{PairQuery, ServeSpec};
use tonic::Code;

const SRC: [u64; 3] = [1, 3, 5];
const DST: [u64; 3] = [2, 4, 6];

fn scores(server: &Running) -> Vec<f32> {
    let queries: Vec<_> =
        SRC.iter().zip(DST).map(|(&src, dst)| PairQuery { src: src.into(), dst: dst.into(), time: None }).collect();
    server.scores(&queries, &[])
}

fn input(name: &str, datatype: &str, data: Value) -> Value {
    json!({ "name": name, "datatype": datatype, "shape": [data.as_array().unwrap().len()], "data": data })
}

fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    answer["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .find(|output| output["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
}

#[test]
fn health_and_metadata_are_answered() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    assert_eq!(server.get("/v2/health/live"), (200, json!({ "live": true })));
    assert_eq!(server.get("/v2/health/ready"), (200, json!({ "ready": true })));
    assert_eq!(server.get("/v2").1["name"], "tempograph");
    let (_, model) = server.get("/v2/models/score");
    let version = model["versions"][0].as_str().unwrap();
    assert_eq!(model["inputs"][0], json!({ "name": "src", "datatype": "UINT64", "shape": [-1] }));
    assert_eq!(server.get(&format!("/v2/models/score/versions/{version}/ready")).0, 200);
    assert_eq!(server.get("/v2/models/score/versions/1/ready").0, 200);
    assert_eq!(server.get("/v2/models/score/versions/7/ready").0, 404);
    assert_eq!(server.get("/v2/models/gpt").0, 404);

    let mut grpc = Grpc::connect(server.address);
    assert!(grpc.inference(|mut of| async move { of.server_live(ServerLiveRequest {}).await }).unwrap().live);
    assert!(grpc.inference(|mut of| async move { of.server_ready(ServerReadyRequest {}).await }).unwrap().ready);
    let ready = ModelReadyRequest { name: "rank".into(), version: String::new() };
    assert!(grpc.inference(|mut of| async move { of.model_ready(ready).await }).unwrap().ready);
    assert_eq!(
        grpc.inference(|mut of| async move { of.server_metadata(ServerMetadataRequest {}).await }).unwrap().name,
        "tempograph"
    );
    let asked = ModelMetadataRequest { name: "embedding".into(), version: version.into() };
    let model = grpc.inference(|mut of| async move { of.model_metadata(asked).await }).unwrap();
    assert_eq!(
        (model.versions, model.outputs[0].name.as_str()),
        (vec![version.to_string(), "1".to_string()], "embedding")
    );
    let asked = ModelMetadataRequest { name: "gpt".into(), version: String::new() };
    assert_eq!(
        grpc.inference(|mut of| async move { of.model_metadata(asked).await }).unwrap_err().code(),
        Code::NotFound
    );
}

#[test]
fn tensors_in_json_give_the_scores_of_the_typed_api() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let newest = world.history.newest().unwrap().0;
    let body =
        json!({ "id": "seven", "inputs": [input("src", "INT64", json!(SRC)), input("dst", "UINT64", json!(DST))] });
    let (status, answer) = server.post("/v2/models/score/infer", &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["id"], &answer["model_name"]), (&json!("seven"), &json!("score")));
    assert_eq!(floats(&output(&answer, "score")["data"]), scores(&server));
    assert_eq!(output(&answer, "log_seq")["data"], json!([crate::common::SEEN]));
    // The time that was left out before, given explicitly, and nested in a shape with two axes.
    let time = [newest + 1; 3];
    let nested = json!({ "name": "time", "datatype": "FP64", "shape": [3, 1], "data": time.map(|time| [time]) });
    let body = json!({ "inputs": [input("src", "INT32", json!(SRC)), input("dst", "INT64", json!(DST)), nested], "outputs": [{ "name": "probability" }] });
    let (_, answer) = server.post("/v2/models/score/infer", &body);
    assert_eq!(answer["outputs"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(
        answer["parameters"]["log_seq"],
        crate::common::SEEN,
        "{answer} says what it has seen, whatever is asked for"
    );
    let expected: Vec<f32> = scores(&server).iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect();
    assert_eq!(floats(&output(&answer, "probability")["data"]), expected);

    let (_, ranked) = server.post(
        "/v2/models/rank/infer",
        &json!({ "inputs": [input("src", "INT64", json!([3]))], "parameters": { "k": 4 } }),
    );
    let (_, own) = server.post("/v1/rank", &json!({ "src": 3, "k": 4 }));
    let best: Vec<&Value> = own["ranked"].as_array().unwrap().iter().map(|one| &one["dst"]).collect();
    assert_eq!(output(&ranked, "dst")["data"], json!(best));
    let body =
        json!({ "inputs": [input("node", "INT64", json!([3]))], "parameters": { "side": "source", "min_seq": 5 } });
    let (_, embedding) = server.post("/v2/models/embedding/infer", &body);
    assert_eq!(output(&embedding, "embedding")["data"], server.get("/v1/embedding?node=3&side=source").1["embedding"]);
}

#[test]
fn tensors_in_bytes_behind_the_json_are_read_and_written() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let bytes = |values: [u64; 3]| values.iter().flat_map(|value| (*value as i64).to_le_bytes()).collect::<Vec<u8>>();
    let tensor = |name: &str| json!({ "name": name, "datatype": "INT64", "shape": [3], "parameters": { "binary_data_size": 24 } });
    let head = json!({
        "inputs": [tensor("src"), tensor("dst")],
        "outputs": [{ "name": "score", "parameters": { "binary_data": true } }, { "name": "log_seq", "parameters": { "binary_data": false } }],
    });
    let head = head.to_string().into_bytes();
    let body = [&head[..], &bytes(SRC), &bytes(DST)].concat();
    let header = format!("Inference-Header-Content-Length: {}\r\n", head.len());
    let (answer_head, answer) = server.send_bytes("POST", "/v2/models/score/infer", &header, &body);
    assert!(answer_head.starts_with("HTTP/1.1 200"), "{answer_head}");
    let length = answer_head.to_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("inference-header-content-length: ")).unwrap();
    let (json, behind) = answer.split_at(length.parse().unwrap());
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(output(&json, "score")["parameters"]["binary_data_size"], 12);
    assert_eq!(output(&json, "log_seq")["data"], json!([crate::common::SEEN]));
    let found: Vec<f32> = behind.chunks(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap())).collect();
    assert_eq!(found, scores(&server));
}

#[test]
fn tensors_that_will_not_do_are_named() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let (src, dst) = (input("src", "INT64", json!([1])), input("dst", "INT64", json!([2])));
    let shape = json!({ "name": "src", "datatype": "INT64", "shape": [2], "data": [1] });
    let without = json!({ "name": "src", "datatype": "INT64", "shape": [1] });
    let far = json!({ "name": "src", "datatype": "INT64", "shape": [1], "parameters": { "binary_data_size": 8 } });
    for (model, body, status, says) in [
        ("score", json!({ "inputs": [src] }), 400, "model `score` needs the input `dst`"),
        ("score", json!({ "inputs": [src, dst, src] }), 400, "input `src` is given twice"),
        (
            "score",
            json!({ "inputs": [src, input("dest", "INT64", json!([2]))] }),
            400,
            "model `score` has no input `dest`; it has `src`, `dst`, `time`",
        ),
        (
            "score",
            json!({ "inputs": [shape, dst] }),
            400,
            "input `src` has 1 values, which is not what its shape [2] says",
        ),
        ("score", json!({ "inputs": [without, dst] }), 400, "needs either `data` or the parameter `binary_data_size`"),
        ("score", json!({ "inputs": [far, dst] }), 400, "binary_data_size 8, but 0 bytes are left"),
        (
            "score",
            json!({ "inputs": [input("src", "INT64", json!([-1])), dst] }),
            422,
            "src[0] is -1, which is not an id",
        ),
        ("score", json!({ "inputs": [input("src", "BYTES", json!(["a"])), dst] }), 404, "no source has the id `a`"),
        (
            "score",
            json!({ "inputs": [input("src", "BYTES", json!([1])), dst] }),
            400,
            "src[0] is 1, which is not BYTES",
        ),
        ("score", json!({ "inputs": [input("src", "BOOL", json!([true])), dst] }), 400, "input `src` is BOOL"),
        (
            "score",
            json!({ "inputs": [input("src", "INT64", json!([1, 2])), dst] }),
            400,
            "there are 2 values of `src`, 1 of `dst`",
        ),
        ("score", json!({ "inputs": [input("src", "INT64", json!([99])), dst] }), 404, "no source has the id 99"),
        ("score", json!({ "inputs": [src, dst], "outputs": [{ "name": "scores" }] }), 400, "has no output `scores`"),
        ("score", json!({ "inputs": [src, dst], "parameters": { "min_seq": -1 } }), 400, "parameter `min_seq`"),
        (
            "rank",
            json!({ "inputs": [input("src", "INT64", json!([1, 2]))] }),
            400,
            "input `src` has 2 values; it takes one",
        ),
        (
            "embedding",
            json!({ "inputs": [input("node", "INT64", json!([1]))], "parameters": { "side": "left" } }),
            422,
            "side is `left`",
        ),
        ("nothing", json!({ "inputs": [] }), 404, "there is no model `nothing`"),
    ] {
        let (found, answer) = server.post(&format!("/v2/models/{model}/infer"), &body);
        let error = answer["error"].as_str().unwrap();
        assert!(found == status && error.contains(says), "{body}: {found} `{error}` does not say `{says}`");
    }
}

#[test]
fn tensors_over_grpc_come_back_as_they_were_sent() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let mut grpc = Grpc::connect(server.address);
    let tensor = |name: &str, values: [u64; 3], raw: bool| InferInputTensor {
        name: name.into(),
        datatype: "UINT64".into(),
        shape: vec![3],
        contents: (!raw)
            .then(|| InferTensorContents { uint64_contents: values.to_vec(), ..InferTensorContents::default() }),
        ..InferInputTensor::default()
    };
    let bytes = |values: [u64; 3]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into();
    for raw in [false, true] {
        let least = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(1)) };
        let request = ModelInferRequest {
            model_name: "score".into(),
            inputs: vec![tensor("src", SRC, raw), tensor("dst", DST, raw)],
            raw_input_contents: if raw { vec![bytes(SRC), bytes(DST)] } else { vec![] },
            parameters: [("min_seq".to_string(), least)].into(),
            ..ModelInferRequest::default()
        };
        let answer = grpc.inference(|mut of| async move { of.model_infer(request).await }).unwrap();
        assert_eq!(answer.outputs[0].name, "score");
        let seen = InferParameter { parameter_choice: Some(ParameterChoice::Uint64Param(crate::common::SEEN as u64)) };
        assert_eq!(answer.parameters["log_seq"], seen);
        let found: Vec<f32> = match raw {
            true => answer.raw_output_contents[0]
                .chunks(4)
                .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()))
                .collect(),
            false => answer.outputs[0].contents.as_ref().unwrap().fp32_contents.clone(),
        };
        assert_eq!(found, scores(&server), "raw {raw}");
    }
    let request = ModelInferRequest {
        model_name: "score".into(),
        inputs: vec![tensor("src", SRC, false), tensor("dst", DST, false)],
        raw_input_contents: vec![bytes(SRC)],
        ..ModelInferRequest::default()
    };
    let status = grpc.inference(|mut of| async move { of.model_infer(request).await }).unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "there are 2 inputs and 1 raw_input_contents")
    );
}

/// NVIDIA's client for this protocol, from PyPI. `TEMPOGRAPH_PYTHON` names a Python that has `tritonclient[http,grpc]`.
#[test]
fn a_public_client_is_answered() {
    let python = std::env::var("TEMPOGRAPH_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import tritonclient.http, tritonclient.grpc"]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: {python} has no tritonclient[http,grpc] (TEMPOGRAPH_PYTHON names another)");
    }
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interfaces/public_client.py");
    let asked = Command::new(&python).args([script, &server.address.to_string()]).output().unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let submitted: Value = serde_json::from_slice(&asked.stdout).unwrap();
    for way in ["http json", "http bytes", "grpc"] {
        assert_eq!(
            submitted[way],
            json!(scores(&server).iter().map(|&score| f64::from(score)).collect::<Vec<_>>()),
            "{way}"
        );
    }
}

fn score_request() -> Value {
    json!({ "inputs": [input("src", "INT64", json!(SRC)), input("dst", "UINT64", json!(DST))] })
}

#[test]
fn configuration_statistics_and_the_index_are_as_load_generators_expect_them() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let (_, config) = server.get("/v2/models/score/config");
    assert_eq!((&config["name"], &config["max_batch_size"]), (&json!("score"), &json!(0)), "{config}");
    assert_eq!(config["input"][0], json!({ "name": "src", "data_type": "TYPE_UINT64", "dims": [-1] }));
    assert_eq!(config["input"][2]["optional"], true);
    assert_eq!(server.get("/v2/models/score/versions/1/config").1, config);
    assert_eq!(server.get("/v2/models/gpt/config").0, 404);
    for _ in 0..3 {
        assert_eq!(server.post("/v2/models/score/infer", &score_request()).0, 200);
    }
    let wrong = json!({ "inputs": [input("src", "INT64", json!([1]))] });
    assert_eq!(server.post("/v2/models/score/versions/1/infer", &wrong).0, 400);
    let (_, stats) = server.get("/v2/models/score/stats");
    let of_score = &stats["model_stats"][0];
    let counts =
        |of: &Value| ["success", "fail", "compute_infer"].map(|what| of["inference_stats"][what]["count"].clone());
    assert_eq!(counts(of_score), [json!(3), json!(1), json!(3)], "{of_score}");
    assert_eq!((&of_score["inference_count"], &of_score["execution_count"]), (&json!(9), &json!(3)));
    let ns = |what: &str| of_score["inference_stats"][what]["ns"].as_u64().unwrap();
    let parts = ns("compute_input") + ns("compute_infer") + ns("compute_output");
    assert!(parts > 0 && parts <= ns("success"), "{of_score}");
    assert!(of_score["last_inference"].as_u64().unwrap() > 1_700_000_000_000, "{of_score}");
    let (_, all) = server.get("/v2/models/stats");
    assert_eq!(all["model_stats"].as_array().unwrap().len(), 3, "{all}");
    let (_, index) = server.send("POST", "/v2/repository/index", "");
    assert_eq!((&index[0]["name"], &index[0]["state"]), (&json!("score"), &json!("READY")), "{index}");

    let mut grpc = Grpc::connect(server.address);
    let asked = ModelConfigRequest { name: "rank".into(), version: "1".into() };
    let config = grpc.inference(|mut of| async move { of.model_config(asked).await }).unwrap().config.unwrap();
    assert_eq!((config.input[0].data_type(), config.input[1].optional), (DataType::TypeUint64, true));
    let asked = ModelStatisticsRequest { name: "score".into(), version: String::new() };
    let stats = grpc.inference(|mut of| async move { of.model_statistics(asked).await }).unwrap().model_stats;
    assert_eq!((stats[0].inference_count, stats[0].inference_stats.as_ref().unwrap().success.unwrap().count), (9, 3));
    let asked = RepositoryIndexRequest { ready: true, ..Default::default() };
    let index = grpc.inference(|mut of| async move { of.repository_index(asked).await }).unwrap().models;
    assert_eq!(index.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["score", "rank", "embedding"]);
}

#[test]
fn a_stream_of_requests_is_answered_in_its_order_and_goes_on_after_a_refusal() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let mut grpc = Grpc::connect(server.address);
    let tensor = |name: &str, value: u64| InferInputTensor {
        name: name.into(),
        datatype: "UINT64".into(),
        shape: vec![1],
        contents: Some(InferTensorContents { uint64_contents: vec![value], ..Default::default() }),
        ..Default::default()
    };
    // The second names a node that there is not.
    let request = |i: usize| ModelInferRequest {
        model_name: "score".into(),
        model_version: "1".into(),
        id: format!("request {i}"),
        inputs: vec![tensor("src", if i == 1 { 999 } else { SRC[i % 3] }), tensor("dst", DST[i % 3])],
        ..Default::default()
    };
    let requests: Vec<_> = (0..60).map(request).collect();
    let answers = grpc
        .inference(|mut of| async move {
            let mut stream = of.model_stream_infer(tokio_stream::iter(requests)).await?.into_inner();
            let mut all = Vec::new();
            while let Some(answer) = stream.message().await? {
                all.push(answer);
            }
            Ok(tonic::Response::new(all))
        })
        .unwrap();
    let expected = scores(&server);
    assert_eq!(answers.len(), 60);
    for (i, answer) in answers.iter().enumerate() {
        let told = answer.infer_response.as_ref().unwrap();
        assert_eq!(told.id, format!("request {i}"));
        if i == 1 {
            assert!(answer.error_message.contains("no source has the id 999"), "{}", answer.error_message);
        } else {
            assert_eq!(answer.error_message, "");
            assert_eq!(told.outputs[0].contents.as_ref().unwrap().fp32_contents, [expected[i % 3]], "request {i}");
        }
    }
}

#[test]
fn bodies_may_be_compressed_both_ways_and_a_small_one_that_expands_beyond_the_limit_is_refused() {
    let world = World::new(&small(), 0);
    let server = Running::with(&world, &ServeSpec::parse("[limits]\nbody_bytes = 100000", &[]).unwrap());
    let pack = |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    let headers = "Content-Encoding: gzip\r\nAccept-Encoding: gzip\r\nContent-Type: application/json\r\n";
    let (head, body) =
        server.send_bytes("POST", "/v2/models/score/infer", headers, &pack(score_request().to_string().as_bytes()));
    assert!(head.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(floats(&output(&answer, "score")["data"]), scores(&server));
    // Compressed events are read as well.
    let events = json!({ "events": world.new_events(crate::common::SEEN..crate::common::SEEN + 1) }).to_string();
    let headers = "Content-Encoding: gzip\r\nContent-Type: application/json\r\n";
    let (status, answer) = server.send_with("POST", "/v1/events", headers, &pack(events.as_bytes()));
    assert_eq!(status, 200, "{answer}");
    let bomb = pack(&vec![b' '; 50_000_000]);
    assert!(bomb.len() < 100_000);
    let (status, answer) = server.send_with("POST", "/v1/score", headers, &bomb);
    assert_eq!(status, 413, "{answer}");
    let brotli = "Content-Encoding: br\r\nContent-Type: application/json\r\n";
    assert_eq!(server.send_with("POST", "/v1/score", brotli, b"{}").0, 415);
}
