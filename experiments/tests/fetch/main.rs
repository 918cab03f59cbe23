//! What `tempograph fetch` promises, against a server on this machine.

mod archive;
mod protocol;
mod server;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;
use tempograph_experiments::fetch::{self, FetchArgs, FetchError, Options, Outcome, Set};

use archive::{Entry, zip};
use server::{Answer, Server};

const ETAG: &str = "\"first\"";
const WIKI_FILES: [&str; 3] = ["tgbl-wiki_edgelist_v2.csv", "tgbl-wiki_val_ns_v2.pkl", "tgbl-wiki_test_ns_v2.pkl"];

/// A body that repeats nowhere, longer than any buffer on the way.
fn body() -> Vec<u8> {
    (0..150_000u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn options(server: &Server) -> Options {
    Options {
        base_url: Some(server.url()),
        attempts: 3,
        first_wait: Duration::from_millis(1),
        patience: Duration::from_secs(10),
        ..Options::default()
    }
}

fn fetch_wikipedia(dir: &Path, options: &Options) -> Result<Outcome, FetchError> {
    fetch::fetch(Set::find("wikipedia")?, dir, options)
}

fn fetch_wiki_archive(dir: &Path, options: &Options) -> Result<Outcome, FetchError> {
    fetch::fetch(Set::find("tgbl-wiki")?, dir, options)
}

/// A folder where an earlier fetch of wikipedia stopped after `bytes`.
fn stopped_after(bytes: &[u8], version: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("wikipedia.csv.part"), bytes).unwrap();
    fs::write(dir.path().join("wikipedia.csv.part.version"), version).unwrap();
    dir
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The file is there, whole, recorded, and nothing else is.
fn assert_fetched(dir: &Path, body: &[u8]) {
    assert_eq!(names(dir), ["SHA256SUMS", "wikipedia.csv"]);
    assert!(fs::read(dir.join("wikipedia.csv")).unwrap() == body, "the file differs from what was served");
    let sums = fs::read_to_string(dir.join("SHA256SUMS")).unwrap();
    assert!(sums.ends_with("  wikipedia.csv\n") && sums.len() == 64 + "  wikipedia.csv\n".len(), "{sums}");
}

#[test]
fn a_set_arrives_whole_and_the_second_fetch_only_verifies() {
    let server = Server::start(|request, _| Answer::file(&body(), ETAG, request));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("made/on/the/way");
    assert_eq!(fetch_wikipedia(&out, &options(&server)).unwrap(), Outcome::Downloaded);
    assert_fetched(&out, &body());
    assert_eq!(fetch_wikipedia(&out, &options(&server)).unwrap(), Outcome::AlreadyThere);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/wikipedia.csv");
    assert_eq!(requests[0].header("range"), None);
}

#[test]
fn a_download_goes_on_from_where_it_stopped() {
    let body = body();
    let half = body.len() / 2;
    let dir = stopped_after(&body[..half], ETAG);
    let served = body.clone();
    let server = Server::start(move |request, _| Answer::file(&served, ETAG, request));
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), &body);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("range"), Some(format!("bytes={half}-").as_str()));
    assert_eq!(requests[0].header("if-range"), Some(ETAG));
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_first_byte() {
    let body = body();
    let dir = stopped_after(&body[..body.len() / 2], ETAG);
    let served = body.clone();
    let server = Server::start(move |_, _| Answer::new(200, served.clone()).with("ETag", ETAG));
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), &body);
    assert!(server.requests()[0].range_start().is_some());
}

#[test]
fn a_cut_connection_is_taken_up_again_by_itself() {
    let body = body();
    let served = body.clone();
    // More cuts than fruitless attempts are allowed: each of them gains ground.
    let server = Server::start(move |request, number| {
        let answer = Answer::file(&served, ETAG, request);
        if number < 5 { answer.cut(100_000) } else { answer }
    });
    let dir = tempfile::tempdir().unwrap();
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), &body);
    let starts: Vec<_> = server.requests().iter().map(|request| request.range_start().unwrap_or(0)).collect();
    assert_eq!(starts, [0, 100_000, 200_000, 300_000, 400_000, 500_000]);
}

#[test]
fn a_server_that_always_starts_over_and_always_breaks_off_is_given_up() {
    let server = Server::start(|_, _| Answer::new(200, body()).cut(1000));
    let dir = tempfile::tempdir().unwrap();
    let error = fetch_wikipedia(dir.path(), &options(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Truncated { received: 1000, expected: Some(600_000), .. }), "{error}");
    assert_eq!(server.requests().len(), 3);
    assert!(!dir.path().join("wikipedia.csv").exists());
}

