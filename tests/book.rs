//! Every file and every test that a page of the book names exists, and pages stay within the book. Links are held by `links.rs`.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Component, Path, PathBuf};

/// Folders of the repository in which a file that a page names has to be.
const FOLDERS: [&str; 8] = ["docs", "experiments", "framework", "kernels", "models", "serving", "tests", "trainers"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn book() -> PathBuf {
    root().join("docs/src")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages in a folder and in all below it.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let pages = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain(folders.iter().flat_map(|folder| self::pages(folder))).collect()
}

/// The lines of a page outside its blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence && !line.starts_with("    ")
    })
}

/// Where the links of a line lead, those in code left out.
fn links(line: &str) -> Vec<String> {
    let bare: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
    let ends = bare.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(link, _)| link.to_string()).collect()
}

/// The code of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn a_page_links_no_page_outside_the_book() {
    // Within the book such a link ends in .html. A page names the file, and links its folder.
    let wrong = |page: &PathBuf| -> Vec<String> {
        let text = read(page);
        let targets = prose(&text).flat_map(links).filter(|link| !link.contains("://")).filter(|link| {
            let path = link.split('#').next().unwrap();
            path.ends_with(".md") && !plain(&page.parent().unwrap().join(path)).starts_with(book())
        });
        targets.map(|link| format!("{}: {link}", page.strip_prefix(root()).unwrap().display())).collect()
    };
    let wrong: Vec<String> = pages(&book()).iter().flat_map(wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a piece of code names a file or a folder of the repository.
fn names_a_file(code: &str) -> bool {
    let sign = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.' | '/');
    let folder = code.split('/').next().unwrap_or_default();
    code.contains('/') && code.chars().all(sign) && FOLDERS.contains(&folder)
}

/// Where files of the same name are, for a page that names one which was moved.
fn elsewhere(code: &str) -> String {
    let Some(name) = Path::new(code).file_name().filter(|_| code.ends_with(".rs")) else { return String::new() };
    let files: Vec<String> = FOLDERS
        .iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .filter(|path| path.file_name() == Some(name))
        .map(|path| path.strip_prefix(root()).unwrap().display().to_string())
        .collect();
    if files.is_empty() { String::new() } else { format!("; there is {}", files.join(", ")) }
}

/// The Rust files of a folder and of all in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

/// Whether a piece of code is named as tests are.
fn names_a_test(code: &str) -> bool {
    code.matches('_').count() > 2
        && code.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
}

#[test]
fn every_file_and_every_test_that_a_page_names_exists() {
    let mut wrong = Vec::new();
    for page in pages(&book()).into_iter().chain([root().join("ARCHITECTURE.md")]) {
        let text = read(&page);
        // What is still to be written has no file yet.
        let text = text.split("## Not here yet").next().unwrap();
        let shown = page.strip_prefix(root()).unwrap().display().to_string();
        for line in prose(text) {
            let mut source = None;
            for code in spans(line) {
                let file = root().join(code);
                if names_a_file(code) {
                    let there = file.exists();
                    source = there.then(|| file.is_file().then(|| read(&file))).flatten();
                    wrong.extend((!there).then(|| format!("{shown}: there is no {code}{}", elsewhere(code))));
                } else if names_a_test(code) && line.starts_with('|') {
                    let there = source.as_ref().is_none_or(|source| source.contains(&format!("fn {code}(")));
                    wrong.extend((!there).then(|| format!("{shown}: no test is named {code}")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
