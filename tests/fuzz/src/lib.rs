//! What reads bytes of others: each function takes any, and nothing may panic but an assertion of its own.

mod data;
mod files;
mod http;
pub mod spoil;
mod world;

pub use data::{array, arrow, columns, negatives, parquet, run, set, text};
pub use files::{artifact, entry, journal, snapshot, spec};
pub use http::http;

/// The targets of libFuzzer.
pub const TARGETS: [&str; 14] = [
    "http",
    "spec",
    "artifact",
    "entry",
    "journal",
    "snapshot",
    "text",
    "parquet",
    "arrow",
    "array",
    "negatives",
    "columns",
    "set",
    "run",
];

/// Input that is right, or nearly: what mutations begin with.
pub fn examples(target: &str) -> Vec<Vec<u8>> {
    match target {
        "http" => http::examples(),
        "spec" => vec![tempograph_serving::SERVE_TEMPLATE.into()],
        "artifact" => files::artifact_examples(),
        "entry" => files::entry_examples(),
        "journal" => files::journal_examples(),
        "snapshot" => files::snapshot_examples(),
        "text" => data::text_examples(),
        "parquet" => data::parquet_examples(),
        "arrow" => data::arrow_examples(),
        "array" => data::array_examples(),
        "negatives" => data::negatives_examples(),
        "columns" => data::columns_examples(),
        "set" => data::set_examples(),
        "run" => data::run_examples(),
        other => panic!("there is no target `{other}`"),
    }
}