#[test]
fn a_changed_file_is_fetched_anew() {
    let new = body();
    let dir = stopped_after(b"the beginning of an older version", "\"older\"");
    let served = new.clone();
    let server = Server::start(move |request, _| Answer::file(&served, ETAG, request));
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), &new);
}

#[test]
fn a_changed_file_is_noticed_even_if_the_server_knows_no_if_range() {
    let new = body();
    let dir = stopped_after(b"the beginning of an older version", "\"older\"");
    let served = new.clone();
    let server = Server::start(move |request, _| match request.range_start() {
        Some(start) => Answer::new(206, &served[start..])
            .with("Content-Range", format!("bytes {start}-{}/{}", served.len() - 1, served.len()))
            .with("ETag", ETAG),
        None => Answer::new(200, served.clone()).with("ETag", ETAG),
    });
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), &new);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_part_longer_than_the_file_is_dropped() {
    let server = Server::start(|request, _| Answer::file(b"short", ETAG, request));
    let dir = stopped_after(b"longer than the file", ETAG);
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), b"short");
}

#[test]
fn bytes_of_an_unknown_version_are_never_built_upon() {
    let server = Server::start(|_, number| {
        let answer = Answer::new(200, "0123456789");
        if number == 0 { answer.cut(4) } else { answer }
    });
    let dir = tempfile::tempdir().unwrap();
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), b"0123456789");
    assert_eq!(server.requests()[1].header("range"), None);
}

#[test]
fn a_missing_file_is_an_error_at_once() {
    let server = Server::start(|_, _| Answer::new(404, "nothing here"));
    let dir = tempfile::tempdir().unwrap();
    let error = fetch_wikipedia(dir.path(), &options(&server)).unwrap_err();
    assert!(matches!(&error, FetchError::NotFound { code: 404, url } if url.ends_with("/wikipedia.csv")), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_request_to_a_busy_server_is_retried() {
    let server = Server::start(
        |request, number| if number < 2 { Answer::new(503, "") } else { Answer::file(b"events", ETAG, request) },
    );
    let dir = tempfile::tempdir().unwrap();
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), b"events");
}

#[test]
fn a_request_to_a_silent_server_times_out_and_is_retried() {
    let server = Server::start(|request, number| {
        let answer = Answer::file(b"events", ETAG, request);
        if number == 0 { answer.cut(3).then(|| std::thread::sleep(Duration::from_millis(600))) } else { answer }
    });
    let dir = tempfile::tempdir().unwrap();
    fetch_wikipedia(dir.path(), &Options { patience: Duration::from_millis(150), attempts: 10, ..options(&server) })
        .unwrap();
    assert_fetched(dir.path(), b"events");
    assert_eq!(server.requests().last().unwrap().range_start(), Some(3));
}

#[test]
fn no_network_is_named_as_such() {
    // The port was free a moment ago and nobody listens on it now.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let base_url = Some(format!("http://127.0.0.1:{port}"));
    let options = Options { base_url, attempts: 2, first_wait: Duration::from_millis(1), ..Options::default() };
    let error = fetch_wikipedia(dir.path(), &options).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&format!("cannot reach http://127.0.0.1:{port}/wikipedia.csv")), "{error}");
}

