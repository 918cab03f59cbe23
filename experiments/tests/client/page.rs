//! The server's page, opened in Chromium.

use serde_json::{Value, json};

use crate::browser::{Browser, chromium};
use crate::common::Server;

/// The largest whole number that a double holds together with its neighbours is 2^53. This one is read as its neighbour.
const BEYOND_DOUBLES: u64 = 9_007_199_254_740_993;

fn open(server: &Server, hash: &str) -> Option<Browser> {
    let Some(program) = chromium() else {
        println!("skipped: there is no Chromium to open the page in");
        return None;
    };
    Some(Browser::open(program, &format!("{}/{hash}", server.url)))
}

/// What a route answers to the page.
fn fetched(browser: &mut Browser, path: &str, body: Option<Value>) -> Value {
    let body = body.map_or("undefined".into(), |body| json!(body.to_string()).to_string());
    let text = browser.value(&format!("request('{path}', {body})"));
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

fn has_text(id: &str, text: &str) -> String {
    format!("document.getElementById('{id}').textContent.includes({})", json!(text))
}

fn press(browser: &mut Browser, key: &str, on: &str) {
    browser.value(&format!("{on}.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))"));
}

/// Fills the form of an event and presses its button.
fn submit(browser: &mut Browser, src: u64, dst: u64, id: &str, sure: bool) {
    browser.value(&format!(
        "(() => {{ document.getElementById('submit-section').open = true; const form = document.getElementById('event');
         form.elements.src.value = '{src}'; form.elements.dst.value = '{dst}'; form.elements.id.value = '{id}';
         form.elements.sure.checked = {sure}; form.requestSubmit(); return true; }})()"
    ));
}

#[test]
fn the_page_shows_something_at_first_sight_and_only_queries() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of_a_small_model(folder.path());
    let Some(mut browser) = open(&server, "") else { return };
    browser.wait_for(&has_text("state", "ready"));
    browser.wait_for(&has_text("seen", "900 events applied"));
    browser.wait_for("document.getElementById('model').textContent.startsWith('tgn-')");
    browser.wait_for(&has_text("problems", "Nothing that this page can see."));
    // A source is queried and a pair explained although nobody has typed anything.
    browser.wait_for("document.querySelectorAll('#ranked tr').length > 5");
    browser.wait_for("document.querySelectorAll('#neighbours tr').length > 1");
    browser.wait_for(&has_text("log", "events on disk900"));
    browser.wait_for(&has_text("bytes", "log_bytes"));
    browser.wait_for(&has_text("tenants", "(no name)"));
    // The page's own queries are in the charts, and each chart has a line or says why not.
    browser.wait_for("samples.some(sample => sample.values.throughput[1] > 0 && sample.values.latency[0] > 0)");
    browser.wait_for(
        "charts.every(chart => chart.nothing || samples.some(sample => sample.values[chart.id].some(value => value != null)))",
    );
    assert_eq!(fetched(&mut browser, "/v1/status", None)["accepted"], 0, "looking submits no event");
}

#[test]
fn the_page_submits_an_event_once_and_only_on_confirmation() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of_a_small_model(folder.path());
    let Some(mut browser) = open(&server, "") else { return };
    browser.wait_for(&has_text("state", "ready"));
    assert_ne!(browser.value("document.getElementById('event').elements.id.value"), "", "an id is proposed");
    submit(&mut browser, 1, 1, "seen-once", false);
    assert_eq!(fetched(&mut browser, "/v1/status", None)["accepted"], 0, "the box is not ticked");
    submit(&mut browser, 1, 1, "seen-once", true);
    browser.wait_for(&has_text("event-said", "Event 900 is applied."));
    browser.wait_for("document.querySelectorAll('#moved tr').length > 1");
    submit(&mut browser, 1, 1, "seen-once", true);
    browser.wait_for(&has_text("event-said", "An event with this id was applied before."));
    let status = fetched(&mut browser, "/v1/status", None);
    assert_eq!((&status["accepted"], &status["duplicates"]), (&json!(1), &json!(1)));
}

#[test]
fn ids_beyond_what_a_double_holds_keep_every_digit_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of_a_small_model(folder.path());
    let Some(mut browser) = open(&server, "") else { return };
    browser.wait_for(&has_text("state", "ready"));
    // Its neighbour is a node too, so a changed digit would show another node's answer.
    submit(&mut browser, BEYOND_DOUBLES - 1, u64::MAX, "even", true);
    browser.wait_for(&has_text("event-said", "Event 900 is applied."));
    submit(&mut browser, BEYOND_DOUBLES, u64::MAX - 1, "odd", true);
    browser.wait_for(&has_text("event-said", "Event 901 is applied."));
    browser.value(&format!("location.hash = 'src={BEYOND_DOUBLES}&dst={}'; 0", u64::MAX - 1));
    let explained = format!("{BEYOND_DOUBLES} to {}: score", u64::MAX - 1);
    browser.wait_for(&has_text("explain-said", &explained));
    browser.wait_for(&has_text("neighbours", &BEYOND_DOUBLES.to_string()));
    browser.wait_for(&has_text("neighbours", &(u64::MAX - 1).to_string()));
    assert_eq!(browser.value(&has_text("neighbours", &(BEYOND_DOUBLES - 1).to_string())), false);
    browser.value("location.hash = 'src=18446744073709551616'; 0");
    browser.wait_for(&has_text("explore-said", "no source has the id `18446744073709551616`"));
}

