//! What reads bytes of others: each function takes any, and nothing may panic but an assertion of its own.

mod files;
mod http;
mod world;

pub use files::{artifact, entry, journal, snapshot, spec};
pub use http::http;

/// Input that is right, or nearly: what mutations begin with.
pub fn examples(target: &str) -> Vec<Vec<u8>> {
    match target {
        "http" => http::examples(),
        "spec" => vec![tempograph_serving::SERVE_TEMPLATE.into()],
        "artifact" => files::artifact_examples(),
        "entry" => files::entry_examples(),
        "journal" => files::journal_examples(),
        "snapshot" => files::snapshot_examples(),
        other => panic!("there is no target `{other}`"),
    }
}