#[test]
fn a_file_that_changed_on_disk_is_refused_with_both_checksums() {
    let server = Server::start(|request, _| Answer::file(b"abc", ETAG, request));
    let dir = tempfile::tempdir().unwrap();
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    fs::write(dir.path().join("wikipedia.csv"), "").unwrap();
    let error = fetch_wikipedia(dir.path(), &options(&server)).unwrap_err().to_string();
    // The well-known checksums of nothing and of "abc".
    assert!(error.contains("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), "{error}");
    assert!(error.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), "{error}");
    assert_eq!(server.requests().len(), 1);
    fetch_wikipedia(dir.path(), &Options { force: true, ..options(&server) }).unwrap();
    assert_fetched(dir.path(), b"abc");
}

#[test]
fn a_file_that_changed_on_the_server_never_takes_the_name_unless_forced() {
    let server =
        Server::start(|request, number| Answer::file(format!("version {}", number.min(1)).as_bytes(), ETAG, request));
    let dir = tempfile::tempdir().unwrap();
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    fs::remove_file(dir.path().join("wikipedia.csv")).unwrap();
    let error = fetch_wikipedia(dir.path(), &options(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    assert_eq!(names(dir.path()), ["SHA256SUMS"]);
    fetch_wikipedia(dir.path(), &Options { force: true, ..options(&server) }).unwrap();
    assert_fetched(dir.path(), b"version 1");
}

#[test]
fn offline_verifies_what_is_there_and_asks_nobody() {
    let server = Server::start(|request, _| Answer::file(b"events", ETAG, request));
    let dir = tempfile::tempdir().unwrap();
    let offline = Options { offline: true, ..options(&server) };
    assert!(matches!(fetch_wikipedia(dir.path(), &offline), Err(FetchError::Offline { name: "wikipedia", .. })));
    fs::write(dir.path().join("wikipedia.csv"), "brought by hand").unwrap();
    assert_eq!(fetch_wikipedia(dir.path(), &offline).unwrap(), Outcome::AlreadyThere);
    assert_fetched(dir.path(), b"brought by hand");
    assert!(server.requests().is_empty());
}

#[test]
fn a_stopped_fetch_keeps_its_part_and_the_next_goes_on() {
    let body = body();
    let served = body.clone();
    let dir = tempfile::tempdir().unwrap();
    let stop = Options::default().stop;
    let press = std::sync::Arc::clone(&stop);
    let server = Server::start(move |request, number| {
        let answer = Answer::file(&served, ETAG, request);
        let press = std::sync::Arc::clone(&press);
        if number == 0 { answer.cut(300_000).then(move || press.store(true, Ordering::Relaxed)) } else { answer }
    });
    let error = fetch_wikipedia(dir.path(), &Options { stop, ..options(&server) }).unwrap_err();
    let FetchError::Interrupted { part, kept } = error else { panic!("{error}") };
    assert_eq!(fs::metadata(part).unwrap().len(), kept);
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), &body);
    assert_eq!(server.requests().last().unwrap().range_start().unwrap_or(0) as u64, kept);
}

#[test]
fn two_fetches_do_not_write_one_part() {
    let server = Server::start(|request, _| Answer::file(b"events", ETAG, request));
    let dir = stopped_after(b"ev", ETAG);
    let held = fs::File::open(dir.path().join("wikipedia.csv.part")).unwrap();
    held.lock().unwrap();
    let error = fetch_wikipedia(dir.path(), &options(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }), "{error}");
    drop(held);
    fetch_wikipedia(dir.path(), &options(&server)).unwrap();
    assert_fetched(dir.path(), b"events");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_as_such() {
    let server = Server::start(|request, _| Answer::file(&body(), ETAG, request));
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("wikipedia.csv.part")).unwrap();
    let error = fetch_wikipedia(dir.path(), &options(&server)).unwrap_err();
    assert!(matches!(&error, FetchError::DiskFull { path, .. } if path.ends_with("wikipedia.csv.part")), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_body_in_another_encoding_is_refused() {
    let server = Server::start(|request, _| Answer::file(b"events", ETAG, request).with("Content-Encoding", "gzip"));
    let dir = tempfile::tempdir().unwrap();
    let error = fetch_wikipedia(dir.path(), &options(&server)).unwrap_err().to_string();
    assert!(error.contains("`gzip`"), "{error}");
}

#[test]
fn an_archive_is_unpacked_and_each_file_recorded() {
    let entries = WIKI_FILES.map(|name| Entry::honest(name, name.as_bytes()));
    let archive = zip(&entries);
    let server = Server::start(move |request, _| Answer::file(&archive, ETAG, request));
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(fetch_wiki_archive(dir.path(), &options(&server)).unwrap(), Outcome::Downloaded);
    assert_eq!(server.requests()[0].path, "/tgbl-wiki-v2.zip");
    let mut expected = WIKI_FILES.map(str::to_owned).to_vec();
    expected.push("SHA256SUMS".to_owned());
    expected.sort();
    assert_eq!(names(dir.path()), expected);
    for name in WIKI_FILES {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), name);
    }
    assert_eq!(fs::read_to_string(dir.path().join("SHA256SUMS")).unwrap().lines().count(), WIKI_FILES.len());
    assert_eq!(fetch_wiki_archive(dir.path(), &options(&server)).unwrap(), Outcome::AlreadyThere);
    assert_eq!(server.requests().len(), 1);
}

