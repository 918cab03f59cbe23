//! What a server answers to the bit.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use super::cases::Case;
use super::place::{Found, ITEMS, Place, USERS, bits, chance, features, newest, pair};

/// A server process, killed when it is dropped.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(place: &Place, artifact: &str) -> Server {
        let args = ["serve", artifact, "--listen", "127.0.0.1:0", "--set", "log.kind=memory"];
        let mut process = place.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.filter_map(|line| Some(line[line.find("http://")?..].split_whitespace().next()?.to_string()));
        let url = { url }.next().expect("the server says where it listens");
        Server { process, url }
    }

    fn post(&self, route: &str, body: &Value) -> Value {
        let request = ureq::post(format!("{}{route}", self.url)).content_type("application/json");
        reported(request.config().http_status_as_error(false).build().send(body.to_string()).unwrap())
    }

    fn embedding(&self, node: u64) -> Vec<f32> {
        let request = ureq::get(format!("{}/v1/embedding?node={node}&side=source", self.url));
        numbers(&reported(request.config().http_status_as_error(false).build().call().unwrap())["embedding"])
    }
}

/// What is answered, which is no refusal.
fn reported(mut response: ureq::http::Response<ureq::Body>) -> Value {
    let text = response.body_mut().read_to_string().unwrap();
    assert!(response.status().is_success(), "{}: {text}", response.status());
    serde_json::from_str(&text).unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

/// Numbers are told so that they read back as the very ones they were.
fn numbers(reported: &Value) -> Vec<f32> {
    reported.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

/// The n-th event after those that were trained on.
fn event(n: u64, with_features: bool) -> Value {
    let (src, dst) = pair(1000 + n);
    let mut reported = json!({ "src": src, "dst": dst, "time": newest() + 1 + n / 2 });
    if with_features {
        reported["features"] = json!(features(1000 + n, dst - USERS));
    }
    reported
}

/// The n-th question.
fn question(n: u64) -> Value {
    json!({ "src": chance(7 * n) % USERS, "dst": USERS + chance(7 * n + 1) % ITEMS, "time": newest() + 20 })
}

/// What is scored before events, between them, beside others that are only shown, and after them; what is ranked, and
/// an embedding.
pub fn answers(place: &Place, case: &Case) -> Found {
    let server = Server::start(place, &format!("{}/artifact", case.folder(&case.ways[0])));
    let with_features = !case.sets.contains(&"data.edge_features=none");
    let event = |n| event(n, with_features);
    let mut scores = Vec::new();
    let mut ask = |queries: std::ops::Range<u64>, during: Value| {
        let asked = json!({ "queries": queries.map(question).collect::<Vec<_>>(), "during": during });
        scores.extend(numbers(&server.post("/v1/score", &asked)["scores"]));
    };
    ask(0..12, json!([]));
    for n in 0..6 {
        server.post("/v1/events", &json!({ "events": [event(n)] }));
        ask(12 + 2 * n..14 + 2 * n, json!([]));
    }
    server.post("/v1/events", &json!({ "events": (6..13).map(event).collect::<Vec<_>>(), "granularity": "batch" }));
    // Which of them a query sees would hang on their order.
    let shown = if case.sets.contains(&"model.history=ordered") { 13..13 } else { 13..16 };
    ask(24..30, json!(shown.map(event).collect::<Vec<_>>()));
    ask(30..40, json!([]));
    assert_eq!(scores.len(), 40);
    let ranked = server.post("/v1/rank", &json!({ "src": 3, "k": 4, "time": newest() + 20 }));
    let ranked: Vec<f32> =
        ranked["ranked"].as_array().unwrap().iter().map(|one| one["score"].as_f64().unwrap() as f32).collect();
    vec![("scores", bits(&scores)), ("ranked", bits(&ranked)), ("embedding", bits(&server.embedding(5)))]
}
