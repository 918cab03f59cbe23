//! Tells the program which commit it is built from, where that is known.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    println!("cargo::rerun-if-changed=build.rs");
    let head = Command::new("git").args(["rev-parse", "HEAD"]).output().ok().filter(|output| output.status.success());
    if let Some(commit) = head.and_then(|output| String::from_utf8(output.stdout).ok()) {
        println!("cargo::rustc-env=TEMPOGRAPH_COMMIT={}", commit.trim());
    }
}