/// Serves an archive of the set's files and `extra`, and returns the error and what the fetch left in its folder.
fn refusal_of(extra: Entry) -> (FetchError, Vec<String>, PathBuf) {
    let mut entries = WIKI_FILES.map(|name| Entry::honest(name, b"events")).into_iter().collect::<Vec<_>>();
    entries.push(extra);
    let archive = zip(&entries);
    let server = Server::start(move |request, _| Answer::file(&archive, ETAG, request));
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("set");
    let error = fetch_wiki_archive(&dir, &options(&server)).unwrap_err();
    assert_eq!(names(root.path()), ["set"], "something was written outside the folder");
    (error, names(&dir), dir)
}

#[test]
fn an_archive_that_leads_out_of_the_folder_is_refused_before_anything_is_unpacked() {
    for name in ["../evil.csv", "a/../../evil.csv", "/tmp/tempograph-evil.csv", "..\\evil.csv"] {
        let (error, left, _) = refusal_of(Entry::honest(name, b"evil"));
        assert!(matches!(&error, FetchError::UnsafeEntry { entry, .. } if entry == name), "{error}");
        assert!(left.is_empty(), "{name} left {left:?}");
    }
}

#[test]
fn an_entry_of_another_size_than_declared_is_refused() {
    for declared in [5, 7] {
        let (error, left, _) = refusal_of(Entry { name: "extra.csv", body: b"events", declared });
        assert!(matches!(&error, FetchError::EntrySize { entry, .. } if entry == "extra.csv"), "{declared}: {error}");
        assert!(error.to_string().contains(&format!("declares {declared} bytes but holds")), "{error}");
        assert!(!left.iter().any(|name| name.starts_with("extra.csv")), "{left:?}");
    }
}

#[test]
fn an_archive_without_the_set_s_files_is_refused_naming_them() {
    let archive = zip(&[Entry::honest("other.csv", b"events")]);
    let server = Server::start(move |request, _| Answer::file(&archive, ETAG, request));
    let dir = tempfile::tempdir().unwrap();
    let error = fetch_wiki_archive(dir.path(), &options(&server)).unwrap_err().to_string();
    assert!(error.contains("other.csv") && error.contains(WIKI_FILES[0]), "{error}");
}

#[test]
fn a_broken_archive_is_not_kept() {
    let server = Server::start(|request, number| {
        let entries = WIKI_FILES.map(|name| Entry::honest(name, b"events"));
        let body = if number == 0 { b"no archive at all".to_vec() } else { zip(&entries) };
        Answer::file(&body, ETAG, request)
    });
    let dir = tempfile::tempdir().unwrap();
    let error = fetch_wiki_archive(dir.path(), &options(&server)).unwrap_err();
    assert!(matches!(error, FetchError::Archive { .. }), "{error}");
    assert!(names(dir.path()).is_empty());
    fetch_wiki_archive(dir.path(), &options(&server)).unwrap();
}

#[test]
fn an_archive_whose_unpacking_was_stopped_is_not_downloaded_again() {
    let server = Server::start(|_, _| Answer::new(404, ""));
    let dir = tempfile::tempdir().unwrap();
    let archive = zip(&WIKI_FILES.map(|name| Entry::honest(name, b"events")));
    fs::write(dir.path().join("tgbl-wiki-v2.zip"), archive).unwrap();
    let stopped = options(&server);
    stopped.stop.store(true, Ordering::Relaxed);
    let error = fetch_wiki_archive(dir.path(), &stopped).unwrap_err();
    assert!(matches!(error, FetchError::Interrupted { .. }), "{error}");
    fetch_wiki_archive(dir.path(), &options(&server)).unwrap();
    assert!(server.requests().is_empty());
}

#[test]
fn an_unknown_set_is_answered_with_the_nearest_and_all() {
    let args = FetchArgs { name: Some("wikipdia".to_owned()), ..FetchArgs::default() };
    let error = fetch::run(&args).unwrap_err().to_string();
    assert!(error.contains("`wikipdia`") && error.contains("did you mean `wikipedia`?"), "{error}");
    for set in fetch::SETS {
        assert!(error.contains(set.name), "{error}");
    }
}

#[test]
fn a_base_url_that_is_no_address_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { base_url: Some("mirror.example".to_owned()), ..Options::default() };
    let error = fetch_wikipedia(dir.path(), &options).unwrap_err().to_string();
    assert!(error.contains("`mirror.example`"), "{error}");
}