#[test]
fn the_page_says_first_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::of_a_small_model(folder.path());
    let Some(mut browser) = open(&server, "#src=123456") else { return };
    browser.wait_for(&has_text("explore-said", "no source has the id 123456"));
    browser.wait_for("samples.some(sample => sample.values.failed[0] > 0)");
    browser.wait_for(&has_text("errors", "/v1/rank404"));
    server.end();
    browser.wait_for(&has_text("state", "no answer"));
    browser.wait_for(&has_text("problems", "The server cannot be reached."));
    assert_eq!(browser.value("document.title"), "● Tempograph");
}

#[test]
fn the_page_warns_before_a_budget_is_used_up_and_before_a_certificate_expires() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of_a_small_model(folder.path());
    let Some(mut browser) = open(&server, "") else { return };
    browser.wait_for(&has_text("state", "ready"));
    let found = |browser: &mut Browser, metrics: &str| {
        let metrics = json!(metrics).to_string();
        let call = "findProblems({ at: 1e12, ready: { status: 'ready' }, status: null, errors: [],";
        browser.value(&format!("{call} metrics: readMetrics({metrics}) }})"))
    };
    let tomorrow = format!("tempograph_certificate_not_after_seconds {}", 1_000_000_000 + 86_400);
    for (metrics, kind, says) in [
        ("tempograph_memory_bytes 8.5e9\ntempograph_budget_memory_bytes 1e10", "warn", "8.5 GB of 10.0 GB of memory"),
        ("tempograph_memory_bytes 1e10\ntempograph_budget_memory_bytes 1e10", "bad", "Events are refused."),
        ("tempograph_nodes 999\ntempograph_budget_nodes 1000", "warn", "999 of 1,000 of nodes"),
        ("tempograph_disk_free_bytes 5e8\ntempograph_budget_disk_free_bytes 2e8", "warn", "500 MB free"),
        ("tempograph_disk_free_bytes 1e8\ntempograph_budget_disk_free_bytes 2e8", "bad", "Events are refused."),
        (tomorrow.as_str(), "warn", "The certificate expires in 24 h."),
        ("tempograph_certificate_not_after_seconds 5", "bad", "The certificate has expired."),
    ] {
        let problems = found(&mut browser, metrics);
        assert_eq!(problems.as_array().unwrap().len(), 1, "{metrics}: {problems}");
        assert_eq!(problems[0][0], kind, "{metrics}: {problems}");
        assert!(problems[0][1].as_str().unwrap().contains(says), "{metrics}: {problems}");
    }
    for fine in ["tempograph_memory_bytes 9e9\ntempograph_budget_memory_bytes 0", "tempograph_nodes 5", ""] {
        assert_eq!(found(&mut browser, fine), json!([]), "{fine}");
    }
}

#[test]
fn the_page_is_used_by_keyboard_and_has_a_dark_theme() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of_a_small_model(folder.path());
    let Some(mut browser) = open(&server, "") else { return };
    let (body, chart) = ("document.body", "document.getElementById('latency')");
    browser.wait_for("samples.length > 2");
    let back = "getComputedStyle(document.body).backgroundColor";
    press(&mut browser, "t", body);
    let light = browser.value(back);
    press(&mut browser, "t", body);
    assert_eq!(browser.value("document.documentElement.dataset.theme"), "dark");
    assert_ne!(browser.value(back), light);
    press(&mut browser, "3", body);
    assert_eq!(browser.value("document.querySelector('[data-range=\"3600\"]').getAttribute('aria-pressed')"), "true");
    press(&mut browser, "ArrowLeft", chart);
    assert_eq!(browser.value("document.getElementById('lag-key').textContent.includes(' at ')"), true);
    press(&mut browser, "Escape", chart);
    assert_eq!(browser.value("document.getElementById('lag-key').textContent.includes(' at ')"), false);
    press(&mut browser, "/", body);
    assert_eq!(browser.value("document.activeElement.name"), "src");
    press(&mut browser, "p", "document.activeElement");
    assert_eq!(browser.value("paused"), false, "keys do not act while somebody types");
    press(&mut browser, "?", body);
    assert_eq!(browser.value("document.getElementById('keys').open"), true);
}
